"""Events of a turn to the object and the stream events of /v1/responses.

`keep` is told the response before the client hears of its end, and tells
whether there was room for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from services.gateway.asking import Ask
from services.gateway.decoding import FinishReason, Plan
from services.gateway.events import Accepted, Ended, Event, PlanDecided, Token, Tokens, Usage
from services.gateway.kept import Kept
from services.gateway.rest import extension
from services.gateway.rest.logprobs import chat_logprob
from services.gateway.rest.problems import error_body
from services.gateway.rest.response_bodies import ResponseBody, renamed
from services.gateway.rest.response_events import ResponseEvents
from thermesh.errors import Code, MeshError

Json = dict[str, Any]

_CUT = {FinishReason.LENGTH, FinishReason.DEADLINE}


class ResponseAnswer:
    """What one response to `items` looks like; `keep` None: it is not wanted to be kept."""

    def __init__(
        self,
        ask: Ask,
        body: ResponseBody,
        items: Sequence[Json],
        created_unix_s: int,
        keep: Callable[[Kept], bool] | None,
    ) -> None:
        self._ask = ask
        self._body = body
        self._items = tuple(items)
        self._created = created_unix_s
        self._keep = keep
        self._model = ask.model
        self._plan: Plan | None = None
        self._usage = Usage()
        self._tokens: list[Token] = []
        self._untold: list[Token] = []
        self._pieces: list[tuple[str, int]] = []
        self._whole: Json = {}
        name = ask.context.request_id.removeprefix("req-")
        self._id = f"resp_{name}"
        self._events = ResponseEvents(name, may_call=body.tool_use is not None)
        self._wants_telemetry = bool(body.thermesh and body.thermesh.telemetry)
        self._wants_logprobs = body.wants_logprobs

    @property
    def plan(self) -> Plan | None:
        """The plan, once it is decided."""
        return self._plan

    @property
    def usage(self) -> Usage:
        """Tokens counted, after the end."""
        return self._usage

    def observe(self, event: Event) -> None:
        """Keep what the whole needs."""
        self.chunks(event)

    def chunks(self, event: Event) -> list[Json]:
        """Return the stream events for `event`."""
        if isinstance(event, Accepted):
            self._model = event.model or self._model
        elif isinstance(event, PlanDecided):
            self._plan = event.plan
            return self._events.opening(self._begun())
        elif isinstance(event, Tokens):
            return self._told(event.tokens)
        elif isinstance(event, Ended):
            return self._closing(event)
        return []

    def whole(self) -> Json:
        """Return the response, after the end."""
        return self._whole

    def failure(self, error: MeshError) -> list[Json]:
        """Return the last events of a stream that an error ends."""
        told = error_body(error)
        code = "rate_limit_exceeded" if error.code is Code.RESOURCE_EXHAUSTED else "server_error"
        failed = {
            **self._begun(),
            "status": "failed",
            "error": {"code": code, "message": error.message},
            "output": self._events.items("incomplete"),
        }
        return [*self._events.last(failed), *self._events.failure(told)]

    def named(self, error: MeshError) -> MeshError:
        """Return `error` with its field named as the client wrote it."""
        return renamed(error)

    def _told(self, tokens: Sequence[Token]) -> list[Json]:
        text = "".join(token.text for token in tokens)
        self._pieces.append((text, len(tokens)))
        logprobs = [chat_logprob(token) for token in tokens] if self._wants_logprobs else []
        telemetry = None
        if self._wants_telemetry:
            self._tokens += tokens
            self._untold += tokens
            telemetry = {"tokens": [extension.token(token) for token in self._untold]}
        events = self._events.pieces(text, logprobs, telemetry)
        if events:
            self._untold = []
        return events

    def _closing(self, end: Ended) -> list[Json]:
        self._usage = end.usage
        status = "incomplete" if end.finish_reason in _CUT else "completed"
        events = self._events.closing(status)
        self._whole = self._begun() | self._ended(end, status)
        if self._keep:
            kept = Kept(self._whole, self._items, tuple(self._pieces))
            self._whole = {**self._whole, "store": self._keep(kept)}
        return [*events, *self._events.last(self._whole)]

    def _begun(self) -> Json:
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": self._model,
            "output": [],
            "temperature": self._plan.temperature if self._plan else None,
            "usage": None,
            **self._body.echo(),
            "thermesh": extension.decision(self._ask, self._plan),
        }

    def _ended(self, end: Ended, status: str) -> Json:
        told = extension.decision(self._ask, self._plan) | extension.ended(end)
        if self._wants_telemetry:
            told["tokens"] = [extension.token(token) for token in self._tokens]
        reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "status": status,
            "incomplete_details": reason,
            "output": self._events.items(status),
            "usage": _usage(end.usage),
            "thermesh": told,
        }


def _usage(counted: Usage) -> Json:
    return {
        "input_tokens": counted.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": counted.cached_prompt_tokens,
            "cache_write_tokens": 0,
        },
        "output_tokens": counted.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": counted.prompt_tokens + counted.completion_tokens,
    }
