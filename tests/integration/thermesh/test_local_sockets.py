"""Two rooms on one machine: frames by a Unix socket, found by a token of gRPC's stream."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from thermesh.testing import eventually
from thermesh.trunk import local
from thermesh.trunk.local import LocalSockets, SocketWire, connected
from thermesh.v1.trunk_pb2 import LocalSocket

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not local.IS_POSSIBLE, reason="only Linux has sockets without a file"),
]


@contextlib.asynccontextmanager
async def listening():
    """A server's sockets, and those that were taken from it."""
    sockets, taken = LocalSockets(), []
    sockets.listen()
    try:
        yield sockets, taken
    finally:
        for end in taken:
            end.close()
        await sockets.close()


@contextlib.contextmanager
def wires(turn_frames=16):
    """Both ends of a wire, what each heard, and which were told that the other is gone."""
    heard, lost, ends = {0: [], 1: []}, [], []
    for number, end in enumerate(socket.socketpair()):
        end.setblocking(False)

        def hear(message, number=number):
            heard[number].append(message)
            return 1

        ends.append(SocketWire(end, hear, lambda number=number: lost.append(number), turn_frames))
    try:
        yield ends, heard, lost
    finally:
        for end in ends:
            end.close()


async def test_a_token_leads_to_its_own_trunk():
    """Who brings the token is handed over, once."""
    async with listening() as (sockets, taken):
        with sockets.offered(taken.append) as offer:
            end = await connected(offer)
            again = await connected(offer)
        assert end is not None
        end.close()
    assert again is None
    assert len(taken) == 1


async def test_a_stranger_is_sent_away():
    """A wrong token, one that is no longer offered, a name that nobody has: no socket."""
    async with listening() as (sockets, taken):
        with sockets.offered(taken.append) as offer:
            wrong = LocalSocket(name=offer.name, token=b"x" * local.TOKEN_BYTES)
            nowhere = LocalSocket(name="thermesh-nobody", token=offer.token)
            assert await connected(wrong) is None
            assert await connected(nowhere) is None
            assert await connected(LocalSocket()) is None
        assert await connected(offer) is None
    assert not taken


async def test_messages_arrive_in_order_whatever_their_size():
    """Also those that are longer than what the kernel holds, and those that wait behind them."""
    messages = [b"", b"a", b"b" * 3_000_000, *(bytes([n]) * n for n in range(100))]
    with wires() as (ends, heard, _):
        drained = asyncio.Event()
        ends[0].drained = drained.set
        for message in messages:
            ends[0].send(message)
        assert ends[0].is_full
        await eventually(lambda: len(heard[1]) == len(messages), what="every message")
        await drained.wait()
        assert not ends[0].is_full
    assert heard[1] == messages


async def test_either_end_is_told_when_the_other_goes():
    """Once, and closing again is harmless."""
    with wires() as (ends, _, lost):
        ends[0].close()
        await eventually(lambda: sorted(lost) == [0, 1], what="both ends told")
        ends[0].send(b"nobody hears it")
        ends[1].close()
    assert sorted(lost) == [0, 1]


async def test_what_was_said_last_is_heard():
    """All that came before the other end went, however little is heard in a turn of the loop."""
    with wires(turn_frames=1) as (ends, heard, lost):
        for number in range(50):
            ends[0].send(bytes([number]))
        ends[0].close()
        await eventually(lambda: 1 in lost, what="the end of the wire")
    assert heard[1] == [bytes([number]) for number in range(50)]


async def test_a_length_that_no_message_has_ends_the_wire():
    """Who sends one speaks another language."""
    with wires() as (ends, heard, lost):
        ends[0]._socket.send(b"\xff\xff\xff\xff")
        await eventually(lambda: 1 in lost, what="the end of the wire")
    assert not heard[1]
