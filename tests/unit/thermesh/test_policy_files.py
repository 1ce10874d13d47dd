"""Policies as files: read back to the same bits, compared number by number."""

from __future__ import annotations

import json

import pytest

from thermesh.cli import policy_files, rollout
from thermesh.errors import InvalidArgument
from thermesh.v1 import controller_pb2


def answer(version, parameters):
    """What the controller says of a version."""
    policy = {"version": version, "kind": "thompson", "reason": "learned", "feedback_count": 7}
    text = json.dumps(parameters)
    return controller_pb2.GetPolicyResponse(policy=policy, parameters_json=text)


def test_a_file_holds_every_digit(tmp_path):
    """Written and read, the numbers are the same."""
    parameters = {"sums": [[0.1 + 0.2, 1e-300], [1 / 3, 2.0]]}
    path = tmp_path / "policy.json"
    policy_files.written(policy_files.of_answer(answer(3, parameters)), path)

    read = policy_files.read(path)
    assert read["parameters"] == parameters
    assert (read["version"], read["kind"], read["feedback_count"]) == (3, "thompson", 7)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2, "kind": "x", "parameters": {}}'])
def test_what_is_no_policy_file_is_refused(tmp_path, text):
    """With the name of the file."""
    path = tmp_path / "policy.json"
    path.write_text(text)
    with pytest.raises(InvalidArgument, match=r"policy\.json"):
        policy_files.read(path)


def test_a_difference_names_what_changed_most():
    """Groups of numbers, how many moved, how far and where."""
    sides = [
        policy_files.of_answer(answer(version, parameters))
        for version, parameters in (
            (3, {"sums": [[1.0, 2.0], [3.0, 4.0]], "actions": [{"guard": "none"}]}),
            (5, {"sums": [[1.0, 2.5], [3.0, 1.0]], "actions": [{"guard": "min_p"}]}),
        )
    ]
    found = policy_files.differences(*sides)

    assert found["policies"] == {"version": [3, 5]}
    sums = found["parameters"]["sums"]
    assert (sums["changed"], sums["largest_change"], sums["at"]) == (2, 3.0, "[1][1]")
    assert sums["root_mean_square"] == pytest.approx((9.25 / 4) ** 0.5)
    assert found["parameters"]["actions"]["changed"] == 1


def test_a_trial_is_told_in_words():
    """Who earns what, and whether that is enough."""
    told = rollout.text(
        controller_pb2.Rollout(number=1, candidate_version=4, stage=2, share=0.1, agreement=0.5)
    )
    assert "canary" in told
    assert "is not shown to be better" in told
    assert "50%" in told
