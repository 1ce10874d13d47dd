"""The task classifier: cues alone, and with the real encoder on prompts it has not seen."""

import json
import pathlib
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.feature import cues, task
from services.feature.prototypes import PROTOTYPES
from thermesh.features import TASKS

PROMPTS = json.loads(pathlib.Path(__file__).with_name("task_prompts.json").read_text("utf-8"))
EVERY_PROMPT = [
    (name, text)
    for part in ("held_out", "later")
    for name, texts in PROMPTS[part].items()
    for text in texts
]


def test_every_task_has_prototypes_none_of_them_a_test_prompt():
    """The order of tasks is the schema's, and nothing held out was given away."""
    assert tuple(PROTOTYPES) == TASKS
    given_away = {text for texts in PROTOTYPES.values() for text in texts}
    assert not given_away & {text for _, text in EVERY_PROMPT}


def test_cues_alone_are_seldom_wrong():
    """Without the encoder most prompts are named, and few wrongly: it abstains instead."""
    classifier = task.TaskClassifier()
    guesses = [(name, classifier.guess(text, None).task) for name, text in EVERY_PROMPT]
    right = sum(name == guess for name, guess in guesses)
    wrong = sum(guess not in {name, ""} for name, guess in guesses)
    assert right >= 0.7 * len(guesses)
    assert wrong <= 0.1 * len(guesses)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Translate to French: good morning", "translation"),
        ("Repeat this line word for word: good morning", "translation"),
        ('Write "The dog sleeps." with "cat" instead of "dog"', "translation"),
        ("12 * (3 + 4)", "arithmetic"),
        ("def f(x):\n    return x", "code"),
        ("Write a poem about rain", "generation"),
        ("Classify this review as positive or negative", "classification"),
        ("Who invented the telephone?", "question_answering"),
        ("hello!", "chat"),
    ],
)
def test_each_task_has_a_plain_cue(text, expected):
    """The plainest request of each task is named without the encoder."""
    assert expected == task.TaskClassifier().guess(text, None).task


def test_silence_of_all_cues_is_abstention():
    """No evidence: all tasks equally probable, none named."""
    guess = task.TaskClassifier().guess("Ventricular zebra", None)
    assert guess.task == ""
    assert guess.probabilities == pytest.approx([1 / 7] * 7)


def test_an_instruction_after_a_long_text_counts_and_its_middle_does_not():
    """Head and tail are read; what is pasted between does not vote."""
    pasted = "Lorem ipsum dolor sit amet. " * 100
    classifier = task.TaskClassifier()
    assert classifier.guess(pasted + "Translate that to French.", None).task == "translation"
    hidden = pasted + "Translate that to French. " + pasted
    assert hidden.find("Translate") > cues.HEAD_CHARACTERS
    assert classifier.guess(hidden, None).task != "translation"


def test_prototypes_pull_towards_their_task():
    """An embedding equal to one task's prototypes is named that task."""
    axes = {name: np.eye(len(TASKS), dtype=np.float32)[index] for index, name in enumerate(TASKS)}
    owner = {text: name for name, texts in PROTOTYPES.items() for text in texts}
    classifier = task.TaskClassifier(lambda text: axes[owner[text]])
    for name in TASKS:
        guess = classifier.guess("Ventricular zebra", axes[name])
        assert (guess.task, guess.confidence > 0.99) == (name, True)


@given(st.text(max_size=300))
def test_probabilities_are_probabilities(text):
    """Any text gives seven numbers in [0, 1] that sum to one."""
    guess = task.TaskClassifier().guess(text, None)
    assert sum(guess.probabilities) == pytest.approx(1.0)
    assert all(0.0 <= probability <= 1.0 for probability in guess.probabilities)


@pytest.mark.parametrize("hostile", ["a", "1 ", "( ", "w(", "write ", "12.,", "1%1 ", "is this "])
def test_no_text_makes_the_cues_slow(hostile):
    """Repetitions that would drive an unbounded pattern quadratic cost little."""
    started = time.perf_counter()
    cues.log_odds(hostile * 100_000)
    assert time.perf_counter() - started < 0.25
