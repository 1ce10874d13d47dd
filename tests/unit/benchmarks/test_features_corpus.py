"""The labelled prompts and the figures made from them."""

import json
import pathlib

import numpy as np
import pytest

from benchmarks.features import ablation, corpus, tasks
from services.feature.task import TaskGuess
from thermesh.features import INDEX, TASKS

HELD_OUT = json.loads(pathlib.Path(corpus.__file__).with_name("held_out_prompts.json").read_text())
TRAINING = json.loads(pathlib.Path(corpus.__file__).with_name("training_prompts.json").read_text())


def test_nothing_held_out_was_learned_from():
    """No template, no text and no filling is in both parts."""
    seen = {each.template for each in corpus.training()} | {each.text for each in corpus.training()}
    kept = corpus.held_out() + corpus.later() + corpus.numbers()
    assert not seen & ({each.template for each in kept} | {each.text for each in kept})
    words = {word for words in TRAINING["slots"].values() for word in words if len(word) > 4}
    assert not words & {word for words in HELD_OUT["slots"].values() for word in words}
    foreign = {each.text for name in corpus.LANGUAGES for each in corpus.in_language(name)}
    assert not foreign & {each.text for each in corpus.unread()}


def test_both_parts_have_every_task_and_the_same_prompts_each_time():
    """At least 700 prompts in all, thirty or more held out for each task."""
    kept = corpus.held_out() + corpus.later() + corpus.numbers()
    assert len(corpus.training()) + len(kept) >= 700
    assert all(sum(each.task == task for each in kept) >= 30 for task in TASKS)
    assert corpus.held_out() == corpus.held_out()


def test_as_heard_has_no_capitals_and_no_punctuation():
    """A recogniser writes words only."""
    heard = corpus.as_heard([corpus.Prompt("Hi, Li! What's 3 + 4?", "chat", "t")])
    assert heard[0].text == "hi li what's 3 + 4"


def test_calibration_error_by_hand():
    """A bin of 0.8, right, and one of 0.9, 1.0 and 1.0, of which two are right."""
    error = tasks.calibration_error([0.8, 0.9, 1.0, 1.0], np.array([True, False, True, True]))
    assert error == pytest.approx(0.25 * abs(0.8 - 1) + 0.75 * abs(2.9 / 3 - 2 / 3))


def test_figures_count_abstentions_apart():
    """One right, one wrong, one silent."""
    said = {"a": "chat", "b": "code", "c": ""}
    prompts = [corpus.Prompt(text, "chat", text) for text in said]

    def guess(text):
        return TaskGuess(tuple([1 / 7] * 7), said[text], 1 / 7)

    found = tasks.figures(prompts, guess)
    assert (found["accuracy"], found["abstained"], found["wrong"]) == pytest.approx([1 / 3] * 3)
    assert found["right_when_named"] == 0.5
    row = found["confusion"][TASKS.index("chat")]
    assert (row[TASKS.index("chat")], row[TASKS.index("code")], row[-1]) == (1, 1, 1)


def test_ablation_groups_share_no_feature_and_leave_out_only_what_is_constant():
    """First typed turns differ in every feature but these."""
    names = [name for group in ablation.GROUPS.values() for name in group]
    assert len(names) == len(set(names))
    constant = {"turn_count", "topic_shift", "urgency", "speech_rate", "voice", "encoder"}
    assert set(INDEX) - set(names) == constant
