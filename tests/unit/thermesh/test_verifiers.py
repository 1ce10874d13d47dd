"""Verifiers reward what is right, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermesh import verifiers


@pytest.mark.parametrize(
    ("text", "answer", "reward"),
    [
        ("The capital is New Delhi.", "New Delhi", 1.0),
        ("It is new-delhi", "New Delhi", 0.0),
        ("Parisian", "Paris", 0.0),
        ("PARIS!", "Paris", 1.0),
    ],
)
def test_an_answer_is_found_as_whole_words(text, answer, reward):
    """Case and punctuation do not matter, parts of words do not count."""
    assert verifiers.contains(text, answer) == reward


@pytest.mark.parametrize(
    ("text", "reward"),
    [("Negative, not positive.", 1.0), ("Positive or negative", 0.0), ("I do not know", 0.0)],
)
def test_the_first_label_named_counts(text, reward):
    """Naming all labels is not an answer."""
    assert verifiers.label(text, "negative", ("positive", "negative")) == reward


@pytest.mark.parametrize(
    ("text", "reward"), [("3 + 4 = 7", 1.0), ("1,007", 0.0), ("-7", 0.0), ("seven", 0.0)]
)
def test_the_last_integer_counts(text, reward):
    """Repeating the task before the answer is fine."""
    assert verifiers.integer(text, 7) == reward


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ('Here: {"Name": "anna", "age": "30"} done', 1.0),
        ('{"name": "Ben", "age": 30}', 0.625),
        ('{"name": "Anna", "age": 30', 0.0),
        ("[1]", 0.0),
        ('{"a":' * 100_000, 0.0),
    ],
)
def test_json_earns_a_quarter_for_being_valid_and_the_rest_by_field(text, reward):
    """What is not JSON earns nothing, however much of it is right."""
    assert verifiers.json_fields(text, {"name": "Anna", "age": 30}) == reward


def test_items_of_a_list_count_once():
    """Numbers, bullets and case do not make an item different."""
    assert verifiers.distinct_items("1. Dog\n2) dog\n- Cat\n\n* !\n", 4) == 0.5


def test_copies_are_judged_by_their_longest_common_subsequence():
    """F1 over words in order."""
    assert verifiers.same_words("a b c d", "a b c d") == 1.0
    assert verifiers.same_words("a c", "a b c d") == pytest.approx(2 * 2 / 6)
    assert verifiers.same_words("", "a") == 0.0


def test_stock_phrases_are_not_distinct():
    """A pair that everybody writes earns nothing."""
    assert verifiers.distinct_pairs("once upon a time once upon") == pytest.approx(0.8)
    stock = frozenset({("once", "upon"), ("upon", "a")})
    assert verifiers.distinct_pairs("once upon a time", stock) == pytest.approx(1 / 3)


def test_the_gate_is_a_ramp():
    """Likely text passes, noise does not."""
    assert [verifiers.likelihood_gate(each) for each in (-2.0, -4.5, -9.0)] == [1.0, 0.5, 0.0]


@given(st.text())
def test_rewards_of_any_text_are_in_range(text):
    """No answer, however odd, breaks a verifier."""
    rewards = (
        verifiers.contains(text, "a b"),
        verifiers.label(text, "a", ("a", "b")),
        verifiers.integer(text, 3),
        verifiers.json_fields(text, {"a": 1}),
        verifiers.distinct_items(text, 3),
        verifiers.same_words(text, "a b"),
        verifiers.distinct_pairs(text),
    )
    assert all(0.0 <= reward <= 1.0 for reward in rewards)
