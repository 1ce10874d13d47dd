"""The ways into a running mesh, each as a function that asks once and times it.

All ask for the same kind of answer, so that what differs is the way. Prompts
are drawn from many, because a text asked twice is answered from caches.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import httpx

from thermesh.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    common_pb2,
    controller_pb2,
    controller_pb2_grpc,
    feature_pb2,
    feature_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
)

CALL_SECONDS = 5.0
STREAM_SECONDS = 120.0

_QUESTIONS = (
    "Why do people love {}? Explain it to a curious child in two or three sentences.",
    "What is special about {}? Answer a curious child in two or three sentences.",
    "Write the beginning of a story about {}, two or three sentences for a curious child.",
    "How did travellers speak of {} long ago? Tell a curious child in two or three sentences.",
)
_ADJECTIVES = ("old", "small", "famous", "distant", "quiet", "northern", "wooden", "golden")
_TEMPERS = ("forgotten", "foreign", "sunny", "crowded", "frozen", "gentle", "lonely", "proud")
_SIZES = ("tall", "narrow", "round", "heavy", "tiny", "hollow", "bright", "crooked")
_THINGS = ("lanterns", "volcanoes", "bridges", "violins", "deserts", "windmills", "comets", "kites")


@dataclass
class Stream:
    """When the parts of one answer arrived, in seconds since it was asked for."""

    asked_at: float = field(default_factory=time.perf_counter)
    arrivals: list[float] = field(default_factory=list)
    token_count: int = 0

    def arrived(self, tokens: int) -> None:
        """Note that `tokens` more have arrived now."""
        self.arrivals.append(time.perf_counter() - self.asked_at)
        self.token_count += tokens

    @property
    def first_token_seconds(self) -> float:
        """From the question to the first text; raises IndexError where none came."""
        return self.arrivals[0]


@dataclass(frozen=True)
class Targets:
    """Where the mesh is."""

    rest: str
    gateway: str
    feature: str
    controller: str
    inference: str


def prompt(kind: int) -> str:
    """Return a question of a usual length that was hardly asked before, of one of four kinds.

    Nearly as real ones, two thirds are told apart at a glance, the others by the encoder.
    """
    thing = " ".join(map(random.choice, (_ADJECTIVES, _TEMPERS, _SIZES, _THINGS)))
    return _QUESTIONS[kind % len(_QUESTIONS)].format(thing)


def context() -> common_pb2.RequestContext:
    """Return the context of a request of its own."""
    return common_pb2.RequestContext(request_id=f"bench-{uuid.uuid4().hex}", tenant="benchmark")


def messages(text: str) -> list[common_pb2.ChatMessage]:
    """Return a conversation of one user turn."""
    return [common_pb2.ChatMessage(role=common_pb2.ROLE_USER, content=text)]


async def extract(channel: grpc.aio.Channel, kind: int) -> feature_pb2.FeatureVector:
    """Ask feature for the vector of a new text."""
    request = feature_pb2.ExtractRequest(context=context(), text=prompt(kind), turn_count=1)
    stub = feature_pb2_grpc.FeatureServiceStub(channel)
    return (await stub.Extract(request, timeout=CALL_SECONDS)).features


async def decide(channel: grpc.aio.Channel, features: feature_pb2.FeatureVector) -> None:
    """Ask the controller for a plan for known features."""
    request = controller_pb2.DecideRequest(context=context(), features=features)
    await controller_pb2_grpc.ControllerServiceStub(channel).Decide(request, timeout=CALL_SECONDS)


async def generate(channel: grpc.aio.Channel, kind: int, max_tokens: int) -> Stream:
    """Stream an answer from inference itself, at a fixed temperature."""
    program = common_pb2.TemperatureProgram(fixed=common_pb2.FixedProgram(temperature=0.7))
    start = inference_pb2.GenerationStart(
        context=context(),
        chat=common_pb2.ChatInput(messages=messages(prompt(kind))),
        sampling=common_pb2.Sampling(program=program),
        max_tokens=max_tokens,
    )
    call = inference_pb2_grpc.InferenceServiceStub(channel).Generate(
        _once(inference_pb2.GenerateRequest(start=start)), timeout=STREAM_SECONDS
    )
    return await _tokens(call)


async def converse(channel: grpc.aio.Channel, kind: int, max_tokens: int) -> Stream:
    """Stream an answer through the gateway's gRPC door, temperature decided."""
    start = chat_pb2.ConverseStart(
        context=context(),
        messages=messages(prompt(kind)),
        constraints=controller_pb2.Constraints(max_tokens=max_tokens),
    )
    call = chat_pb2_grpc.ChatServiceStub(channel).Converse(
        _once(chat_pb2.ConverseRequest(start=start)), timeout=STREAM_SECONDS
    )
    return await _tokens(call)


async def complete(client: httpx.AsyncClient, model: str, kind: int, max_tokens: int) -> Stream:
    """Stream an answer through REST and SSE, temperature decided."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt(kind)}],
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    stream = Stream()
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code != httpx.codes.OK:
            await response.aread()
            response.raise_for_status()
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                _note(stream, json.loads(line.removeprefix("data: ")))
    return stream


def _note(stream: Stream, event: dict[str, object]) -> None:
    choices = event.get("choices")
    if isinstance(choices, list) and choices and choices[0].get("delta", {}).get("content"):
        stream.arrived(0)  # how many tokens a chunk holds is only known in the end
    usage = event.get("usage")
    if isinstance(usage, dict):
        stream.token_count = int(usage["completion_tokens"])


async def _tokens(call: grpc.aio.StreamStreamCall) -> Stream:
    stream = Stream()
    try:
        async for response in call:
            if response.WhichOneof("message") == "tokens":
                stream.arrived(len(response.tokens.tokens))
    finally:
        call.cancel()
    return stream


async def _once(message: object) -> AsyncIterator[object]:
    yield message
