"""What forecasts are judged by: a fair split, and errors worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.features.forecast import errors
from benchmarks.features.requests import HELD_OUT, LONG, PARTS, SHORT, TRAIN, requests


def test_the_parts_share_no_text_and_no_earlier_turn():
    """Nothing that is held out was seen in training, not even as an earlier turn."""
    asked = requests()
    texts = {part: {each.text for each in asked if each.part == part} for part in PARTS}

    assert not texts[TRAIN] & texts[HELD_OUT]
    assert all(key.startswith(f"{each.part}/") for each in asked for key in each.earlier)


def test_a_third_of_the_requests_come_late_in_a_conversation():
    """Every second first turn is asked again behind others."""
    asked = requests()
    late = [each for each in asked if each.earlier]

    assert len(asked) == 1.5 * sum(sizes())
    assert len(late) * 3 == len(asked)
    assert {each.turn_count for each in late} == {3, 5, 7, 11, 17}


def sizes():
    """How many first turns each part has, short and long."""
    return [*SHORT.values(), *LONG.values()]


def test_a_conversation_ends_with_the_request():
    """Earlier turns alternate, and each has its own answer."""
    late = next(each for each in requests() if len(each.earlier) == 2)
    answers = {key: (f"ask {key}", f"answer {key}") for key in late.earlier}
    turns = late.conversation(answers)

    assert [role for role, _ in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert turns[-1][1] == late.text
    assert turns[1][1] == f"answer {late.earlier[0]}"


def test_errors_against_cases_worked_out_by_hand():
    """Pinball: misses from below weigh by the quantile, those from above by what is left."""
    found = errors(np.array([10.0, 20.0]), np.array([5.0, 30.0]), 0.9)

    assert found["mae"] == pytest.approx(7.5)
    assert found["mape"] == pytest.approx(0.5)
    assert found["pinball"] == pytest.approx((0.9 * 5 + 0.1 * 10) / 2)
    assert found["covered"] == pytest.approx(0.5)
