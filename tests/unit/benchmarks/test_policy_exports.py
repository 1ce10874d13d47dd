"""The study's curves elsewhere: every point once, under its name, and clear refusals."""

from __future__ import annotations

import sys
import types

import pytest

from benchmarks.policy import exports

FOUND = {
    "matrix": {"model": "m"},
    "learned": {"T": {"Thompson": {"curve": [0.5, 0.75]}, "tuning": {"seeds": 1}}, "wide": {}},
}
POINTS = [("T/Thompson", 100, 0.5), ("T/Thompson", 200, 0.75)]


class Told:
    """Takes down what either of the two libraries is told."""

    def __init__(self, place):
        self.place, self.points, self.is_ended = place, [], False

    def add_scalar(self, name, value, step):
        """TensorBoard's way."""
        self.points.append((name, step, value))

    def log(self, values):
        """The way of Weights & Biases."""
        step = values["feedback"]
        self.points += [(name, step, each) for name, each in values.items() if name != "feedback"]

    def end(self):
        """Nothing comes after."""
        self.is_ended = True

    close = finish = end


@pytest.fixture
def told(monkeypatch):
    """What was told by place; both libraries are stood in for."""
    found = {}

    def opened(place):
        return found.setdefault(place, Told(place))

    boards = types.SimpleNamespace(SummaryWriter=opened)
    weights = types.SimpleNamespace(init=lambda project, config: opened((project, config["model"])))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", boards)
    monkeypatch.setitem(sys.modules, "wandb", weights)
    return found


def test_every_point_goes_to_the_places_that_are_named(told):
    """Names, steps and values are those of the curves, and each place is closed."""
    exports.export(FOUND, "folder", "project")

    assert {place: each.points for place, each in told.items()} == {
        "folder": POINTS,
        ("project", "m"): POINTS,
    }
    assert all(each.is_ended for each in told.values())


def test_nothing_is_written_where_nothing_is_named(told):
    """The exports are optional."""
    exports.export(FOUND, None, None)

    assert not told


def test_a_library_that_is_not_installed_is_named(monkeypatch):
    """Who asked for it learns what to install."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match="wandb"):
        exports.export(FOUND, None, "project")
