"""Events to OpenAI's JSON, with the `thermesh` extension beside it.

An answer is fed every event once. `chunks` returns what an SSE stream sends for
it, `whole` the body of an answer that is not streamed. Official clients ignore
the extension; where it is absent there was nothing to tell.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

from services.gateway.asking import Ask
from services.gateway.decoding import FinishReason, Plan
from services.gateway.events import (
    Accepted,
    Applied,
    Ended,
    Event,
    PlanDecided,
    Rejected,
    Token,
    Tokens,
    Usage,
)
from services.gateway.rest import extension
from services.gateway.rest.logprobs import chat_logprob
from services.gateway.rest.problems import error_body
from services.gateway.rest.sse import Chunk, Json, Template
from thermesh.errors import MeshError

# OpenAI knows fewer reasons; the extension carries the true one.
FINISH_REASONS = {
    FinishReason.STOP: "stop",
    FinishReason.STOP_STRING: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.DEADLINE: "length",
    FinishReason.CANCELLED: "stop",
    FinishReason.ERROR: "stop",
}


@dataclass(frozen=True)
class Shape:
    """What the client wants to see besides the text."""

    telemetry: bool = False
    logprobs: bool = False
    usage: bool = False


class Answer(abc.ABC):
    """What chat and text answers share; subclasses say how a choice looks."""

    prefix: str
    streamed_object: str
    whole_object: str

    def __init__(self, ask: Ask, shape: Shape, created_unix_s: int, number: int = 0) -> None:
        self._ask = ask
        self._number = number
        self._shape = shape
        self._created = created_unix_s
        self._model = ask.model
        self._plan: Plan | None = None
        self._end: Ended | None = None
        self._tokens: list[Token] = []
        self._applied: list[Applied] = []
        self._template: Template | None = None

    @property
    def plan(self) -> Plan | None:
        """The plan, once it is decided."""
        return self._plan

    @property
    def usage(self) -> Usage:
        """Tokens counted, after the end."""
        return self._end.usage if self._end else Usage()

    def observe(self, event: Event) -> None:
        """Keep what `whole` needs."""
        if isinstance(event, Tokens):
            self._tokens.extend(event.tokens)
        elif isinstance(event, Applied):
            self._applied.append(event)
        self._note(event)

    def chunks(self, event: Event) -> Sequence[Chunk]:
        """Return the chunks that a stream sends for `event`; nothing is kept."""
        self._note(event)
        if isinstance(event, PlanDecided):
            return [self._chunk(self.opening(), self._decision())]
        if isinstance(event, Tokens):
            return self._token_chunks(event.tokens)
        if isinstance(event, Applied) and self._shape.telemetry:
            self._applied.append(event)
        if isinstance(event, Ended):
            return self._closing(event)
        return []

    def whole(self) -> Json:
        """Return the body of an answer that is not streamed, after `Ended`."""
        assert self._end is not None, "whole() before the end"
        text = "".join(token.text for token in self._tokens)
        choice = self.complete(text, self._logprobs(self._tokens), FINISH_REASONS[self._reason])
        told = self._decision() | extension.ended(self._end)
        if self._shape.telemetry:
            told |= self._telemetry(self._tokens)
        return {
            **self._head(self.whole_object),
            "choices": [choice],
            "usage": extension.usage(self._end.usage),
            "thermesh": told,
        }

    def failure(self, error: MeshError) -> list[Json]:
        """Return what a stream says last where an error ends it."""
        return [error_body(error)]

    def named(self, error: MeshError) -> MeshError:
        """Return `error`, whose fields are named as the client wrote them."""
        return error

    def usage_chunk(self, usage: Json) -> Json:
        """Return the chunk that ends a stream where the client wants to know the usage."""
        return {**self._head(self.streamed_object), "choices": [], "usage": usage}

    @abc.abstractmethod
    def opening(self) -> Json | None:
        """Return the first choice of a stream, before any text; None where there is none."""

    @abc.abstractmethod
    def delta(self, text: str, logprobs: Json | None, finish: str | None) -> Json:
        """Return the choice of one chunk."""

    @abc.abstractmethod
    def complete(self, text: str, logprobs: Json | None, finish: str) -> Json:
        """Return the choice of an answer that is not streamed."""

    @abc.abstractmethod
    def logprobs_of(self, tokens: Sequence[Token]) -> Json:
        """Return log-probabilities in the form of this API."""

    @property
    def _reason(self) -> FinishReason:
        return self._end.finish_reason if self._end else FinishReason.CANCELLED

    def _note(self, event: Event) -> None:
        if isinstance(event, Accepted):
            self._model = event.model or self._model
        elif isinstance(event, PlanDecided):
            self._plan = event.plan
        elif isinstance(event, Ended):
            self._end = event
        else:
            assert isinstance(event, Tokens | Applied | Rejected)

    def _token_chunks(self, tokens: Sequence[Token]) -> Sequence[Chunk]:
        if self._shape.telemetry or self._shape.logprobs:
            return [self._token_chunk(tokens)]
        text = "".join([token.text for token in tokens])
        return [self._text_event(text)] if text else []

    def _token_chunk(self, tokens: Sequence[Token]) -> Json:
        text = "".join([token.text for token in tokens])
        told = self._telemetry(tokens) if self._shape.telemetry else None
        return self._chunk(self.delta(text, self._logprobs(tokens), None), told)

    def _text_event(self, text: str) -> bytes:
        if self._template is None:
            self._template = Template(lambda gap: self._chunk(self.delta(gap, None, None), None))
        return self._template.event(text)

    def _closing(self, end: Ended) -> list[Json]:
        finish = FINISH_REASONS[end.finish_reason]
        told = extension.ended(end) | (self._telemetry(()) if self._shape.telemetry else {})
        return [self._chunk(self.delta("", None, finish), told)]

    def _chunk(self, choice: Json | None, told: Json | None) -> Json:
        chunk = {**self._head(self.streamed_object), "choices": [choice] if choice else []}
        if self._shape.usage:
            chunk["usage"] = None
        if told:
            chunk["thermesh"] = told
        return chunk

    def _head(self, kind: str) -> Json:
        return {
            "id": self.prefix + self._request_id.removeprefix("req-"),
            "object": kind,
            "created": self._created,
            "model": self._model,
        }

    @property
    def _request_id(self) -> str:
        """That of the first of several answers, whose own have `-1` and so on after it."""
        own = self._ask.context.request_id
        return own.removesuffix(f"-{self._number}") if self._number else own

    def _decision(self) -> Json:
        return extension.decision(self._ask, self._plan)

    def _telemetry(self, tokens: Sequence[Token]) -> Json:
        told: Json = {}
        if tokens:
            told["tokens"] = [extension.token(token) for token in tokens]
        if self._applied:
            told["applied"] = [extension.applied(change) for change in self._applied]
            self._applied = []
        return told

    def _logprobs(self, tokens: Sequence[Token]) -> Json | None:
        return self.logprobs_of(tokens) if self._shape.logprobs else None


class ChatAnswer(Answer):
    """A chat completion."""

    prefix = "chatcmpl-"
    streamed_object = "chat.completion.chunk"
    whole_object = "chat.completion"

    def opening(self) -> Json:
        """Return the role."""
        return self._choice({"role": "assistant", "content": ""}, None, None)

    def delta(self, text: str, logprobs: Json | None, finish: str | None) -> Json:
        """Return a delta, empty at the end."""
        return self._choice({"content": text} if finish is None else {}, logprobs, finish)

    def complete(self, text: str, logprobs: Json | None, finish: str) -> Json:
        """Return the message."""
        message = {"role": "assistant", "content": text, "refusal": None}
        return {
            "index": self._number,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": finish,
        }

    def logprobs_of(self, tokens: Sequence[Token]) -> Json:
        """Return the model's own log-probabilities, before bias, guard and temperature."""
        return {"content": [chat_logprob(token) for token in tokens], "refusal": None}

    def _choice(self, delta: Json, logprobs: Json | None, finish: str | None) -> Json:
        return {
            "index": self._number,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish,
        }


class CompletionAnswer(Answer):
    """A text completion."""

    prefix = "cmpl-"
    streamed_object = "text_completion"
    whole_object = "text_completion"

    def __init__(self, ask: Ask, shape: Shape, created_unix_s: int, number: int = 0) -> None:
        super().__init__(ask, shape, created_unix_s, number)
        self._offset = 0

    def opening(self) -> Json:
        """Return an empty text, which carries the plan."""
        return self.delta("", None, None)

    def delta(self, text: str, logprobs: Json | None, finish: str | None) -> Json:
        """Return a piece of the text."""
        return {
            "index": self._number,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": finish,
        }

    def complete(self, text: str, logprobs: Json | None, finish: str) -> Json:
        """Return the whole text."""
        return self.delta(text, logprobs, finish)

    def logprobs_of(self, tokens: Sequence[Token]) -> Json:
        """Return log-probabilities in the older form, one list a column."""
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token.text)
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.model_log_probability for token in tokens],
            "top_logprobs": [
                {candidate.text: candidate.log_probability for candidate in token.candidates}
                for token in tokens
            ],
            "text_offset": offsets,
        }
