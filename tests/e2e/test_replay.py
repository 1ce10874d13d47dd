"""What a mesh decoded under load comes again, bit for bit, from seed and trace."""

from __future__ import annotations

import pytest

from benchmarks.trust import replays
from thermesh.testing import eventually

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(300)]


async def test_answers_under_load_are_replayed_alone(mesh):
    """Policy, pinned values, programs, penalties and changes by the client, all at once."""
    found = await replays.measured(mesh.target("gateway"), mesh.target("inference"), 28)
    assert {each["answers"] for each in found["by_kind"].values()} == {4}
    assert {name: each["differ"] for name, each in found["by_kind"].items()} == dict.fromkeys(
        replays.KINDS, 0
    )
    assert found["several_temperatures"] >= 8
    await eventually(mesh.idle, 30, "an idle engine")
