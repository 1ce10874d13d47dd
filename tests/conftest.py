"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import grpc
import hypothesis
import pytest

from thermesh.testing import FakeClock, RedisServer, redis_server

# Triton's kernels are interpreted here, on the CPU. Triton reads this when it is
# imported, which any library may do first. `make gpu-check` is for the device.
os.environ.setdefault("TRITON_INTERPRET", "1")

# How long an example takes says more of the machine than of the code; speed is
# proven in benchmarks.
hypothesis.settings.register_profile("thermesh", deadline=None)
hypothesis.settings.load_profile("thermesh")


@pytest.fixture(scope="session", autouse=True)
def grpc_engine() -> None:
    """Keeps gRPC's asyncio engine up for the whole session.

    It stops with the last channel, server or call and destroys its completion
    queue under the thread that polls it. Programs do that once, at their end;
    hundreds of tests in one process would meet the race.
    """

    async def start() -> None:
        grpc.aio.init_grpc_aio()

    asyncio.run(start())


@pytest.fixture
def clock() -> FakeClock:
    """A clock that goes on only when told to."""
    return FakeClock()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A real redis-server of the test's own."""
    with redis_server() as server:
        yield server
