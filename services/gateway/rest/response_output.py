"""The output items of a response while they are written, and the events that tell of them.

An answer is one message with one text part, or calls of functions. Which of the
two is told by its first tokens, so that no item is opened before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from services.gateway.calls import Call, CallReader, Piece

Json = dict[str, Any]
Told = tuple[str, Json]
"""The kind of an event and its members."""


class Output:
    """The items of the response `name`; `may_call`: its text may be calls."""

    def __init__(self, name: str, *, may_call: bool) -> None:
        self._name = name
        self._reader = CallReader() if may_call else None
        self._text: list[str] = []
        self._logprobs: list[Json] = []
        self._untold: list[Json] = []
        self._is_open = False
        self._done = 0

    def read(self, text: str, logprobs: Sequence[Json]) -> Iterator[Told]:
        """Take more of the answer, with the log-probabilities of its tokens, if they are wanted."""
        self._untold += logprobs
        piece = self._reader.read(text) if self._reader else Piece(text)
        if piece.text:
            yield from self._words(piece.text)
        yield from self._pieces_of_calls(piece)

    def close(self, status: str) -> Iterator[Told]:
        """End every item; `status` is that of the last one."""
        held = self._reader.flush() if self._reader else ""
        if held or not (self._is_open or self._calls):
            yield from self._words(held)
        if self._is_open:
            yield from self._closed_message(status)
        for call in self._calls[self._done :]:
            yield from self._closed_call(call, status)

    def items(self, status: str) -> list[Json]:
        """Return the items as they are now; `status` is that of what is not complete."""
        if self._is_open:
            return [self._message(status, [self._part()])]
        return [
            self._call(call, "completed" if call.is_complete else status, call.arguments)
            for call in self._calls
        ]

    @property
    def _calls(self) -> list[Call]:
        return self._reader.calls if self._reader else []

    def _words(self, text: str) -> Iterator[Told]:
        place = self._place()
        if not self._is_open:
            self._is_open = True
            item = self._message("in_progress", [])
            yield "response.output_item.added", {"output_index": 0, "item": item}
            yield "response.content_part.added", {**place, "part": _part("", [])}
        self._text.append(text)
        self._logprobs += self._untold
        if text:
            told = {**place, "delta": text, "logprobs": self._untold}
            yield "response.output_text.delta", told
        self._untold = []

    def _pieces_of_calls(self, piece: Piece) -> Iterator[Told]:
        for call in self._calls[self._done :]:
            if call in piece.began:
                item = self._call(call, "in_progress", "")
                yield "response.output_item.added", {"output_index": call.index, "item": item}
            if delta := piece.arguments.get(call.index):
                told = {**self._call_place(call), "delta": delta}
                yield "response.function_call_arguments.delta", told
            if call.is_complete:
                yield from self._closed_call(call, "completed")

    def _closed_message(self, status: str) -> Iterator[Told]:
        place, part = self._place(), self._part()
        done = {**place, "text": part["text"], "logprobs": part["logprobs"]}
        yield "response.output_text.done", done
        yield "response.content_part.done", {**place, "part": part}
        item = self._message(status, [part])
        yield "response.output_item.done", {"output_index": 0, "item": item}

    def _closed_call(self, call: Call, status: str) -> Iterator[Told]:
        self._done = call.index + 1
        told = {**self._call_place(call), "name": call.name, "arguments": call.arguments}
        yield "response.function_call_arguments.done", told
        item = self._call(call, status, call.arguments)
        yield "response.output_item.done", {"output_index": call.index, "item": item}

    def _place(self) -> Json:
        return {"item_id": f"msg_{self._name}", "output_index": 0, "content_index": 0}

    def _call_place(self, call: Call) -> Json:
        return {"item_id": f"fc_{self._name}_{call.index}", "output_index": call.index}

    def _message(self, status: str, content: list[Json]) -> Json:
        return {
            "id": f"msg_{self._name}",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _call(self, call: Call, status: str, arguments: str) -> Json:
        # Named after the response, so that events told again name the same call.
        return {
            "id": f"fc_{self._name}_{call.index}",
            "type": "function_call",
            "call_id": f"call_{self._name}_{call.index}",
            "name": call.name,
            "arguments": arguments,
            "status": status,
        }

    def _part(self) -> Json:
        return _part("".join(self._text), self._logprobs)


def _part(text: str, logprobs: list[Json]) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}
