"""The requests whose cost is measured: short ones, long passages, and later turns.

Short prompts are those of the labelled corpus. Long ones ask for something about a passage
of this repository's own text, from 20 words to a thousand. One request in three comes late
in a conversation: earlier prompts of the same part stand before it, each with its answer.
Train and held-out part share no template, no file and no earlier turn.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.features import corpus
from benchmarks.machine import ROOT

TRAIN, HELD_OUT = "train", "held_out"
PARTS = (TRAIN, HELD_OUT)
EARLIER_TURNS = (1, 2, 3, 5, 8)
SHORT = {TRAIN: 480, HELD_OUT: 200}
LONG = {TRAIN: 120, HELD_OUT: 60}
_PASSAGES = {
    TRAIN: ("docs/architecture/*.md", "services/feature/*.py"),
    HELD_OUT: ("docs/decisions/*.md", "LICENSE", "thermesh/*.py"),
}
_ASKS = (
    ("Summarise this text in three sentences.", "generation"),
    ("What is this text about? Answer in one sentence.", "question_answering"),
    ("Is this text technical or legal? Answer with one word.", "classification"),
    ("Explain what follows to a beginner.", "chat"),
    ("Translate into French:", "translation"),
    ("What does this code or text do? Write a docstring for it.", "code"),
)


@dataclass(frozen=True)
class Asked:
    """One request; `earlier` are the keys of the requests that came before it."""

    key: str
    part: str
    text: str
    task: str
    earlier: tuple[str, ...] = ()

    @property
    def turn_count(self) -> int:
        """Messages of the conversation, this one among them, as the gateway counts."""
        return 2 * len(self.earlier) + 1

    def conversation(self, answers: Mapping[str, tuple[str, str]]) -> list[tuple[str, str]]:
        """Return (role, content); `answers` has (text, answer) of earlier requests."""
        before = [
            turn
            for key in self.earlier
            for turn in zip(("user", "assistant"), answers[key], strict=True)
        ]
        return [*before, ("user", self.text)]


def requests() -> list[Asked]:
    """Return all requests, first turns first: the same on every machine."""
    return [each for part in PARTS for each in _first(part)] + [
        each for part in PARTS for each in _later(part)
    ]


def _first(part: str) -> list[Asked]:
    found = corpus.training() if part == TRAIN else corpus.held_out() + corpus.later()
    random.Random(f"short:{part}").shuffle(found)
    short = [(each.text, each.task) for each in found[: SHORT[part]]]
    asked = [*short, *itertools.islice(passages(part), LONG[part])]
    return [Asked(f"{part}/{n}", part, text, task) for n, (text, task) in enumerate(asked)]


def _later(part: str) -> list[Asked]:
    """Ask every second request again, after others that were answered shortly."""
    first, draw = _first(part), random.Random(f"later:{part}")
    short = [each.key for each in first[: SHORT[part]]]
    return [
        Asked(
            f"{each.key}/later",
            part,
            each.text,
            each.task,
            tuple(draw.sample(short, draw.choice(EARLIER_TURNS))),
        )
        for each in first[::2]
    ]


def passages(part: str) -> Iterator[tuple[str, str]]:
    """Yield (text, task): an ask and a passage whose length is drawn on a log scale."""
    draw = random.Random(f"long:{part}")
    texts = [
        path.read_text("utf-8") for each in _PASSAGES[part] for path in sorted(ROOT.glob(each))
    ]
    while True:
        words = draw.choice(texts).split(" ")
        count = round(20 * 50 ** draw.random())
        begin = draw.randrange(max(1, len(words) - count))
        ask, task = draw.choice(_ASKS)
        yield f"{ask}\n\n{' '.join(words[begin : begin + count])}", task
