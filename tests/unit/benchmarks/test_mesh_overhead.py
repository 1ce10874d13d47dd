"""What deciding adds to the first token is paired by round and held to its bar."""

from __future__ import annotations

import pytest

from benchmarks.mesh import overhead


@pytest.mark.parametrize(("more", "verdict"), [(0.001, "2 ms: met"), (0.005, "2 ms: **not met**")])
def test_the_table_says_whether_the_bar_is_met(more, verdict):
    """By the median of the differences to the gateway that waits for no one."""
    without = [0.030 + 0.001 * (number % 5) for number in range(20)]
    seconds = {
        overhead.ENGINE: [each - 0.002 for each in without],
        overhead.WITHOUT: without,
        overhead.AGAIN: [each + 0.0001 for each in without],
        overhead.CONTROLLER: [each + more / 2 for each in without],
        overhead.WITH: [each + more for each in without],
        overhead.ENCODED: [each + 2 * more for each in without],
    }
    machine = {"processor": "a processor", "cores": 2, "commit": "abc"}
    found = overhead.table({"machine": machine, "first_token_seconds": seconds})
    assert verdict in found
    assert f"{1000 * more:+.1f} ms" in found
    assert f"{1000 * more + 2:+.1f} ms" in found
    assert "which is noise: +0.1 ms" in found
