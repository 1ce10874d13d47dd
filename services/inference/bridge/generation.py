"""One request through the engine behind: waits for its plan, decodes, keeps account."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import replace

from services.inference.bridge.account import Account
from services.inference.bridge.dialect import middle
from services.inference.bridge.upstream import Chunk, Completion, Upstream
from services.inference.events import (
    Applied,
    Ended,
    Event,
    FinishReason,
    Outcome,
    Rejected,
    Token,
)
from services.inference.request import Plan, Source, Start, Update
from services.inference.sampling.settings import Sampling
from thermesh.clock import Clock
from thermesh.errors import FailedPrecondition, Internal, InvalidArgument, MeshError

log = logging.getLogger(__name__)

MAX_WAITING_TOKENS = 1024
"""Tokens that may wait for the client; then the engine behind is not read from."""
MAX_CREDIT = 65_536
_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_FIXED = "the engine behind cannot change a request that it decodes"


class Generation:
    """One request of a client: `plan`, `update`, `credit`, `cancel`; `take` gives events.

    `plan_grace_seconds` bounds the wait for a plan, `deadline` (monotonic, None:
    none) everything. Needs a running event loop; `close` it.
    """

    def __init__(
        self,
        start: Start,
        sampling: Sampling,
        *,
        upstream: Upstream,
        model: str,
        clock: Clock,
        plan_grace_seconds: float,
        deadline: float | None,
    ) -> None:
        self._start = start
        self._wanted = sampling
        self._used = upstream.dialect.usable(sampling)
        self._upstream = upstream
        self._model = model
        self._clock = clock
        self._grace = plan_grace_seconds if start.expects_plan else 0.0
        self._deadline = deadline
        self._seed = start.seed
        self._budget = start.max_tokens
        self._plan: Plan | None = None
        self._revision = 0
        self._update_id = 0
        self._is_decoding = False
        self._taken_count = 0
        self._kept: int | None = None
        self._account = Account(clock.monotonic())
        self._credit = start.initial_credit or None
        self._events: deque[Event] = deque()
        self._ready = asyncio.Event()
        self._taken = asyncio.Event()
        self._planned = asyncio.Event()
        self._failure: MeshError | None = None
        self.request_id = start.context.request_id
        self.outcome: Outcome | None = None
        self._decoding = asyncio.create_task(self._decode(), name="bridge")
        self._decoding.add_done_callback(self._end_if_never_begun)

    # What the client says; the same words as a stream of our own engine.

    def plan(self, plan: Plan) -> None:
        """Decode by `plan`; one that comes after decoding began is rejected."""
        if self._planned.is_set():
            raise FailedPrecondition("a plan was sent before; change it by update")
        plan.validate("plan", vocabulary_size=2**31)
        self._planned.set()
        if self._is_decoding:
            self._push(Rejected(0, "plan", f"it came late: {_FIXED}"))
            return
        self._plan, self._seed = plan, plan.seed
        budgets = [budget for budget in (self._start.max_tokens, plan.token_budget) if budget]
        self._budget = min(budgets, default=0)
        self._apply(plan.sampling, Source.PLAN, 0)

    def refuse_plan(self, error: InvalidArgument) -> None:
        """Answer a plan that cannot be read, and go on without one."""
        self._push(Rejected(0, error.field, error.message))
        self._planned.set()

    def update(self, update: Update) -> None:
        """Change the token budget at any time, everything else before decoding begins."""
        try:
            update.validate()
        except InvalidArgument as error:
            self.refuse_update(update.update_id, error)
            return
        if update.update_id <= self._update_id:
            return
        changes = {
            name: getattr(update, name)
            for name in ("program", "guard", "penalties")
            if getattr(update, name) is not None
        }
        if changes and self._is_decoding:
            self._push(Rejected(update.update_id, next(iter(changes)), _FIXED))
            return
        self._update_id = update.update_id
        if update.token_budget is not None:
            self._budget = update.token_budget or self._budget
        self._apply(replace(self._wanted, **changes), update.source, update.update_id)

    def refuse_update(self, update_id: int, error: InvalidArgument) -> None:
        """Answer an update that cannot be read."""
        self._push(Rejected(update_id, error.field, error.message))

    def credit(self, tokens: int) -> None:
        """Let `tokens` more be sent; raise InvalidArgument outside [1, 65536]."""
        if not 1 <= tokens <= MAX_CREDIT:
            message = f"credit.tokens must be in [1, {MAX_CREDIT}]"
            raise InvalidArgument(message, field="credit.tokens")
        self._credit = (self._credit or 0) + tokens
        self._taken.set()

    def cancel(self, kept: int | None = None) -> None:
        """End the generation, of which the client keeps so many tokens, at most
        those taken (None: all of them); `Ended` follows, and no token.
        """
        if self._kept is None:
            self._kept = self._taken_count if kept is None else min(kept, self._taken_count)
            self._events = deque(filter(_is_no_token, self._events))
            self._decoding.cancel()

    def fail(self, error: MeshError) -> None:
        """End with `error`: the client broke the rules."""
        self._failure = self._failure or error
        self._decoding.cancel()

    # What the client gets.

    async def take(self) -> list[Event]:
        """Wait for events and return them; `Ended` is the last there is."""
        while not self._events:
            self._ready.clear()
            await self._ready.wait()
        taken = list(self._events)
        self._events.clear()
        self._taken_count += sum(isinstance(event, Token) for event in taken)
        self._taken.set()
        return taken

    async def close(self) -> None:
        """End it, here and at the engine behind."""
        self._decoding.cancel()
        await asyncio.wait([self._decoding])

    async def _decode(self) -> None:
        reason, error = FinishReason.ERROR, None
        try:
            async with asyncio.timeout(self._seconds_left()):
                await self._wait_for_plan()
                reason = await self._read()
        except asyncio.CancelledError:
            # Ours: `cancel` and `fail` end the task, and its end is still told.
            reason, error = FinishReason.CANCELLED, self._failure
        except TimeoutError:
            reason = FinishReason.DEADLINE
        except MeshError as failure:
            error = failure
        except Exception:
            # The client learns that it failed, the log why.
            log.exception("request %s failed at the bridge", self.request_id)
            error = Internal("the request failed at the bridge")
        self._end(reason, error)

    async def _wait_for_plan(self) -> None:
        if self._grace:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._grace):
                    await self._planned.wait()
        self._is_decoding = True
        self._account.asked = self._clock.monotonic()

    async def _read(self) -> FinishReason:
        completion = Completion(self._start, self._model, self._used, self._seed, self._budget)
        chunks = self._upstream.stream(completion)
        reason = FinishReason.STOP
        async with contextlib.aclosing(chunks):  # type: ignore[type-var]  # generators close
            async for chunk in chunks:
                if not await self._pass_on(chunk):
                    return FinishReason.LENGTH
                if chunk.finish_reason:
                    reason = _REASONS.get(chunk.finish_reason, FinishReason.STOP)
        return reason

    async def _pass_on(self, chunk: Chunk) -> bool:
        """Hand on what came; False where the token budget is used up."""
        account = self._account
        if chunk.prompt_tokens is not None:
            account.prompt_tokens = chunk.prompt_tokens
            account.counted = chunk.completion_tokens
        temperature = middle(self._used.program)
        for token in chunk.tokens:
            if self._budget and account.decoded >= self._budget:
                return False
            await self._room()
            step_time_us = account.note(self._clock.monotonic())
            account.log_probability += token.log_probability
            account.temperatures.append(temperature)
            self._push(
                Token(
                    index=account.decoded - 1,
                    token_id=token.token_id,
                    text=token.text,
                    temperature=temperature,
                    entropy=0.0,
                    log_probability=0.0,
                    model_log_probability=token.log_probability,
                    revision=self._revision,
                    step_time_us=step_time_us,
                    candidates=token.candidates,
                )
            )
        return True

    async def _room(self) -> None:
        """Wait until one more token may be sent; the engine behind waits with us."""
        while self._credit == 0 or len(self._events) >= MAX_WAITING_TOKENS:
            self._taken.clear()
            await self._taken.wait()
        if self._credit is not None:
            self._credit -= 1

    def _apply(self, sampling: Sampling, source: Source, update_id: int) -> None:
        self._wanted, self._used = sampling, self._upstream.dialect.usable(sampling)
        self._revision += 1
        index = self._account.decoded
        self._push(Applied(self._revision, index, source, update_id, self._used))

    def _push(self, event: Event) -> None:
        self._events.append(event)
        self._ready.set()

    def _seconds_left(self) -> float | None:
        return None if self._deadline is None else self._deadline - self._clock.monotonic()

    def _end_if_never_begun(self, _: asyncio.Task[None]) -> None:
        # A task that is cancelled before its first step never enters its body.
        if self.outcome is None:
            self._end(FinishReason.CANCELLED, self._failure)

    def _end(self, reason: FinishReason, error: MeshError | None) -> None:
        account = self._account
        final = FinishReason.ERROR if error else reason
        outcome = account.outcome(self._start.context, self._plan, final)
        ended = Ended(reason, outcome.usage, outcome.mean_temperature, 0.0, error)
        if self._kept is not None:
            outcome, ended = outcome.keeping(self._kept), ended.keeping(self._kept)
        self.outcome = outcome
        self._push(ended)


def _is_no_token(event: Event) -> bool:
    return not isinstance(event, Token)
