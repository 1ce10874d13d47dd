"""Events to the objects and stream events of /v1/responses.

An answer is one message with one text part; its events carry numbers from 0.
`keep` is told the text at the end, before the client hears of the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from services.gateway.asking import Ask
from services.gateway.decoding import FinishReason, Plan
from services.gateway.events import Accepted, Ended, Event, PlanDecided, Token, Tokens, Usage
from services.gateway.rest import extension
from services.gateway.rest.response_bodies import ResponseBody

Json = dict[str, Any]

_CUT = {FinishReason.LENGTH, FinishReason.DEADLINE}


class ResponseAnswer:
    """What one response looks like."""

    def __init__(
        self, ask: Ask, body: ResponseBody, created_unix_s: int, keep: Callable[[str], None]
    ) -> None:
        self._ask = ask
        self._body = body
        self._created = created_unix_s
        self._keep = keep
        self._model = ask.model
        self._plan: Plan | None = None
        self._end: Ended | None = None
        self._tokens: list[Token] = []
        self._sent = 0

    @property
    def response_id(self) -> str:
        """The id by which it is continued."""
        return "resp_" + self._name

    @property
    def plan(self) -> Plan | None:
        """The plan, once it is decided."""
        return self._plan

    @property
    def usage(self) -> Usage:
        """Tokens counted, after the end."""
        return self._end.usage if self._end else Usage()

    def observe(self, event: Event) -> None:
        """Keep what the whole needs."""
        if isinstance(event, Accepted):
            self._model = event.model or self._model
        elif isinstance(event, PlanDecided):
            self._plan = event.plan
        elif isinstance(event, Tokens):
            self._tokens.extend(event.tokens)
        elif isinstance(event, Ended):
            self._end = event
            self._keep(self._text)

    def chunks(self, event: Event) -> list[Json]:
        """Return the stream events for `event`."""
        self.observe(event)
        if isinstance(event, PlanDecided):
            return self._opening()
        if isinstance(event, Tokens):
            return self._deltas(event.tokens)
        return self._closing() if isinstance(event, Ended) else []

    def whole(self) -> Json:
        """Return the response as it is now."""
        told = extension.decision(self._ask, self._plan)
        if self._end:
            told |= extension.ended(self._end)
            if self._wants_telemetry:
                told["tokens"] = [extension.token(token) for token in self._tokens]
        body = self._body
        return {
            "id": self.response_id,
            "object": "response",
            "created_at": self._created,
            "status": self._status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if self._is_cut else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "model": self._model,
            "output": [self._message()] if self._end else [],
            "parallel_tool_calls": False,
            "previous_response_id": body.previous_response_id,
            "store": body.store is not False,
            "temperature": self._plan.temperature if self._plan else None,
            "text": {"format": {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": body.top_p,
            "truncation": "disabled",
            "usage": self._usage() if self._end else None,
            "metadata": body.metadata or {},
            "thermesh": told,
        }

    @property
    def _name(self) -> str:
        return self._ask.context.request_id.removeprefix("req-")

    @property
    def _text(self) -> str:
        return "".join(token.text for token in self._tokens)

    @property
    def _wants_telemetry(self) -> bool:
        return bool(self._body.thermesh and self._body.thermesh.telemetry)

    @property
    def _is_cut(self) -> bool:
        return self._end is not None and self._end.finish_reason in _CUT

    @property
    def _status(self) -> str:
        if self._end is None:
            return "in_progress"
        return "incomplete" if self._is_cut else "completed"

    def _opening(self) -> list[Json]:
        item = {**self._message(), "status": "in_progress", "content": []}
        return [
            self._event("response.created", response=self.whole()),
            self._event("response.in_progress", response=self.whole()),
            self._event("response.output_item.added", output_index=0, item=item),
            self._event("response.content_part.added", **self._place(), part=_part("")),
        ]

    def _deltas(self, tokens: tuple[Token, ...]) -> list[Json]:
        text = "".join(token.text for token in tokens)
        if not text and not self._wants_telemetry:
            return []
        delta = self._event("response.output_text.delta", **self._place(), delta=text, logprobs=[])
        if self._wants_telemetry:
            delta["thermesh"] = {"tokens": [extension.token(token) for token in tokens]}
        return [delta]

    def _closing(self) -> list[Json]:
        text, place = self._text, self._place()
        return [
            self._event("response.output_text.done", **place, text=text, logprobs=[]),
            self._event("response.content_part.done", **place, part=_part(text)),
            self._event("response.output_item.done", output_index=0, item=self._message()),
            self._event(f"response.{self._status}", response=self.whole()),
        ]

    def _event(self, kind: str, **members: Any) -> Json:
        event = {"type": kind, "sequence_number": self._sent, **members}
        self._sent += 1
        return event

    def _place(self) -> Json:
        return {"item_id": "msg_" + self._name, "output_index": 0, "content_index": 0}

    def _message(self) -> Json:
        return {
            "id": "msg_" + self._name,
            "type": "message",
            "role": "assistant",
            "status": self._status,
            "content": [_part(self._text)],
        }

    def _usage(self) -> Json:
        counted = self.usage
        return {
            "input_tokens": counted.prompt_tokens,
            "input_tokens_details": {"cached_tokens": counted.cached_prompt_tokens},
            "output_tokens": counted.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": counted.prompt_tokens + counted.completion_tokens,
        }


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
