"""The trained head: arithmetic by hand, whose encoder it fits, and what unread texts get."""

import math

import numpy as np
import pytest

from services.feature import head
from services.feature.task import TaskClassifier
from thermesh.features import TASKS

CLASSES = len(TASKS) + 1
DIMENSIONS = 3


def made(bias, encoder="tiny"):
    weight = np.zeros((CLASSES, DIMENSIONS + len(TASKS)), dtype=np.float32)
    return head.Head(encoder, 2, weight, np.asarray(bias, dtype=np.float32))


def embedding(*values):
    return np.array(values, dtype=np.float32)


def test_probabilities_are_those_of_the_formula():
    """Two from the embedding, 2 * 1 * 1 by its scale; one from a cue, 6 / 6: e cubed to one."""
    weighed = made([0.0] * CLASSES)
    weighed.weight[0, 0] = 1.0
    weighed.weight[0, DIMENSIONS] = 1.0
    found = weighed.probabilities(embedding(1.0, 0.0, 0.0), [6.0] + [0.0] * 6)
    assert found[0] == pytest.approx(math.e**3 / (math.e**3 + 7))
    assert found.sum() == pytest.approx(1.0)


def test_what_the_encoder_cannot_read_is_left_to_the_cues():
    """A text surely unread is guessed as if there were no encoder."""
    classifier = TaskClassifier(head=made([0.0] * 7 + [50.0]))
    for text in ("Traduce al inglés: sí", "Ventricular zebra"):
        guess = classifier.guess(text, embedding(1, 0, 0))
        alone = TaskClassifier().guess(text, None)
        assert guess.task == alone.task
        assert guess.probabilities == pytest.approx(alone.probabilities)


def test_a_text_surely_read_is_named_by_the_head():
    """Where nothing is unread the cues have no voice but in the head."""
    guess = TaskClassifier(head=made([50.0] + [0.0] * 7)).guess("hello", embedding(1, 0, 0))
    assert (guess.task, guess.confidence) == ("generation", pytest.approx(1.0))


def test_the_shipped_head_is_for_its_encoder_only():
    """Another name or another width gets none, and then prototypes vote."""
    assert head.load("all-minilm-l6-v2", 384) is not None
    assert head.load("another", 384) is None
    assert head.load("all-minilm-l6-v2", 768) is None


def test_a_head_survives_its_file(tmp_path, monkeypatch):
    """What is saved is what is loaded, with what is told beside it."""
    monkeypatch.setattr(head, "FILE", tmp_path / "head.npz")
    head.save(made(range(CLASSES)), head.FILE, temperature=0.5)
    loaded = head.load("tiny", DIMENSIONS)
    assert loaded.depth == 2
    assert loaded.bias.tolist() == list(range(CLASSES))
