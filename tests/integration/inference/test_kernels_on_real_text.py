"""How close the C++ kernels are to float32 on the packaged model and real text."""

import pytest
import torch
from scored import scored

from services.inference.kernels import Span, StepBatch
from services.inference.kernels.cpu import status
from services.inference.models import load
from thermesh import models

STATUS = status()
pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not STATUS.available, reason=STATUS.reason),
]

BARS = {"full": (1e-4, 0.995), "mixed": (1e-3, 0.97)}
"""Mean KL divergence in nats at most, share of equal likeliest tokens at least."""

NEAR_TIE = 0.01
"""Nats between two tokens; where they lie nearer, the order of additions decides between them."""

# The opening of "On the Origin of Species" (Darwin, 1859) and a piece of code:
# prose the model knows little of and text it knows by heart.
TEXT = """When on board H.M.S. 'Beagle,' as naturalist, I was much struck with certain facts in
the distribution of the inhabitants of South America, and in the geological relations of the
present to the past inhabitants of that continent. These facts seemed to me to throw some light
on the origin of species--that mystery of mysteries, as it has been called by one of our greatest
philosophers. On my return home, it occurred to me, in 1837, that something might perhaps be made
out on this question by patiently accumulating and reflecting on all sorts of facts which could
possibly have any bearing on it. After five years' work I allowed myself to speculate on the
subject, and drew up some short notes; these I enlarged in 1844 into a sketch of the conclusions,
which then seemed to me probable: from that period to the present day I have steadily pursued the
same object. I hope that I may be excused for entering on these personal details, as I give them
to show that I have not been hasty in coming to a decision.

def quicksort(numbers):
    if len(numbers) <= 1:
        return numbers
    pivot = numbers[len(numbers) // 2]
    smaller = [number for number in numbers if number < pivot]
    equal = [number for number in numbers if number == pivot]
    larger = [number for number in numbers if number > pivot]
    return quicksort(smaller) + equal + quicksort(larger)
"""


@pytest.fixture(scope="module")
def path():
    """The packaged model."""
    return models.locate("smollm2-135m-instruct")


@pytest.fixture(scope="module")
def reference(path):
    """Token ids of the text, and the reference's log-probabilities."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THERMESH_KERNELS", "reference")
        model = load(path, "reference")
        ids = torch.tensor(model.tokenizer.encode(TEXT))
        return ids, scored(model.network, ids).log_softmax(-1)


@pytest.mark.parametrize("tier", STATUS.tiers)
@pytest.mark.parametrize("precision", BARS)
def test_distributions_are_those_of_float32(monkeypatch, path, reference, tier, precision):
    """Mean KL divergence and top-1 agreement keep their bars in every tier."""
    monkeypatch.setenv("THERMESH_KERNELS", "cpu")
    monkeypatch.setenv("THERMESH_KERNELS_TIER", tier)
    monkeypatch.setenv("THERMESH_KERNELS_PRECISION", precision)
    ids, expected = reference
    divergence, agreement = BARS[precision]

    actual = scored(load(path, "cpu").network, ids).log_softmax(-1)

    mean_divergence = (expected.exp() * (expected - actual)).sum(-1).mean().item()
    ours = expected.gather(-1, actual.argmax(-1, keepdim=True)).squeeze(-1)
    same = (expected.max(-1).values - ours < NEAR_TIE).float().mean().item()
    assert mean_divergence <= divergence
    assert same >= agreement


def test_greedy_decoding_is_that_of_float32(monkeypatch, path, reference):
    """Token after token through the cache, the likeliest text is the reference's own."""
    monkeypatch.setenv("THERMESH_KERNELS", "cpu")
    ids, expected = reference
    network = load(path, "cpu").network
    cache = network.new_cache(8)
    table = tuple(range(8))
    same = 0

    for position in range(100):
        span = Span(0, 1, position + 1, table)
        batch = StepBatch(ids[position : position + 1], torch.tensor([position]), (span,))
        same += int(
            torch.as_tensor(network.step(batch, cache))[0].argmax() == expected[position].argmax()
        )

    assert same >= 99
