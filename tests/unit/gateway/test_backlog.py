"""What waits for a slow client: in order, bounded, tokens together."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.backlog import MOST_TOGETHER, Backlog
from services.gateway.events import Accepted, Tokens
from thermesh.v1 import common_pb2


def tokens(first, count):
    """Tokens from index `first` on."""
    return Tokens(tuple(common_pb2.Token(index=first + place) for place in range(count)))


def indices(events):
    """Indices of the tokens in some events."""
    return [token.index for event in events for token in event.tokens]


async def test_who_keeps_up_gets_each_token_by_itself():
    """Nothing is held back to travel with what comes later."""
    backlog = Backlog()
    for index in range(3):
        await backlog.put(tokens(index, 1))
        assert indices([await backlog.get()]) == [index]


async def test_tokens_that_wait_together_leave_together():
    """Only neighbours are joined: what lies between keeps its place."""
    backlog = Backlog()
    for event in (tokens(0, 1), tokens(1, 2), Accepted("m", 1), tokens(3, 1)):
        await backlog.put(event)

    assert len(backlog) == 3
    assert indices([await backlog.get()]) == [0, 1, 2]
    assert await backlog.get() == Accepted("m", 1)
    assert indices([await backlog.get()]) == [3]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_no_token_is_lost_and_none_overtakes(sizes):
    """Whatever the sizes: the same tokens in the same order, joined only up to the bound."""

    async def passed():
        backlog, first = Backlog(most_events=1000), 0
        for size in sizes:
            await backlog.put(tokens(first, size))
            first += size
        return [await backlog.get() for _ in range(len(backlog))]

    events = asyncio.run(passed())
    assert indices(events) == list(range(sum(sizes)))
    assert all(len(event.tokens) <= max(MOST_TOGETHER, *sizes) for event in events)


async def test_a_full_backlog_makes_its_writer_wait():
    """The bound holds until something is taken."""
    backlog = Backlog(most_events=1)
    await backlog.put(Accepted("first", 1))
    writing = asyncio.create_task(backlog.put(Accepted("second", 1)))
    await asyncio.sleep(0)
    assert not writing.done()
    assert (await backlog.get()).model == "first"
    await writing
    assert (await backlog.get()).model == "second"


async def test_nobody_waits_to_add_what_nobody_takes():
    """After the end a full backlog lets go of who waits, and drops what comes."""
    backlog = Backlog(most_events=1)
    await backlog.put(Accepted("m", 1))
    waiting = asyncio.create_task(backlog.put(Accepted("m", 2)))
    await asyncio.sleep(0)
    backlog.close()
    await waiting
    await backlog.put(Accepted("m", 3))

    assert len(backlog) == 1
