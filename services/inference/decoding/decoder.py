"""One engine step after another, in one thread, without I/O.

The decoder knows token ids and bytes, never prompts or messages. Commands
change it between steps; `step` computes one batch and returns what came of
it. A failure of the network ends the requests that were in the batch and
nothing else.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any, Protocol

from services.inference.decoding.drawing import drawer_of
from services.inference.decoding.paths import Paths
from services.inference.events import Event, FinishReason, Load, Reader, StepResult
from services.inference.kernels import Sparsity, StepBatch
from services.inference.limits import Limits
from services.inference.request import Plan, Update
from services.inference.sampling.sampler import Drawn, Row
from services.inference.scheduling.budget import Work
from services.inference.scheduling.pages import PageAllocator
from services.inference.scheduling.scheduler import Scheduler
from services.inference.sequences.sequence import Sequence
from thermesh.clock import Clock
from thermesh.errors import DeadlineExceeded, Internal, MeshError

log = logging.getLogger(__name__)

DEFAULT_REPORT_EVERY_TOKENS = 16


class Network(Protocol):
    """What the decoder needs of a model's network."""

    @property
    def light(self) -> Sparsity | None:
        """What a sequence on the light path reads; None: there is no such path."""
        ...

    def use_threads(self, count: int) -> None:
        """Compute with `count` cores when called from this thread."""

    def new_cache(self, pages: int) -> Any:
        """Return a KV cache of `pages` pages."""

    def step(self, batch: StepBatch, cache: Any) -> Any:
        """Return [rows, vocabulary] float32 logits after each span's last `logits` tokens,
        in an array of the network's own that takes slices of rows.
        """


class Tokenizer(Protocol):
    """What the decoder needs of a model's tokenizer."""

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids that end a turn."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that a token stands for."""
        ...


class Decoder:
    """All sequences of one model. Not thread-safe: it belongs to one thread."""

    def __init__(
        self,
        network: Network,
        tokenizer: Tokenizer,
        limits: Limits,
        kv_pages: int,
        clock: Clock,
    ) -> None:
        pages = PageAllocator(kv_pages, most_idle=round(limits.prefix_share * kv_pages))
        self.scheduler = Scheduler(limits, pages)
        self.report_every_tokens = DEFAULT_REPORT_EVERY_TOKENS
        self._network = network
        self._draw_tokens = drawer_of(network)
        self._paths = Paths(network)
        self._goes_ahead = not limits.self_speculation
        self._tokenizer = tokenizer
        self._cache = network.new_cache(kv_pages)
        self._clock = clock
        self._by_reader: dict[Reader, Sequence] = {}
        self._by_request_id: dict[str, Sequence] = {}
        self._result = StepResult()
        self._step_time_us = 0

    def use_threads(self, count: int) -> None:
        """Let steps run from this thread use `count` cores."""
        self._network.use_threads(count)

    # Commands: between two steps.

    def submit(self, sequence: Sequence) -> None:
        """Take a new sequence in; where the queue is full it ends at once."""
        self._by_reader[sequence.reader] = sequence
        self._by_request_id[sequence.request.context.request_id] = sequence
        try:
            self.scheduler.submit(sequence)
        except MeshError as error:
            self._end(sequence, FinishReason.ERROR, error)

    def plan(self, reader: Reader, plan: Plan) -> None:
        """Let a sequence follow `plan`."""
        sequence = self._by_reader.get(reader)
        if sequence is not None:
            self._emit(sequence, sequence.parameters.apply_plan(plan, sequence.output_count))
            self._paths.follow(sequence, plan.compute_path)
            sequence.stop_waiting_for_plan()

    def forgo_plan(self, reader: Reader) -> None:
        """Let a sequence go on without a plan."""
        sequence = self._by_reader.get(reader)
        if sequence is not None:
            sequence.stop_waiting_for_plan()

    def update(self, reader: Reader, update: Update) -> None:
        """Change the parameters of a sequence."""
        sequence = self._by_reader.get(reader)
        if sequence is not None:
            self._change(sequence, update)

    def revise(self, request_id: str, update: Update) -> None:
        """Change the parameters of the newest sequence named `request_id`, if any."""
        sequence = self._by_request_id.get(request_id)
        if sequence is not None:
            self._change(sequence, update)

    def credit(self, reader: Reader, tokens: int) -> None:
        """Let `tokens` more be sent to a reader."""
        sequence = self._by_reader.get(reader)
        if sequence is not None:
            sequence.add_credit(tokens)

    def cancel(self, reader: Reader, kept: int | None = None) -> None:
        """End a sequence whose client said so or went away, and kept so many tokens
        (None: all).
        """
        sequence = self._by_reader.get(reader)
        if sequence is not None:
            self._end(sequence, FinishReason.CANCELLED, kept=kept)

    # Steps.

    def step(self) -> StepResult:
        """Compute one step; return it with what the commands before brought."""
        started = self._clock.monotonic()
        self._expire(started)
        work = self._paths.foreseen(self.scheduler.schedule(started), self._cache)
        if work:
            self._compute(work, started)
        drawn_count = self._draw(started)
        if work or drawn_count:
            seconds = self._clock.monotonic() - started
            self._step_time_us = round(seconds * 1e6)
            self.scheduler.learn(work, seconds)
        self._result.worked = bool(work or drawn_count)
        return self.take_result()

    def _draw(self, started: float) -> int:
        """Draw a token of each sequence that can, and again of those whose drawn
        token a draft had foreseen; return how many.
        """
        count = 0
        while drawable := [
            sequence
            for sequence in self.scheduler.running
            if sequence.logits is not None and sequence.may_draw(started)
        ]:
            drawn = self._sample(drawable)
            self._step_time_us = round((self._clock.monotonic() - started) * 1e6)
            for sequence, token in drawn:
                self._record(sequence, token)
            count += len(drawable)
        return count

    def take_result(self) -> StepResult:
        """Return what happened since the last result."""
        result, self._result = self._result, StepResult()
        return result

    def fail_all(self) -> None:
        """End every sequence with an error: the step itself is broken."""
        for sequence in self.scheduler.sequences():
            self._end(sequence, FinishReason.ERROR, _internal())

    def load(self) -> Load:
        """Return how busy the decoder is; `open_streams` is not its business."""
        scheduler = self.scheduler
        return Load(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting),
            kv_pages_used=scheduler.pages.used_count,
            kv_pages_total=scheduler.pages.total,
            step_time_us=self._step_time_us,
            kv_pages_cached=scheduler.pages.cached_count,
            kv_pages_evicted=scheduler.pages.evicted_count,
            prefix_tokens_queried=scheduler.prefix.queried_count,
            prefix_tokens_hit=scheduler.prefix.hit_count,
        )

    def _expire(self, now: float) -> None:
        for sequence in self.scheduler.expired(now):
            error = DeadlineExceeded("the deadline of the request passed")
            self._end(sequence, FinishReason.DEADLINE, error)

    def _compute(self, work: list[Work], now: float) -> None:
        for item in work:
            item.sequence.account.begin(now)
        try:
            for source, target in self.scheduler.take_copies():
                self._cache.copy_page(source, target)
            computed = self._paths.computed(work, self._cache)
        except Exception:
            log.exception("a step of %d sequences failed", len(work))
            for item in work:
                self._end(item.sequence, FinishReason.ERROR, _internal())
            return
        for item, logits in computed:
            self.scheduler.complete(item)
            if item.sequence.remaining_count == 0:
                item.sequence.accept_logits(logits, item.draft, now)

    def _sample(self, drawable: list[Sequence]) -> list[tuple[Sequence, Drawn | None]]:
        ready: list[Sequence] = []
        rows: list[Row] = []
        for sequence in drawable:
            try:
                rows.append(sequence.row())
                ready.append(sequence)
            except MeshError as error:
                self._end(sequence, FinishReason.ERROR, error)
        if not ready:
            return []
        logits = [sequence.logits for sequence in ready]
        following = ready if self._goes_ahead else ()
        drawn = self._draw_tokens(self._cache, logits, rows, following)
        return list(zip(ready, drawn, strict=True))

    def _record(self, sequence: Sequence, drawn: Drawn | None) -> None:
        if drawn is None:
            log.error("the model's output is not a distribution")
            self.scheduler.distrust(sequence)
            self._end(sequence, FinishReason.ERROR, _internal())
            return
        guess = sequence.guess
        token, reason = sequence.record(
            drawn,
            self._tokenizer.token_bytes(drawn.token_id),
            is_end=drawn.token_id in self._tokenizer.end_ids,
            step_time_us=self._step_time_us,
            now=self._clock.monotonic(),
            candidates=tuple((best, self._piece(best), score) for best, score in drawn.candidates),
        )
        self._emit(sequence, token)
        if guess is not None:
            self.scheduler.judge(sequence, drawn.temperature, guess == drawn.token_id)
        if reason is not None:
            self._end(sequence, reason)
        elif telemetry := sequence.telemetry(self.report_every_tokens):
            self._result.telemetry.append(telemetry)

    def _piece(self, token_id: int) -> str:
        return self._tokenizer.token_bytes(token_id).decode("utf-8", errors="replace")

    def _change(self, sequence: Sequence, update: Update) -> None:
        answer = sequence.parameters.apply(update, sequence.output_count)
        if answer is not None:
            self._emit(sequence, answer)

    def _emit(self, sequence: Sequence, event: Event) -> None:
        self._result.events.append((sequence.reader, event))

    def _end(
        self,
        sequence: Sequence,
        reason: FinishReason,
        error: MeshError | None = None,
        kept: int | None = None,
    ) -> None:
        reader, request_id = sequence.reader, sequence.request.context.request_id
        del self._by_reader[reader]
        if self._by_request_id.get(request_id) is sequence:
            del self._by_request_id[request_id]
        self.scheduler.discard(sequence)
        kept = sequence.output_count if kept is None else kept
        self._result.events.append((reader, sequence.ended(reason, error).keeping(kept)))
        self._result.outcomes.append((reader, sequence.outcome(reason).keeping(kept)))


def _internal() -> Internal:
    """An Internal error whose id is in the log, where the cause is."""
    error_id = uuid.uuid4().hex[:12]
    log.error("a request ends with error id %s", error_id)
    return Internal(f"the engine failed, logged under id {error_id}")
