"""A real gateway between a real client and scripted neighbours."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import gateway_fakes as fakes
import httpx
import openai
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.gateway.config import Config
from services.gateway.gateway import Gateway
from services.gateway.rest import middleware
from thermesh import rpc
from thermesh.v1 import chat_pb2_grpc, feedback_pb2_grpc


@dataclass
class Served:
    """A gateway that runs, its neighbours and its clients."""

    gateway: Gateway
    neighbours: fakes.Neighbours
    http: httpx.AsyncClient
    reader: InMemoryMetricReader
    http_port: int = 0
    grpc_port: int = 0

    @property
    def inference(self):
        """The scripted inference service."""
        return self.neighbours.inference

    @property
    def controller(self):
        """The scripted controller."""
        return self.neighbours.controller

    @property
    def feature(self):
        """The scripted feature service."""
        return self.neighbours.feature

    async def chat(self, **options):
        """Ask for a chat completion that is not streamed."""
        return await self.http.post("/v1/chat/completions", json=chat_body(**options))

    def count(self, metric, **attributes):
        """Sum of a counter over the points that carry `attributes`; observations of a histogram."""
        return sum(
            getattr(point, "count", None) or getattr(point, "value", 0)
            for point in self._points(metric)
            if attributes.items() <= dict(point.attributes).items()
        )

    def _points(self, metric):
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for found in scope.metrics:
                    if found.name == metric:
                        yield from found.data.data_points


def chat_body(**options):
    """The body of a chat completion."""
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    return {"model": fakes.MODEL, "messages": messages} | options


def config_of(neighbours, **options):
    """Settings of a gateway in front of `neighbours`, on free ports, with generous budgets.

    Budgets are wide because the machine that runs tests may be busy; tests of
    budgets set their own.
    """
    targets = {f"{name}_target": f"127.0.0.1:{port}" for name, port in neighbours.ports.items()}
    values = {
        "http_port": 0,
        "grpc_port": 0,
        "grace_s": 0,
        "extract_budget_ms": 10_000,
        "decide_budget_ms": 10_000,
        "plan_grace_ms": 1000,
        "redis_url": "redis://127.0.0.1:1/0",
    }
    return Config(**(values | targets | options))


@pytest.fixture
async def neighbours() -> AsyncIterator[fakes.Neighbours]:
    """Scripted neighbours that run."""
    running = fakes.Neighbours()
    await running.start_all()
    yield running
    await running.stop_all()


@pytest.fixture
async def serve(neighbours) -> AsyncIterator[Callable]:
    """A function that starts a gateway with real ports; settings are its arguments."""
    started = []

    async def start(speech=None, clock=None, voice=None, **options):
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader])
        config = config_of(neighbours, **options)
        gateway = Gateway(config, provider.get_meter("test"), clock, voice, speech)
        http_port, grpc_port = await gateway.start()
        client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{http_port}", timeout=60)
        served = Served(gateway, neighbours, client, reader, http_port, grpc_port)
        started.append((served, provider))
        return served

    yield start
    for served, provider in started:
        await served.http.aclose()
        await served.gateway.drain()
        provider.shutdown()


@pytest.fixture
async def served(serve) -> Served:
    """A gateway with real ports."""
    return await serve()


@pytest.fixture
def spans(monkeypatch):
    """Spans of the REST door, kept in memory."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(middleware, "tracer", lambda: provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


@pytest.fixture
async def serve_app(neighbours) -> AsyncIterator[Callable]:
    """A function that makes a gateway called in process, without a port: fast."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(clock=None, **options):
            reader = InMemoryMetricReader()
            provider = MeterProvider([reader])
            stack.callback(provider.shutdown)
            config = config_of(neighbours, **options)
            gateway = Gateway(config, provider.get_meter("test"), clock)
            stack.push_async_callback(gateway.close_peers)
            transport = httpx.ASGITransport(gateway.app, raise_app_exceptions=False)
            opened = httpx.AsyncClient(transport=transport, base_url="http://test")
            client = await stack.enter_async_context(opened)
            return Served(gateway, neighbours, client, reader)

        yield start


@pytest.fixture
async def app(serve_app) -> Served:
    """A gateway whose REST application is called in process, with the usual settings."""
    return await serve_app()


@contextlib.asynccontextmanager
async def native_door(neighbours, **options) -> AsyncIterator[Served]:
    """A gateway with its gRPC door only: uvicorn takes its time to stop."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    gateway = Gateway(config_of(neighbours, **options), provider.get_meter("test"))
    grpc_port = await gateway._grpc.start()
    transport = httpx.ASGITransport(gateway.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield Served(gateway, neighbours, client, reader, grpc_port=grpc_port)
    await gateway._grpc.drain()
    await gateway._talks.close()
    await gateway.close_peers()
    provider.shutdown()


@pytest.fixture
async def native(neighbours) -> AsyncIterator[Served]:
    """A gateway with its gRPC door only, with the usual settings."""
    async with native_door(neighbours) as served:
        yield served


@pytest.fixture
async def openai_client(served) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client."""
    async with openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{served.http_port}/v1",
        api_key="unused",
        max_retries=0,
    ) as client:
        yield client


@pytest.fixture
async def chat_stub(native) -> AsyncIterator[chat_pb2_grpc.ChatServiceStub]:
    """A native client."""
    channel = rpc.connect(f"127.0.0.1:{native.grpc_port}")
    yield chat_pb2_grpc.ChatServiceStub(channel)
    await channel.close()


@pytest.fixture
async def feedback_stub(native) -> AsyncIterator[feedback_pb2_grpc.FeedbackServiceStub]:
    """A native client of the feedback service."""
    channel = rpc.connect(f"127.0.0.1:{native.grpc_port}")
    yield feedback_pb2_grpc.FeedbackServiceStub(channel)
    await channel.close()
