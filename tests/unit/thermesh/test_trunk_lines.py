"""One end of a call: order, the window, and the end."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermesh.errors import ResourceExhausted
from thermesh.testing import eventually
from thermesh.trunk.line import FRAME_BYTES, MOST_MESSAGE_BYTES, WINDOW_BYTES, Line
from thermesh.trunk.outgoing import MOST_BYTES, Outgoing
from thermesh.v1.trunk_pb2 import CallFrame, CallStatus


def pair():
    """Two ends of a call, and what each still has to hear."""
    posted = [], []
    return (Line(1, posted[0].append), Line(1, posted[1].append)), posted


def carry(lines, posted):
    """Let each end hear what the other sent."""
    for line, frames in zip(lines[::-1], posted, strict=True):
        for frame in frames:
            line.hear(frame, frame.WhichOneof("frame"))
        frames.clear()


@given(sizes=st.lists(st.integers(0, 60_000), max_size=30), reads=st.randoms())
def test_messages_arrive_in_order_and_never_more_than_a_window_waits(sizes, reads):
    """However reading and writing mix, what is on its way is a window and one message at most."""

    async def talk():
        (sender, reader), posted = pair()
        messages = [bytes([number]) * size for number, size in enumerate(sizes)]
        waiting, got = 0, []

        async def send():
            for message in messages:
                await sender.send(message)

        sending = asyncio.create_task(send())
        while len(got) < len(messages):
            await asyncio.sleep(0)
            waiting += sum(len(f.message) + FRAME_BYTES for f in posted[0] if f.HasField("message"))
            assert waiting <= WINDOW_BYTES + 60_000 + FRAME_BYTES
            carry((sender, reader), posted)
            if reads.random() < 0.5 and reader._inbox:
                got.append(await reader.take())
                waiting -= len(got[-1]) + FRAME_BYTES
        await sending
        return got == messages

    assert asyncio.run(talk())


async def test_the_end_comes_after_what_was_sent():
    """Messages before the status can still be read; after it there is nothing."""
    line = Line(1, lambda _: None)
    line.hear(CallFrame(call=1, message=b"last"), "message")
    line.end(CallStatus(code=5))
    line.end(CallStatus(code=6))
    assert [await line.take(), await line.take()] == [b"last", None]
    assert line.status.code == 5


async def test_who_waits_for_room_is_let_go_at_the_end():
    """A call that is over holds nobody up, and sends nothing more."""
    posted = []
    line = Line(1, posted.append)
    await line.send(b"x" * WINDOW_BYTES)
    waiting = asyncio.create_task(line.send(b"more"))
    await asyncio.sleep(0)
    line.drop(CallStatus(code=1))
    await waiting
    assert len(posted) == 1


async def test_a_message_that_fits_into_no_frame_is_refused():
    """It would end the trunk, and every call on it."""
    with pytest.raises(ResourceExhausted):
        await Line(1, lambda _: None).send(bytes(MOST_MESSAGE_BYTES + 1))


async def test_what_waits_together_leaves_together_up_to_a_bound():
    """Small frames share a message; a long one does not hold up many."""
    outgoing = Outgoing()
    for number in range(5):
        outgoing.post(CallFrame(call=number + 1, message=b"x" * (MOST_BYTES // 3)))
    outgoing.close()
    batches = [[frame.call for frame in batch] async for batch in outgoing.batches()]
    assert batches == [[1, 2, 3], [4, 5]]


class Wire:
    """A wire with room for everything; `sent` has what crossed it."""

    is_full = False

    def __init__(self):
        self.sent = []

    def send(self, message):
        self.sent.append(message)


async def test_a_call_begins_at_once_with_its_first_message():
    """What else this turn of the loop does comes after; one without a message waits for none."""
    outgoing, wire = Outgoing(), Wire()
    outgoing.carry_by(wire, lambda frames: [frame.call for frame in frames])
    outgoing.hold(CallFrame(call=1))
    assert wire.sent == []
    outgoing.post(CallFrame(call=1))
    assert wire.sent == [[1, 1]]
    outgoing.hold(CallFrame(call=2))
    await eventually(lambda: wire.sent == [[1, 1], [2]], what="the call without a message")
