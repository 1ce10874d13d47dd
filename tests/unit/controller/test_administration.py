"""Promotion and rollback publish older parameters under new numbers."""

from __future__ import annotations

import numpy as np
import pytest

from services.controller.administration import promote, roll_back
from services.controller.decisions.records import PolicyVersion
from services.controller.policies.gaussian import Parameters, prior
from services.controller.storage.memory_store import MemoryStore
from thermesh.errors import Aborted, FailedPrecondition, NotFound


def parameters(number):
    """Parameters that tell which version they were made for."""
    return Parameters.from_lists({**prior().to_lists(), "b2": [float(number)]})


@pytest.fixture
async def store():
    """Three versions, the third live."""
    store = MemoryStore()
    for number, reason in ((1, "prior"), (2, "learned"), (3, "learned")):
        version = PolicyVersion(number, parameters(number), 1, reason, number - 1, 10 * number)
        await store.publish(version, number - 1)
    return store


async def test_promotion_publishes_old_parameters_under_a_new_number(store, clock):
    """Parameters and feedback count are those of the source."""
    promoted = await promote(store, clock, 1, expected_live=3)

    assert await store.live_version() == promoted.version == 4
    assert (promoted.reason, promoted.parent_version, promoted.feedback_count) == (
        "promoted",
        1,
        10,
    )
    assert np.array_equal(promoted.parameters.b2, [1.0])


async def test_promotion_of_what_is_not_there_is_refused(store, clock):
    """NOT_FOUND, and nothing changes."""
    with pytest.raises(NotFound):
        await promote(store, clock, 9, expected_live=0)

    assert await store.live_version() == 3


@pytest.mark.parametrize("act", [lambda s, c: promote(s, c, 1, 2), lambda s, c: roll_back(s, c, 2)])
async def test_a_wrong_expectation_aborts(store, clock, act):
    """Who acts on what is not live any more has to look again."""
    with pytest.raises(Aborted):
        await act(store, clock)

    assert await store.live_version() == 3


async def test_rolling_back_twice_goes_back_two_versions(store, clock):
    """Not back and forth."""
    first = await roll_back(store, clock, expected_live=3)
    second = await roll_back(store, clock, expected_live=0)

    assert [first.version, second.version] == [4, 5]
    assert [first.parent_version, second.parent_version] == [2, 1]
    assert second.reason == "rolled_back"
    with pytest.raises(FailedPrecondition):
        await roll_back(store, clock, expected_live=0)


async def test_rolling_back_a_promotion_undoes_it(store, clock):
    """What was live before it is live again."""
    await promote(store, clock, 1, expected_live=0)
    back = await roll_back(store, clock, expected_live=0)

    assert back.parent_version == 3


async def test_the_prior_has_nothing_before_it(clock):
    """FAILED_PRECONDITION."""
    store = MemoryStore()
    await store.publish(PolicyVersion(1, prior(), 1, "prior", 0, 0), 0)

    with pytest.raises(FailedPrecondition):
        await roll_back(store, clock, expected_live=0)


async def test_losing_the_race_to_publish_aborts(store, clock, monkeypatch):
    """Another publication between read and write is not overwritten."""
    monkeypatch.setattr(store, "_published", lambda *_: False)

    with pytest.raises(Aborted):
        await promote(store, clock, 1, expected_live=0)
