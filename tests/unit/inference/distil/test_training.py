"""Training: its objective, its schedule, its steps, and that it goes on where it was."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from quantised_network import SMALL, QuantisedTensors

from services.inference.distil import checkpoint as checkpoints
from services.inference.distil import objective, schedule
from services.inference.distil.__main__ import device_of
from services.inference.distil.checkpoint import Checkpoint, trained
from services.inference.distil.straight_through import Matrix
from services.inference.distil.student import Student
from services.inference.distil.trainer import Lesson, Trainer
from services.inference.models import nested_weights
from services.inference.models.group_codes import GroupFormat
from services.inference.models.nested import Prefix
from services.inference.quantise.divergence import Yardstick
from services.inference.quantise.rounding import rounded
from thermesh.errors import FailedPrecondition

FORM = GroupFormat(3, 32, True)
TEXTS = torch.randint(0, 200, (8, 24), generator=torch.Generator().manual_seed(2))
CONFIG = dataclasses.replace(SMALL, tied_embeddings=True)


def teacher():
    """The weights to learn from."""
    return QuantisedTensors(CONFIG).reference()._weights


def student(weights):
    """The same network in three bits."""
    views = weights.destinations(CONFIG)
    matrices, vectors = {}, {}
    for name, view in views.items():
        if view.dim() == 1:
            vectors[name] = view.clone()
            continue
        latent = view.contiguous().clone()
        even = torch.ones(latent.shape[1]).numpy()
        matrices[name] = Matrix(latent, rounded(latent, even, FORM), FORM)
    return Student(CONFIG, matrices, vectors, weights.inverse_frequencies)


def trainer(light=None, **changes):
    """A trainer of the small network."""
    weights = teacher()
    lesson = Lesson(**({"rate": 5e-3} | changes))
    return Trainer(student(weights), weights, TEXTS, lesson, light)


def test_the_gradient_is_that_of_the_divergence():
    """By closed form and by autograd: the same loss, the same gradients."""
    generator = torch.Generator().manual_seed(0)
    state, taught = torch.randn(2, 300, 16, generator=generator)
    head, original = torch.randn(2, 16, 40, generator=generator)
    state, head = state.requires_grad_(), head.requires_grad_()
    found = objective.divergence(state, head, taught, original)
    wanted = torch.log_softmax(taught @ original, -1)
    loss = (wanted.exp() * (wanted - torch.log_softmax(state @ head, -1))).sum(-1).mean()
    loss.backward()

    assert found.mean == pytest.approx(loss.item(), rel=1e-4)
    assert torch.allclose(found.by_state, state.grad, atol=1e-6)
    assert torch.allclose(found.by_head, head.grad, atol=1e-5)


@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 9))
def test_each_text_comes_once_before_any_comes_twice(texts, size, seed):
    """An epoch is a permutation, cut into steps anywhere."""
    places = [i for step in range(texts) for i in schedule.batch(step, texts, size, seed)]
    for epoch in range(size):
        assert sorted(places[epoch * texts : (epoch + 1) * texts]) == list(range(texts))


def test_the_rate_rises_and_falls():
    """Highest after the warm-up, a twentieth at the end."""
    rates = [schedule.rate(share / 100, 1.0) for share in range(101)]
    assert rates[5] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.05)
    assert rates[5:] == sorted(rates[5:], reverse=True)


@pytest.mark.parametrize("light", [None, Prefix(1, 64)])
@pytest.mark.slow
def test_training_brings_the_student_closer(light):
    """The divergence falls: of the whole network, and of the light path where it has one."""
    taught = trainer(light)
    yardstick = Yardstick(CONFIG, teacher(), TEXTS)

    def judged():
        weights = taught.student.weights
        found = [yardstick.measure(weights).mean]
        if light is not None:
            with torch.no_grad():
                part = nested_weights.cut(weights, CONFIG, light)
            found.append(yardstick.measure(part, config=light.config(CONFIG)).mean)
        return found

    before = judged()
    for step in range(30):
        taught.step(step / 30)

    assert all(new < 0.95 * old for new, old in zip(judged(), before, strict=True))


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path):
    """Weights, optimizer and place in the texts survive; the result is the same bit for bit."""
    whole, first = trainer(), trainer()
    for share in (0.1, 0.4, 0.7):
        whole.step(share)
    first.step(0.1)
    checkpoint = Checkpoint(tmp_path / "training.pt")
    checkpoint.save(first)
    second = trainer()
    checkpoint.restore(second)
    for share in (0.4, 0.7):
        second.step(share)

    assert second.progress.steps == 3
    for name, tensor in whole.student.parameters.items():
        assert torch.equal(tensor, second.student.parameters[name]), name


def test_an_interrupt_keeps_what_was_learned(tmp_path, monkeypatch):
    """Ctrl-C in the midst saves the run and is passed on; the time is counted."""
    taught, checkpoint = trainer(), Checkpoint(tmp_path / "training.pt")
    now = iter(range(1000))

    def show(steps, _seconds, _mean):
        if steps == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(taught, checkpoint, 60.0, show, lambda: float(next(now)))
    again = trainer()
    checkpoint.restore(again)
    assert (again.progress.steps, again.progress.seconds) == (2, 2.0)
    trained(again, checkpoint, 4.0, lambda *_: None, lambda: float(next(now)))
    assert (again.progress.steps, again.progress.seconds) == (4, 4.0)
    assert checkpoints._EVERY_SECONDS == 60.0


def test_without_a_gpu_cuda_is_refused():
    """The message says what is missing."""
    if torch.cuda.is_available():
        assert device_of("auto").type == "cuda"
    else:
        assert device_of("auto").type == "cpu"
        with pytest.raises(FailedPrecondition):
            device_of("cuda")
