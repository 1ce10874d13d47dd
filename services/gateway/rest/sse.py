"""Server-sent events of JSON, as the official clients of OpenAI's API read them."""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import Any

Json = dict[str, Any]
Chunk = Json | bytes
"""One event: JSON, or written already."""

PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_GAP = "\0"


def event_bytes(chunk: Chunk) -> bytes:
    """Return one event; one that has a type is named by it too."""
    if isinstance(chunk, bytes):
        return chunk
    name = f"event: {chunk['type']}\n".encode() if "type" in chunk else b""
    data = _ENCODER.encode(chunk).encode()
    return name + b"data: " + data + b"\n\n"


class Template:
    """An event that comes many times and differs in one text: written once, but for that.

    Encoding it each time would be a tenth of what a token costs here.
    """

    def __init__(self, chunk: Callable[[str], Json]) -> None:
        written = event_bytes(chunk(_GAP))
        self._before, _, self._after = written.partition(encode_basestring(_GAP).encode())

    def event(self, text: str) -> bytes:
        """Return the event with `text` in it."""
        return self._before + encode_basestring(text).encode() + self._after
