"""Fixtures that several rooms' tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from thermesh.testing import FakeClock, RedisServer, redis_server


@pytest.fixture
def clock() -> FakeClock:
    """A clock that goes on only when told to."""
    return FakeClock()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A real redis-server of the test's own."""
    with redis_server() as server:
        yield server
