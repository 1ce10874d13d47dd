"""Results of an interrupted run."""

import numpy as np

from services.inference.quantise.workplace import Workplace


def test_results_outlive_the_run(tmp_path):
    """A second run with the same fingerprint finds what the first one kept."""
    first = Workplace(tmp_path / "work", {"seed": 1})
    first.keep_arrays("curvature", {"a": np.arange(3)})
    first.keep_values("costs", {"b": [1.5]})

    second = Workplace(tmp_path / "work", {"seed": 1})

    np.testing.assert_array_equal(second.arrays("curvature")["a"], np.arange(3))
    assert second.values("costs") == {"b": [1.5]}


def test_another_fingerprint_starts_anew(tmp_path):
    """Results of another model or other options are never used."""
    Workplace(tmp_path / "work", {"seed": 1}).keep_values("costs", 1)
    other = Workplace(tmp_path / "work", {"seed": 2})
    assert other.values("costs") is None
    assert other.arrays("curvature") is None


def test_a_finished_run_leaves_nothing(tmp_path):
    """Removing the workplace removes its folder."""
    Workplace(tmp_path / "work", {}).remove()
    assert list(tmp_path.iterdir()) == []
