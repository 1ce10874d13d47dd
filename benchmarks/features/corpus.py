"""The labelled prompts: a part to learn from, and one written apart from it.

Each part is a list of templates for each task, filled with words of its own; no template
and no slot is shared. Filling is a pure function of the seed. The held-out part also has
prompts without templates and some in other languages.
"""

from __future__ import annotations

import json
import pathlib
import random
import re
from dataclasses import dataclass
from typing import Any

from services.feature.prototypes import PROTOTYPES
from thermesh.features import TASKS

_HERE = pathlib.Path(__file__).parent
_SLOT = re.compile(r"\{(\w+)\}")
SEED = 7
FILLINGS = 5
LANGUAGES = ("de", "fr", "es")


@dataclass(frozen=True)
class Prompt:
    """One labelled prompt; `template` tells which prompts are alike."""

    text: str
    task: str
    template: str

    @property
    def stands_alone(self) -> bool:
        """Whether no other prompt was made from the same template."""
        return self.template == self.text


def training() -> list[Prompt]:
    """Return what the classifier and the cost model may learn from."""
    stored = _stored("training")
    prototypes = [Prompt(text, task, text) for task in TASKS for text in PROTOTYPES[task]]
    return _filled(stored) + _by_hand(stored) + prototypes


def unread() -> list[Prompt]:
    """Return what the classifier learns not to trust the encoder with; `task` is empty."""
    return [Prompt(text, "", text) for place, text in enumerate(_stored("training")["unread"])]


def held_out() -> list[Prompt]:
    """Return the English prompts that nothing may learn from."""
    stored = _stored("held_out")
    return _filled(stored) + _by_hand(stored)


def later() -> list[Prompt]:
    """Return prompts written when nothing about the classifier was open any more."""
    stored = _stored("held_out")["later"]
    return [Prompt(text, task, text) for task in TASKS for text in stored[task]]


def verbatim() -> list[Prompt]:
    """Return held-out prompts that want a text word for word, and some that only sound like it."""
    stored = _stored("held_out")["verbatim"]
    return [Prompt(text, task, text) for task in TASKS for text in stored.get(task, ())]


def numbers() -> list[Prompt]:
    """Return held-out prompts that carry or ask for a number, few of which are arithmetic."""
    stored = _stored("held_out")["numbers"]
    return [Prompt(text, task, text) for task in TASKS for text in stored[task]]


def in_language(language: str) -> list[Prompt]:
    """Return held-out prompts in one of LANGUAGES."""
    stored = _stored("held_out")["languages"][language]
    return [Prompt(text, task, text) for task in TASKS for text in stored[task]]


def as_heard(prompts: list[Prompt]) -> list[Prompt]:
    """Return the prompts as speech recognition writes them: no capitals, no punctuation."""
    return [
        Prompt(" ".join(re.findall(r"[\w'+*/=-]+", each.text.lower())), each.task, each.template)
        for each in prompts
    ]


def _stored(part: str) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((_HERE / f"{part}_prompts.json").read_text("utf-8"))
    return stored


def _by_hand(stored: dict[str, Any]) -> list[Prompt]:
    return [Prompt(text, task, text) for task in TASKS for text in stored["by_hand"][task]]


def _filled(stored: dict[str, Any]) -> list[Prompt]:
    """Fill each template up to FILLINGS times; a template without a slot stands once."""
    draw = random.Random(SEED)
    prompts = []
    for task in TASKS:
        for template in stored["templates"][task]:
            texts = {_fill(template, stored["slots"], draw): None for _ in range(FILLINGS)}
            prompts += [Prompt(text, task, template) for text in texts]
    return prompts


def _fill(template: str, slots: dict[str, list[str]], draw: random.Random) -> str:
    return _SLOT.sub(
        lambda slot: draw.choice(slots[slot[1]]) if slot[1] in slots else slot[0], template
    )
