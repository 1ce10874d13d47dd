"""Checks what a client asked for and turns it into a request with token ids.

Every refusal names the field of `GenerationStart` and what is allowed.
"""

from __future__ import annotations

import re
import secrets
import uuid
from dataclasses import dataclass, replace
from typing import Protocol

from services.inference.request import ChatTurn, Context, Request, Start
from services.inference.sampling import settings as sampling
from services.inference.sampling.constraint import Matcher
from thermesh.clock import Clock
from thermesh.errors import DeadlineExceeded, InvalidArgument, NotFound

MAX_PROMPT_CHARACTERS = 1024 * 1024
MAX_STOP_STRINGS = 16
MAX_STOP_BYTES = 256
MAX_CANDIDATES = 20
MAX_PLAN_GRACE_MS = 1000
DEFAULT_PLAN_GRACE_MS = 25

_NAME = re.compile(r"[A-Za-z0-9._-]{0,64}")


class Encoder(Protocol):
    """The half of a tokenizer that reads text."""

    @property
    def vocabulary_size(self) -> int:
        """Ids are in [0, vocabulary_size)."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the ids of raw text."""
        ...

    def encode_chat(self, messages: list[tuple[str, str]]) -> list[int]:
        """Return the ids of (role, content) pairs under the chat template."""
        ...


@dataclass(frozen=True)
class Prompts:
    """Makes requests for one model; `token_capacity` is the most tokens that
    a request may have, prompt and output together.
    """

    model: str
    encoder: Encoder
    token_capacity: int
    clock: Clock

    def request(
        self, start: Start, remaining_seconds: float | None, matcher: Matcher | None = None
    ) -> Request:
        """Return the request that `start` stands for.

        `remaining_seconds` is left of the call's own deadline; `matcher` is the
        constraint of `start`, compiled. Raises InvalidArgument, NotFound
        (model), DeadlineExceeded.
        """
        if start.model not in {"", self.model}:
            message = f"model {start.model!r} is not served here; {self.model!r} is"
            raise NotFound(message, field="start.model")
        check(start)
        chosen = start.sampling or sampling.DEFAULT
        chosen.validate("start.sampling", self.encoder.vocabulary_size)
        prompt_ids = self._prompt_ids(start)
        grace_ms = start.plan_grace_ms or DEFAULT_PLAN_GRACE_MS
        return Request(
            context=named(start.context),
            prompt_ids=prompt_ids,
            sampling=chosen,
            seed=secrets.randbits(64) if start.seed is None else start.seed,
            max_tokens=start.max_tokens,
            stop=start.stop,
            candidate_count=start.candidate_count,
            expects_plan=start.expects_plan,
            plan_grace_seconds=grace_ms / 1000,
            initial_credit=start.initial_credit,
            ignore_end_of_sequence=start.ignore_end_of_sequence,
            deadline=deadline_of(start.context, remaining_seconds, self.clock),
            constraint=matcher,
        )

    def chat_ids(self, turns: tuple[ChatTurn, ...], field: str) -> list[int]:
        """Return the ids of a conversation, the chat template applied."""
        if not any(turn.content for turn in turns):
            raise InvalidArgument(f"{field} must have a message with text", field=field)
        _check_size(sum(len(turn.content) for turn in turns), field)
        return self.encoder.encode_chat([(turn.role, turn.content) for turn in turns])

    def text_ids(self, text: str, field: str) -> list[int]:
        """Return the ids of raw text."""
        if not text:
            raise InvalidArgument(f"{field} must not be empty", field=field)
        _check_size(len(text), field)
        return self.encoder.encode(text)

    def known_ids(self, token_ids: tuple[int, ...], field: str) -> list[int]:
        """Return `token_ids` if the vocabulary has them all."""
        size = self.encoder.vocabulary_size
        if not token_ids:
            raise InvalidArgument(f"{field} must not be empty", field=field)
        if min(token_ids) < 0 or max(token_ids) >= size:
            raise InvalidArgument(f"{field} must be in [0, {size})", field=field)
        return list(token_ids)

    def _prompt_ids(self, start: Start) -> tuple[int, ...]:
        if start.chat is not None:
            field = "start.chat.messages"
            token_ids = self.chat_ids(start.chat, field)
        elif start.prompt is not None:
            field = "start.prompt"
            token_ids = self.text_ids(start.prompt, field)
        elif start.token_ids is not None:
            field = "start.tokens.token_ids"
            token_ids = self.known_ids(start.token_ids, field)
        else:
            message = "start.input must be one of chat, prompt, tokens"
            raise InvalidArgument(message, field="start.input")
        if len(token_ids) >= self.token_capacity:
            most = self.token_capacity - 1
            message = f"{field} has {len(token_ids)} tokens; this engine takes at most {most}"
            raise InvalidArgument(message, field=field)
        return tuple(token_ids)


def deadline_of(context: Context, remaining_seconds: float | None, clock: Clock) -> float | None:
    """Return when a request must be over, on the monotonic clock; None: never.

    Raises DeadlineExceeded where that was already.
    """
    left = [] if remaining_seconds is None else [remaining_seconds]
    if context.deadline_unix_ms:
        left.append((context.deadline_unix_ms - clock.unix_ms()) / 1000)
    if not left:
        return None
    if min(left) <= 0:
        raise DeadlineExceeded("the deadline of the request passed before it arrived")
    return clock.monotonic() + min(left)


def named(context: Context) -> Context:
    """Return `context` with a request id and a tenant."""
    return replace(
        context,
        request_id=context.request_id or f"req-{uuid.uuid4().hex}",
        tenant=context.tenant or "default",
    )


def check(start: Start) -> None:
    """Refuse names, stop strings and numbers out of bounds; nothing here depends on a model."""
    for name in ("request_id", "session_id", "tenant"):
        if not _NAME.fullmatch(getattr(start.context, name)):
            field = f"start.context.{name}"
            message = f"{field} must be at most 64 characters of [A-Za-z0-9._-]"
            raise InvalidArgument(message, field=field)
    _check_stop(start.stop)
    _check_most("start.candidate_count", start.candidate_count, MAX_CANDIDATES)
    _check_most("start.plan_grace_ms", start.plan_grace_ms, MAX_PLAN_GRACE_MS)


def _check_stop(stop: tuple[str, ...]) -> None:
    if len(stop) > MAX_STOP_STRINGS:
        message = f"start.stop has at most {MAX_STOP_STRINGS} strings"
        raise InvalidArgument(message, field="start.stop")
    for index, text in enumerate(stop):
        if not 1 <= len(text.encode()) <= MAX_STOP_BYTES:
            field = f"start.stop[{index}]"
            raise InvalidArgument(f"{field} must have 1 to {MAX_STOP_BYTES} bytes", field=field)


def _check_most(field: str, value: int, most: int) -> None:
    if value > most:
        raise InvalidArgument(f"{field} must be in [0, {most}]", field=field)


def _check_size(characters: int, field: str) -> None:
    if characters > MAX_PROMPT_CHARACTERS:
        message = f"{field} must have at most {MAX_PROMPT_CHARACTERS} characters"
        raise InvalidArgument(message, field=field)
