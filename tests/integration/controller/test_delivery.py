"""The benchmark of exactly-once delivery, at a size that a test can bear."""

from __future__ import annotations

import pytest

from benchmarks.trust import delivery


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_nothing_is_lost_or_doubled_while_everything_is_killed(tmp_path):
    """400 pieces of feedback in two runs on one store, four kills, two restarts of Redis."""
    runs = [
        delivery.measured(delivery.Load(200, kills=2, restarts=1, seed=seed), tmp_path)
        for seed in (1, 2)
    ]
    assert [each["lost"] for each in runs] == [0, 0]
    assert [each["double"] for each in runs] == [0, 0]
    assert [each["bit_equal"] for each in runs] == [True, True]
    assert [each["began_from"] for each in runs] == [0, 200]
