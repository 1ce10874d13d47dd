"""A real gRPC server on the fake model, and a client's side of Generate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import torch
from fake_model import FakeConfig, FakeModel, FakeNetwork

from services.inference.config import Config
from services.inference.service import Service
from thermesh import rpc
from thermesh.testing import free_port
from thermesh.v1 import common_pb2, inference_pb2, inference_pb2_grpc

# Test processes share the cores; threads of tiny steps would only wait for each other.
torch.set_num_threads(1)


class Served:
    """A running service: `stub` for calls, `network` and `engine` to look inside."""

    def __init__(self, service: Service, model: FakeModel, channel: Any) -> None:
        self.service = service
        self.target = f"127.0.0.1:{service.server.port}"
        self.engine = service.engine
        self.network = model.network
        self.channel = channel
        self.stub = inference_pb2_grpc.InferenceServiceStub(channel)

    async def open(self, prompt: str = "hello", **start: Any) -> Call:
        """Open a Generate call with a start message."""
        call = Call(self.stub.Generate())
        await call.say(start=start_message(prompt, **start))
        return call

    def is_idle(self) -> bool:
        """Tell whether nothing of any request is left."""
        load = self.engine.load()
        return not (load.running or load.waiting or load.kv_pages_used or load.open_streams)


class Call:
    """The client's side of one Generate."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.seen: list[inference_pb2.GenerateResponse] = []

    async def say(self, **message: Any) -> None:
        """Send one message."""
        await self.call.write(inference_pb2.GenerateRequest(**message))

    async def hear(self) -> inference_pb2.GenerateResponse | None:
        """Read one message; None after the last."""
        message = await asyncio.wait_for(self.call.read(), 60)
        if not isinstance(message, inference_pb2.GenerateResponse):
            return None
        self.seen.append(message)
        return message

    async def hear_tokens(self, count: int) -> None:
        """Read until `count` tokens were seen."""
        while len(self.tokens) < count:
            assert await self.hear() is not None, "the stream ended early"

    async def hear_all(self) -> list[inference_pb2.GenerateResponse]:
        """Read to the end; return all messages seen."""
        while await self.hear() is not None:
            pass
        return self.seen

    def of(self, kind: str) -> list[Any]:
        """Messages of one kind so far."""
        return [getattr(one, kind) for one in self.seen if one.WhichOneof("message") == kind]

    @property
    def tokens(self) -> list[common_pb2.Token]:
        """Tokens so far."""
        return [token for chunk in self.of("tokens") for token in chunk.tokens]

    @property
    def text(self) -> str:
        """Text so far."""
        return "".join(token.text for token in self.tokens)


def fixed(temperature: float) -> common_pb2.TemperatureProgram:
    """A fixed program."""
    return common_pb2.TemperatureProgram(fixed=common_pb2.FixedProgram(temperature=temperature))


def start_message(prompt: str = "hello", **start: Any) -> inference_pb2.GenerationStart:
    """A start with defaults that make tests short and repeatable."""
    defaults: dict[str, Any] = {
        "sampling": common_pb2.Sampling(program=fixed(1.0)),
        "max_tokens": 8,
        "seed": 7,
    }
    if not {"chat", "tokens"} & start.keys():
        defaults["prompt"] = prompt
    return inference_pb2.GenerationStart(**{**defaults, **start})


def make_service(controller_port: int | None = None, **config: Any) -> tuple[Service, FakeModel]:
    """A service on the fake model; its controller is away unless a port is given."""
    model = FakeModel(config=FakeConfig(context_length=2048), network=FakeNetwork())
    target = f"127.0.0.1:{controller_port or free_port()}"
    settings = {"port": 0, "grace_seconds": 0.2, "kv_pages": 512, **config}
    service = Service(Config(controller_target=target, **settings), model, "replica-1")
    return service, model


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A service with few places, and a channel to it."""
    service, model = make_service(max_running=4, max_waiting=2)
    channel = rpc.connect(f"127.0.0.1:{await service.start()}")
    yield Served(service, model, channel)
    model.network.gate.set()
    await channel.close()
    await service.stop()
