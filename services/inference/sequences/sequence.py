"""The state of one request in the engine: tokens, pages, credit, account.

Only the engine thread touches a sequence. A sequence is *prefilling* while
tokens of its prompt (or, after preemption, of its output) are not in the KV
cache; when all are, the last step left `logits`, from which the next token is
drawn as soon as the sequence `may_draw`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from services.inference.events import (
    Ended,
    FinishReason,
    Outcome,
    Reader,
    Telemetry,
    Token,
    Usage,
)
from services.inference.kernels import PAGE_SIZE
from services.inference.request import Request
from services.inference.sampling.sampler import Drawn, Row
from services.inference.sequences.acceptance import Acceptance
from services.inference.sequences.account import Account
from services.inference.sequences.attending import Attending
from services.inference.sequences.drafting import Draft, Suffixes, Verified
from services.inference.sequences.ending import finish_reason
from services.inference.sequences.page_keys import PageKeys
from services.inference.sequences.parameters import Parameters
from services.inference.sequences.text import Detokenizer
from thermesh.errors import MeshError

MAX_BUFFERED_TOKENS = 1024
"""Tokens that may wait for the reader of a stream before decoding pauses."""

_tickets = itertools.count()


class Sequence:
    """One request being decoded. Times are seconds of the engine's clock."""

    def __init__(
        self,
        request: Request,
        reader: Reader,
        vocabulary_size: int,
        token_limit: int,
        now: float,
    ) -> None:
        self.request = request
        self.reader = reader
        self.parameters = Parameters(request, vocabulary_size)
        self.token_ids = list(request.prompt_ids)
        self.computed_count = 0
        self.pages: list[int] = []
        self.page_keys = PageKeys(request.context.tenant, PAGE_SIZE)
        self.cached_prompt_tokens: int | None = None  # until it is admitted
        self.attending = Attending()
        self.logits: Any = None  # [vocabulary] while a token can be drawn
        self.account = Account(request, self.parameters, now)
        self.suffixes = Suffixes()
        self.acceptance = Acceptance()
        self.match = 0  # tokens that matched where the last draft was found
        self._ticket = next(_tickets)
        self._token_limit = token_limit
        self._credit = request.initial_credit
        self._awaits_plan = request.expects_plan
        self._grace_ends_at: float | None = None
        self._prompt_set = frozenset(request.prompt_ids)
        self._output_counts: Counter[int] = Counter()
        self._detokenizer = Detokenizer(request.stop)
        self._verified = Verified()

    @property
    def priority(self) -> int:
        """Class of the request; higher goes first."""
        return self.request.context.priority

    @property
    def order(self) -> tuple[int, float, int]:
        """Sort key: priority class, then deadline, then arrival; least first.

        No two sequences compare equal, so one is always first and gets on.
        """
        deadline = float("inf") if self.request.deadline is None else self.request.deadline
        return (-self.priority, deadline, self._ticket)

    @property
    def read_count(self) -> int:
        """Tokens at the beginning of the prompt that are only read: all but the last,
        whose logits are wanted as much as those of any generated token.
        """
        return len(self.request.prompt_ids) - 1

    @property
    def output_count(self) -> int:
        """Tokens decoded so far."""
        return len(self.token_ids) - len(self.request.prompt_ids)

    @property
    def output_ids(self) -> list[int]:
        """The tokens decoded so far."""
        return self.token_ids[len(self.request.prompt_ids) :]

    @property
    def room(self) -> int:
        """Most tokens that may still be decoded, as things stand."""
        wanted = self.parameters.token_budget or self._token_limit
        return max(0, min(wanted, self._token_limit) - self.output_count)

    @property
    def guess(self) -> int | None:
        """The token that a draft foresees next, whose logits are here; None: none."""
        return self._verified.guess

    def forced(self, most: int) -> tuple[int, ...]:
        """Return up to `most` next tokens about which the constraint leaves no choice."""
        constraint = self.request.constraint
        return () if constraint is None else constraint.forced()[:most]

    @property
    def may_be_foreseen(self) -> bool:
        """Tell whether the light path may guess for the sequence: it is not on that path
        itself, and no constraint must be asked about tokens that may never come.
        """
        is_light = self.attending.light_from is not None
        return self.request.constraint is None and not is_light and self.room > 1

    @property
    def remaining_count(self) -> int:
        """Known tokens that are not in the KV cache yet."""
        return len(self.token_ids) - self.computed_count

    @property
    def has_credit(self) -> bool:
        """Tell whether the reader takes one more token."""
        count = self.output_count
        is_buffer_full = count - self.reader.taken >= MAX_BUFFERED_TOKENS
        return not is_buffer_full and (self.request.initial_credit == 0 or count < self._credit)

    def is_expired(self, now: float) -> bool:
        """Tell whether the deadline passed."""
        return self.request.deadline is not None and now >= self.request.deadline

    def may_draw(self, now: float) -> bool:
        """Tell whether the next token may be drawn: credit is there and the
        plan, or its grace is over, and nobody has called the request off.
        """
        # Asked between the draws of a step, so that of a draft that came true
        # nothing more is drawn once the client has interrupted.
        return self.has_credit and not self.reader.is_cancelled and not self._is_parked(now)

    def _is_parked(self, now: float) -> bool:
        return self._awaits_plan and (self._grace_ends_at is None or now < self._grace_ends_at)

    def wakes_at(self) -> float:
        """Return when something is due without anybody saying so; inf: never."""
        due = [float("inf")]
        if self.request.deadline is not None:
            due.append(self.request.deadline)
        if self._awaits_plan and self._grace_ends_at is not None and self.has_credit:
            due.append(self._grace_ends_at)
        return min(due)

    def add_credit(self, tokens: int) -> None:
        """Let `tokens` more be sent."""
        self._credit += tokens

    def stop_waiting_for_plan(self) -> None:
        """Go on without parking: the plan came, or will not."""
        self._awaits_plan = False

    def advance(self, count: int) -> None:
        """Note that `count` more tokens are in the KV cache."""
        self.computed_count += count

    def accept_logits(self, logits: Any, draft: Draft | None, now: float) -> None:
        """Keep `logits` [1 + draft, vocabulary]: those of the next token, and of
        the one after each token of the draft. The plan's grace begins with the
        first ones.
        """
        self.logits = logits[0]
        if draft is not None:
            self._verified, self.match = Verified(draft.token_ids, logits[1:]), draft.match
            self.account.drafted_count += len(draft.token_ids)
        if self._awaits_plan and self._grace_ends_at is None:
            self._grace_ends_at = now + self.request.plan_grace_seconds

    def restart(self) -> None:
        """Forget what the KV cache held; it will be computed again."""
        self.computed_count = 0
        self.pages = []
        self.logits, self._verified = None, Verified()

    def row(self) -> Row:
        """Return what the sampler needs; raise MeshError where the constraint gives no mask."""
        constraint = self.request.constraint
        return Row(
            self.parameters.sampling,
            self.parameters.seed,
            self.output_count,
            self._prompt_set,
            self._output_counts,
            self.request.candidate_count,
            None if constraint is None else constraint.mask(),
        )

    def record(
        self,
        drawn: Drawn,
        piece: bytes,
        *,
        is_end: bool,
        step_time_us: int,
        now: float,
        candidates: tuple[tuple[int, str, float], ...] = (),
    ) -> tuple[Token, FinishReason | None]:
        """Take the drawn token, whose bytes are `piece`; return it as an event
        and why the request ends with it, if it does. Text still held back
        comes with the last token.
        """
        index = self.output_count
        self._take(drawn, now)
        if self.request.constraint is not None:
            self.request.constraint.advance(drawn.token_id)
        text = self._detokenizer.push(b"" if is_end else piece)
        reason = self._finish_reason(is_end)
        if reason in {FinishReason.STOP, FinishReason.LENGTH}:
            text += self._detokenizer.flush()
        token = Token(
            index,
            drawn.token_id,
            text,
            drawn.temperature,
            drawn.entropy,
            drawn.log_probability,
            drawn.model_log_probability,
            self.parameters.revision,
            step_time_us,
            candidates,
        )
        return token, reason

    def _finish_reason(self, is_end: bool) -> FinishReason | None:
        if self._detokenizer.stopped:
            return FinishReason.STOP_STRING
        count, limit = self.output_count, self._token_limit
        return finish_reason(self.request, self.parameters, count, limit, is_end)

    def _take(self, drawn: Drawn, now: float) -> None:
        self._awaits_plan = False
        self.token_ids.append(drawn.token_id)
        self._output_counts[drawn.token_id] += 1
        self.logits = self._verified.after(drawn.token_id)
        self.account.note(drawn, now, is_guessed=self.logits is not None)

    def telemetry(self, every_tokens: int) -> Telemetry | None:
        """Return a report if `every_tokens` were decoded since the last one."""
        if not self.account.is_report_due(self.output_count, every_tokens):
            return None
        return self.account.telemetry(self.output_ids)

    def ended(self, reason: FinishReason, error: MeshError | None = None) -> Ended:
        """Return the last event of the stream."""
        return self.account.ended(reason, self.usage(), error)

    def outcome(self, reason: FinishReason) -> Outcome:
        """Return the account of the request, now that it is over."""
        return self.account.outcome(reason, self.output_ids, self.usage())

    def usage(self) -> Usage:
        """Return tokens and times so far."""
        return self.account.usage(self.output_count, self.cached_prompt_tokens or 0)
