"""The knapsack over formats."""

import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from services.inference.models.group_codes import GroupFormat
from services.inference.quantise import allocation
from services.inference.quantise.allocation import Choice

FORMS = [GroupFormat(bits, 32, False) for bits in (3, 4, 8)]
CHOICES = st.lists(
    st.lists(st.tuples(st.integers(1, 60), st.floats(0, 10)), min_size=3, max_size=3),
    min_size=1,
    max_size=4,
).map(
    lambda matrices: {
        f"m{index}": [
            Choice(form, size, cost) for form, (size, cost) in zip(FORMS, pairs, strict=True)
        ]
        for index, pairs in enumerate(matrices)
    }
)


@settings(max_examples=30)
@given(CHOICES, st.integers(1, 300))
def test_no_other_mix_within_the_budget_costs_less(choices, budget):
    """The mix found is one of the cheapest of all that fit, or none fits."""
    mixes = [
        dict(zip(choices, forms, strict=True))
        for forms in itertools.product(FORMS, repeat=len(choices))
    ]
    costs = [
        allocation.cost(choices, mix)
        for mix in mixes
        if allocation.byte_count(choices, mix) <= budget
    ]

    found = allocation.allocated(choices, budget)

    if found is None:
        assert costs == []
    else:
        assert allocation.byte_count(choices, found) <= budget
        assert allocation.cost(choices, found) == pytest.approx(min(costs))


@settings(max_examples=30)
@given(CHOICES, st.integers(1, 300))
def test_the_mix_is_never_worse_than_uniform(choices, budget):
    """Where one format for all fits, the mix fits and costs no more."""
    uniform = allocation.uniform(choices, budget)
    if uniform is not None:
        mix = allocation.allocated(choices, budget)
        slack = 1e-9
        assert allocation.cost(choices, mix) <= allocation.cost(choices, uniform) + slack


def test_uniform_needs_a_format_that_every_matrix_has():
    """A format that one matrix cannot have is nobody's uniform format."""
    choices = {
        "a": [Choice(FORMS[0], 1, 5.0), Choice(FORMS[1], 2, 1.0)],
        "b": [Choice(FORMS[0], 1, 5.0)],
    }
    assert allocation.uniform(choices, 100) == {"a": FORMS[0], "b": FORMS[0]}
    assert allocation.uniform(choices, 1) is None
