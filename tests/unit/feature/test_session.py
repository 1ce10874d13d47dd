"""Sessions: what a conversation was about, and whose it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.feature.cache import MemoryStore
from services.feature.session import Session, SessionName, Sessions, begin, pack, unpack

NAME = SessionName("acme", "talk-1")
EAST, NORTH = (np.eye(2, dtype=np.float32)[axis] for axis in (0, 1))


def sessions_of(shared, clock):
    return Sessions(MemoryStore(100, clock), shared, dimensions=2, ttl_seconds=60)


def test_the_mean_is_that_of_all_turns():
    """Three turns weigh a third each."""
    session = begin(EAST).after(NORTH).after(NORTH)
    assert session.turns == 3
    np.testing.assert_allclose(session.mean, [1 / 3, 2 / 3], rtol=1e-6)


@pytest.mark.parametrize(("now", "shift"), [(EAST, 0.0), (NORTH, 0.5), (-EAST, 1.0)])
def test_topic_shift_is_half_the_cosine_distance(now, shift):
    """Same direction 0, at right angles a half, opposite 1."""
    assert begin(EAST).topic_shift(now) == pytest.approx(shift)


async def test_replicas_share_a_session(clock):
    """A turn answered by one replica counts at the other."""
    shared = MemoryStore(100, clock)
    await sessions_of(shared, clock).put(NAME, begin(EAST))
    found = await sessions_of(shared, clock).get(NAME)
    assert found.turns == 1


async def test_the_longer_memory_wins(clock):
    """What a replica learned while the shared store was away outlives an older state."""
    shared = MemoryStore(100, clock)
    mine = sessions_of(shared, clock)
    await mine.put(NAME, begin(EAST).after(NORTH))
    await sessions_of(shared, clock).put(NAME, begin(EAST))
    assert (await mine.get(NAME)).turns == 2


async def test_a_session_ends_with_its_time_to_live(clock):
    """Silence long enough makes the next turn a first one."""
    sessions = sessions_of(MemoryStore(100, clock), clock)
    await sessions.put(NAME, begin(EAST))
    clock.advance(61)
    assert await sessions.get(NAME) is None


@pytest.mark.parametrize("other", [SessionName("acme", "talk-2"), SessionName("evil", "talk-1")])
def test_a_value_of_another_session_is_not_believed(other):
    """A reply that was meant for another key leaks nothing."""
    assert unpack(other, pack(NAME, begin(EAST))) is None
    assert unpack(NAME, pack(NAME, begin(EAST))).turns == 1


async def test_a_session_of_another_encoder_is_not_used(clock):
    """Two widths cannot be compared."""
    shared = MemoryStore(100, clock)
    await sessions_of(shared, clock).put(NAME, Session(1, np.ones(3, np.float32)))
    assert await sessions_of(shared, clock).get(NAME) is None


@given(st.binary(max_size=48))
def test_no_bytes_make_unpack_fail(value):
    """Whatever a shared store holds, it is a finite session or nothing."""
    session = unpack(NAME, value)
    assert session is None or np.isfinite(session.mean).all()
    spoiled = pack(NAME, begin(EAST))[: len(value)] + value
    session = unpack(NAME, spoiled)
    assert session is None or np.isfinite(session.mean).all()
