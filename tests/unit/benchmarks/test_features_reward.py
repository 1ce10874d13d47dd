"""The replayed choice of a temperature from features."""

import numpy as np
import pytest

from benchmarks.features import reward


def test_a_feature_that_tells_the_better_action_is_followed():
    """Where the sign of a feature decides, held-out choices go by it; gains are by hand."""
    x = np.array([[1.0], [-1.0]] * 60)
    y = np.where(x > 0, [[1.0, 0.0]], [[0.0, 0.5]])
    is_train = np.arange(120) < 80
    chosen = reward.choices(x, y, is_train)
    assert chosen.tolist() == [0, 1] * 20
    found = reward.gained(y[~is_train], chosen, static=0)
    assert found["mean"] == pytest.approx(0.25)
    assert found["low"] < 0.25 < found["high"]


def test_a_constant_feature_chooses_what_is_best_on_average():
    """Nothing known: the best static action, and no gain."""
    y = np.array([[0.2, 0.4]] * 10)
    is_train = np.arange(10) < 5
    chosen = reward.choices(np.ones((10, 1)), y, is_train)
    assert reward.gained(y[~is_train], chosen, static=1) == {"mean": 0.0, "low": 0.0, "high": 0.0}
