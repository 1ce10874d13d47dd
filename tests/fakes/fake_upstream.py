"""A server with OpenAI's interface that says what a test tells it to, as an ASGI application."""

from __future__ import annotations

import asyncio
import json
from typing import Any


class FakeUpstream:
    """`events` are streamed one by one; from `hold_after` on only while `gate` is set.

    `asked` keeps (path, body) of every completion; `abandoned` is set when a
    caller went away in mid-answer.
    """

    def __init__(self) -> None:
        self.models: Any = {"data": [{"id": "behind", "max_model_len": 4096, "created": 11}]}
        self.status = 200
        self.headers: list[tuple[bytes, bytes]] = []
        self.error: Any = {"error": {"message": "top_p must be in (0, 1]"}}
        self.events: list[str] = spoken("one", " two", " three")
        self.hold_after = 10**6
        self.gate = asyncio.Event()
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.keys: list[str] = []
        self.abandoned = asyncio.Event()
        self.sent = 0

    def say(self, *texts: str) -> None:
        """Answer with these tokens."""
        self.events = spoken(*texts)

    def refuse(self, reason: str) -> None:
        """Object to every request."""
        self.status, self.error = 400, {"error": {"message": reason}}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        self.keys.append(headers.get(b"authorization", b"").decode())
        if scope["path"].endswith("/models"):
            await _answer(send, self.status, self.headers, json.dumps(self.models))
            return
        body = json.loads((await receive())["body"])
        self.asked.append((scope["path"].partition("/v1/")[2], body))
        if self.status != 200:
            await _answer(send, self.status, self.headers, json.dumps(self.error))
            return
        try:
            await self._stream(send)
        except asyncio.CancelledError:
            self.abandoned.set()
            raise

    async def _stream(self, send: Any) -> None:
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        for index, event in enumerate(self.events):
            if index >= self.hold_after:
                await self.gate.wait()
            data = f"data: {event}\n\n".encode()
            await send({"type": "http.response.body", "body": data, "more_body": True})
            self.sent = index + 1
        await send({"type": "http.response.body", "body": b""})


def spoken(*texts: str, reason: str = "stop") -> list[str]:
    """The events of a chat completion that says `texts`, with its usage at the end."""
    events = [{"choices": [{"delta": {"content": text}}]} for text in texts]
    events.append({"choices": [{"delta": {}, "finish_reason": reason}]})
    usage = {"prompt_tokens": 9, "completion_tokens": len(texts)}
    events.append({"choices": [], "usage": usage})
    return [*(json.dumps(event) for event in events), "[DONE]"]


async def _answer(send: Any, status: int, headers: list[Any], body: str) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
