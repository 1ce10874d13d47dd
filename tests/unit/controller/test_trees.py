"""Trees as arrays say what the library that trained them says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import GradientBoostingRegressor

from benchmarks.features.forecast import INPUTS, columns, exported
from services.controller.forecasting.forecast import OUTPUTS, shipped
from services.controller.forecasting.trees import Forest
from thermesh.features import FEATURES


@pytest.fixture(scope="module")
def trained():
    """Two models of the library over INPUTS, one with branches that end early."""
    draw = np.random.default_rng(3)
    x = draw.random((300, len(INPUTS))).round(1)
    y = x[:, 0] * 3 + x[:, 5] ** 2 + draw.normal(0, 0.1, 300)
    models = []
    for leaf in (5, 90):
        model = GradientBoostingRegressor(
            loss="quantile", n_estimators=12, max_depth=3, min_samples_leaf=leaf, random_state=1
        )
        models.append(model.fit(x, y))
    return models


@given(values=st.lists(st.floats(-0.2, 1.2), min_size=len(FEATURES), max_size=len(FEATURES)))
@settings(max_examples=200, deadline=None)
def test_the_arrays_predict_what_the_library_predicts(trained, values):
    """For any input, those on a threshold among them."""
    x = np.array(values)
    x[::3] = x[::3].round(1)
    expected = [model.predict(x[None, columns(INPUTS)])[0] for model in trained]

    assert exported(trained, INPUTS).predict(x) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_asking_all_questions_at_once_ends_where_asking_one_by_one_does(depth):
    """Thresholds between two float32 among them."""
    draw = np.random.default_rng(depth)
    nodes = 2**depth - 1
    feature = draw.integers(0, 5, (2, 9, nodes))
    threshold = draw.random((2, 9, nodes)).round(2)
    forest = Forest(feature, threshold, draw.random((2, 9, nodes + 1)), draw.random(2))
    for x in draw.random((200, 5)).round(2):
        single, expected = x.astype(np.float32), forest.base.copy()
        for output, tree in np.ndindex(2, 9):
            node = 0
            while node < nodes:
                is_right = single[feature[output, tree, node]] > threshold[output, tree, node]
                node = 2 * node + 1 + is_right
            expected[output] += forest.leaf[output, tree, node - nodes]

        assert forest.predict(x) == pytest.approx(expected, abs=1e-12)


def test_one_tree_worked_out_by_hand():
    """Right above the threshold, left at it; levels from left to right."""
    forest = Forest(
        np.array([[[0, 1, 1]]]),
        np.array([[[0.5, 0.25, 0.75]]]),
        np.array([[[1.0, 2.0, 3.0, 4.0]]]),
        np.array([10.0]),
    )
    cases = {(0.5, 0.25): 11.0, (0.5, 0.26): 12.0, (0.6, 0.75): 13.0, (0.6, 0.8): 14.0}

    assert {each: forest.predict(np.array(each))[0] for each in cases} == cases


def test_trees_survive_json(trained):
    """What is stored is read back without loss."""
    forest = exported(trained, INPUTS)
    again = Forest.from_lists(json.loads(json.dumps(forest.to_lists())))
    x = np.linspace(0, 1, len(FEATURES))

    assert (again.predict(x) == forest.predict(x)).all()


@pytest.mark.parametrize(
    "changed",
    [
        {"base": [1.0, 2.0]},
        {"leaf": [[[1.0]]]},
        {"threshold": [[[np.nan]]]},
        {"feature": [[[-1]]]},
        {"feature": [[[0] * 15]], "threshold": [[[0.5] * 15]], "leaf": [[[1.0] * 16]]},
    ],
)
def test_arrays_that_do_not_fit_are_refused(changed):
    """A file that was cut or mixed up is no forest."""
    whole = {"feature": [[[0]]], "threshold": [[[0.5]]], "leaf": [[[1.0, 2.0]]], "base": [0.0]}
    with pytest.raises(ValueError, match="must"):
        Forest.from_lists({**whole, **changed})


def test_the_shipped_trees_fit_this_schema():
    """A new installation forecasts."""
    model = shipped()

    assert model is not None
    assert len(model.forest.base) == len(OUTPUTS)
