"""The servicer's budget: the service's own, or less where the caller has less time."""

import pytest

from services.feature import server
from services.feature.metrics import Metrics
from services.feature.tally import Tally


@pytest.mark.parametrize(
    ("remaining", "budget"),
    [(None, 0.04), (10.0, 0.04), (0.025, 0.02), (0.001, 0.0), (0.0, 0.0)],
)
def test_the_budget_leaves_time_for_the_answer(monkeypatch, remaining, budget):
    """A caller with little time gets the lexical vector rather than nothing."""
    monkeypatch.setattr(server, "remaining_seconds", lambda: remaining)
    service = server.FeatureService(None, None, Metrics(Tally()), budget_seconds=0.04)
    assert budget == pytest.approx(service._budget())
