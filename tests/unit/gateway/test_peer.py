"""A call to a neighbour whose caller goes away."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from services.gateway.mesh.peer import BRIEF_SECONDS, Peer
from services.gateway.observability.instruments import Instruments


class Call:
    """One that ends when the test says so, or is cancelled."""

    def __init__(self) -> None:
        self.answer = asyncio.get_running_loop().create_future()
        self.was_cancelled = False

    def __await__(self):
        return self.answer.__await__()

    def cancel(self) -> bool:
        self.was_cancelled = True
        return True


@pytest.mark.parametrize("timeout", [BRIEF_SECONDS, 2 * BRIEF_SECONDS])
async def test_only_a_long_call_is_cancelled_with_its_caller(clock, timeout):
    """A brief one is left to end by itself."""
    instruments = Instruments(NoOpMeterProvider().get_meter("test"))
    peer, begun = Peer("feature", None, instruments, clock), Call()
    calling = asyncio.create_task(peer.call(lambda _, timeout: begun, None, timeout, str))
    await asyncio.sleep(0)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling

    assert begun.was_cancelled is (timeout > BRIEF_SECONDS)
    assert begun.answer.cancelled() is (timeout > BRIEF_SECONDS)
