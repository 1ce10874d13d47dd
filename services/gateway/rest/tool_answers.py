"""A chat completion in which the model may call functions."""

from __future__ import annotations

from collections.abc import Sequence

from services.gateway.calls import Call, CallReader, Piece
from services.gateway.events import Token
from services.gateway.rest.answers import ChatAnswer
from services.gateway.rest.sse import Json


class ToolAnswer(ChatAnswer):
    """Text and calls told apart while they are decoded."""

    _reader: CallReader | None = None

    def opening(self) -> Json:
        """Return the role; whether there will be content is not known yet."""
        return self._choice({"role": "assistant", "content": None}, None, None)

    def delta(self, text: str, logprobs: Json | None, finish: str | None) -> Json:
        """Return content or calls; the end has what was held back in vain."""
        reader = self._reading()
        if finish is None:
            return self._choice(_delta(reader.read(text)), logprobs, None)
        held = reader.flush()
        return self._choice({"content": held} if held else {}, logprobs, _finish(reader, finish))

    def complete(self, text: str, logprobs: Json | None, finish: str) -> Json:
        """Return the message with the calls in it."""
        reader = CallReader()
        words = reader.read(text).text + reader.flush()
        message: Json = {"role": "assistant", "content": words or None, "refusal": None}
        if reader.calls:
            message["tool_calls"] = [_call(call, call.arguments) for call in reader.calls]
        whole = super().complete(text, logprobs, _finish(reader, finish))
        return {**whole, "message": message}

    def _token_chunks(self, tokens: Sequence[Token]) -> list[Json]:
        chunk = self._token_chunk(tokens)
        return [chunk] if _tells(chunk) else []

    def _reading(self) -> CallReader:
        if self._reader is None:
            self._reader = CallReader()
        return self._reader


def _tells(chunk: Json) -> bool:
    choice = chunk["choices"][0]
    return bool(choice["delta"] or choice["logprobs"] or chunk.get("thermesh"))


def _delta(piece: Piece) -> Json:
    delta: Json = {}
    if piece.text:
        delta["content"] = piece.text
    begun = {call.index: _call(call, "") for call in piece.began}
    for index in sorted(begun.keys() | piece.arguments.keys()):
        told = {"index": index, **begun.get(index, {"function": {"arguments": ""}})}
        told["function"]["arguments"] = piece.arguments.get(index, "")
        delta.setdefault("tool_calls", []).append(told)
    return delta


def _call(call: Call, arguments: str) -> Json:
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def _finish(reader: CallReader, finish: str) -> str:
    return "tool_calls" if finish == "stop" and reader.has_called else finish
