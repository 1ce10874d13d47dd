"""The ways to an answer, made to cost the client as little as can be.

Client and mesh share two cores, so what the client burns the mesh lacks: the
SSE client is a bare socket that looks for lines, without a library's layers.
Each way is a function from a question to what came of it and when.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from benchmarks.load.house import House
from benchmarks.load.stub import is_stamp, made_at
from thermesh import rpc
from thermesh.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    common_pb2,
    controller_pb2,
    inference_pb2,
    inference_pb2_grpc,
)

STREAM_SECONDS = 120.0
NO_END = {0: -100.0, 2: -100.0}
"""Bias that keeps the default model from ending: its end of text and of turn."""

_numbers = itertools.count()


@dataclass
class Answer:
    """One answer, times on the monotonic clock in seconds.

    `travels` has of every message how long it was under way since the stub made it.
    """

    asked_at: float = field(default_factory=time.monotonic)
    arrivals: list[float] = field(default_factory=list)
    travels: list[float] = field(default_factory=list)
    token_count: int = 0
    tenant: str = ""
    status: int = 200
    retry_after: str = ""
    ended_at: float = 0.0
    is_whole: bool = False

    def arrived(self, text: str) -> None:
        """Note a message with tokens that came now; a merged one counts for each of its tokens."""
        now = time.monotonic()
        self.arrivals.append(now)
        pieces = text.split()
        self.token_count += len(pieces)
        if not (pieces and is_stamp(pieces[0])):
            return  # words of a real model
        if pieces[0] == pieces[-1]:  # of one message of the stub
            self.travels.extend([now - made_at(pieces[0])] * len(pieces))
        else:
            self.travels.extend(now - made_at(piece) for piece in pieces)

    @property
    def first_seconds(self) -> float:
        """From the question to the first token; raises IndexError where none came."""
        return self.arrivals[0] - self.asked_at


@dataclass(frozen=True)
class Question:
    """What is asked; an `endless` answer is not ended by the model."""

    max_tokens: int
    tenant: str = "benchmark"
    priority: str = "interactive"
    key: str = ""
    padding: str = ""
    model: str = "stub"
    endless: bool = False

    def text(self) -> str:
        """Return a question of usual length that was not asked before."""
        number = f"{next(_numbers)}-{time.monotonic_ns():x}"
        return (
            f"Request {number}: in two or three sentences, why is the sky blue by day?"
            + self.padding
        )


async def inference(channel: grpc.aio.Channel, question: Question) -> Answer:
    """Ask the engine itself."""
    program = common_pb2.TemperatureProgram(fixed=common_pb2.FixedProgram(temperature=0.7))
    user = common_pb2.ChatMessage(role=common_pb2.ROLE_USER, content=question.text())
    start = inference_pb2.GenerationStart(
        context=_context(question),
        chat=common_pb2.ChatInput(messages=[user]),
        sampling=common_pb2.Sampling(program=program),
        max_tokens=question.max_tokens,
        ignore_end_of_sequence=question.endless,
    )
    stub = inference_pb2_grpc.InferenceServiceStub(channel)
    request = inference_pb2.GenerateRequest(start=start)
    return await _read(stub.Generate(_once(request), timeout=STREAM_SECONDS))


async def converse(
    channel: grpc.aio.Channel, question: Question, seconds: float = STREAM_SECONDS
) -> Answer:
    """Ask the gateway's gRPC door; the temperature is decided."""
    user = common_pb2.ChatMessage(role=common_pb2.ROLE_USER, content=question.text())
    start = chat_pb2.ConverseStart(
        context=_context(question),
        messages=[user],
        constraints=controller_pb2.Constraints(
            max_tokens=question.max_tokens, logit_bias=NO_END if question.endless else {}
        ),
    )
    stub = chat_pb2_grpc.ChatServiceStub(channel)
    request = chat_pb2.ConverseRequest(start=start)
    return await _read(stub.Converse(_once(request), timeout=seconds))


class Rest:
    """The REST door over connections that are kept and used again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def complete(self, question: Question) -> Answer:
        """Ask for a streamed chat completion; the temperature is decided."""
        while self._idle:
            try:
                return await self._completed(question, *self._idle.pop())
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise
                # closed as idle while the request was written: RFC 9112, 9.3.1
        return await self._completed(question, *await self._connect())

    async def _completed(
        self, question: Question, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Answer:
        answer = Answer()
        answer.asked_at = time.monotonic()
        writer.write(request_bytes(question))
        try:
            await _read_http(reader, answer)
        except BaseException:
            writer.transport.abort()
            raise
        self._idle.append((reader, writer))
        return answer

    async def open(self, question: Question) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Ask on a connection of its own, which the caller reads and ends."""
        reader, writer = await self._connect()
        writer.write(request_bytes(question))
        return reader, writer

    async def close(self) -> None:
        """Close the connections."""
        while self._idle:
            _, writer = self._idle.pop()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)


@dataclass
class Doors:
    """Open connections to one mesh."""

    engine: grpc.aio.Channel
    gateway: grpc.aio.Channel
    rest: Rest

    def asks(self, question: Question) -> dict[str, Callable[[], Awaitable[Answer]]]:
        """Return each way to an answer to `question`, by its name in the results."""
        return {
            "engine": lambda: inference(self.engine, question),
            "grpc": lambda: converse(self.gateway, question),
            "rest": lambda: self.rest.complete(question),
        }


@contextlib.asynccontextmanager
async def opened(mesh: House) -> AsyncIterator[Doors]:
    """Connect to every door of a mesh."""
    doors = Doors(
        rpc.connect(mesh.target("inference")),
        rpc.connect(mesh.target("gateway")),
        Rest(mesh.ports["http"]),
    )
    try:
        yield doors
    finally:
        await doors.rest.close()
        await doors.gateway.close()
        await doors.engine.close()


def request_bytes(question: Question) -> bytes:
    """Return a request for a streamed chat completion as it goes over the wire."""
    body = json.dumps(
        {
            "model": question.model,
            "messages": [{"role": "user", "content": question.text()}],
            "max_tokens": question.max_tokens,
            "stream": True,
            "logit_bias": NO_END if question.endless else {},
            "thermesh": {"priority": question.priority, "tenant": question.tenant},
        }
    ).encode()
    key = f"Authorization: Bearer {question.key}\r\n" if question.key else ""
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: mesh\r\n"
        f"Content-Type: application/json\r\n{key}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _read_http(reader: asyncio.StreamReader, answer: Answer) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    answer.status = int(head[9:12])
    headers = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if line)
    answer.retry_after = headers.get(b"retry-after", b"").decode()
    length = headers.get(b"content-length")
    if length is not None:
        await reader.readexactly(int(length))
        answer.ended_at = time.monotonic()
        return
    await _read_chunks(reader, answer)


async def _read_chunks(reader: asyncio.StreamReader, answer: Answer) -> None:
    """Read chunked transfer coding (RFC 9112, section 7.1) with server-sent events in it."""
    while size := int(await reader.readline(), 16):
        chunk = (await reader.readexactly(size + 2))[:-2]
        for event in chunk.split(b"\n\n"):
            if event == b"data: [DONE]":
                answer.is_whole = True
            elif event.startswith(b"data: ") and (text := _content(event[6:])):
                answer.arrived(text)
    await reader.readline()
    answer.ended_at = time.monotonic()


def _content(data: bytes) -> str:
    # The text of the stub needs no unescaping, so that no JSON has to be parsed.
    _, found, rest = data.partition(b'"content":"')
    return rest[: rest.index(b'"')].decode() if found else ""


async def _read(call: Any) -> Answer:
    answer = Answer()
    try:
        async for response in call:
            kind = response.WhichOneof("message")
            if kind == "tokens":
                answer.arrived("".join([token.text for token in response.tokens.tokens]))
            elif kind == "end":
                answer.is_whole = True
    except grpc.aio.AioRpcError as error:
        answer.status = 429 if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED else 503
    finally:
        call.cancel()
    answer.ended_at = time.monotonic()
    return answer


def _context(question: Question) -> common_pb2.RequestContext:
    return common_pb2.RequestContext(
        request_id=f"bench-{next(_numbers)}-{time.monotonic_ns():x}",
        tenant=question.tenant,
        priority=f"PRIORITY_{question.priority.upper()}",
    )


async def _once(message: object) -> AsyncIterator[object]:
    yield message
