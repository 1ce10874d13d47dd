"""Seven families of tasks in three levels, 350 prompts each, and how each answer is verified.

Everything is generated from `tables` with a fixed seed: the same prompts on every
machine. A prompt belongs to the train part or to the held-out part by its position
in a shuffled order, so that no prompt is in both.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.policy import tables
from thermesh import verifiers

PROMPTS = 350
TRAIN = 140
"""Prompts of a family that learners may see; the other 210 judge them."""


@dataclass(frozen=True)
class Prompt:
    """One request: its text, what is known of the answer, a reference where there is one, and
    the turns (question, answer) that show what is wanted.
    """

    text: str
    known: Mapping[str, Any]
    reference: str = ""
    shown: tuple[tuple[str, str], ...] = ()

    @property
    def turns(self) -> list[tuple[str, str]]:
        """The conversation as (role, content)."""
        roles = ("user", "assistant")
        shown = [turn for pair in self.shown for turn in zip(roles, pair, strict=True)]
        return [*shown, ("user", self.text)]


@dataclass(frozen=True)
class Answer:
    """What was decoded; `log_probability` is the model's own mean, in nats a token."""

    text: str
    log_probability: float = 0.0


@dataclass(frozen=True)
class Family:
    """A kind of task. `task` is the name that the product's classifier has for it, `cap` its
    token cap; `verify` returns a reward in [0, 1]. Stories know `stock`: the word pairs that
    two or more of the coolest answers to train prompts have in common.
    """

    name: str
    level: str
    task: str
    cap: int
    make: Callable[[], Iterable[Prompt]]
    verify: Callable[[Answer, Mapping[str, Any]], float]

    def prompts(self) -> list[Prompt]:
        """Return its prompts; the first TRAIN are the train part."""
        found = list({prompt.text: prompt for prompt in self.make()}.values())
        random.Random(f"study:{self.name}").shuffle(found)
        return found[:PROMPTS]


def _facts() -> Iterable[Prompt]:
    for country, capital, continent in tables.capitals():
        reference = f"The capital of {country} is {capital}."
        yield Prompt(f"What is the capital of {country}?", {"answer": capital}, reference)
        reference = f"{country} is in {continent}."
        yield Prompt(f"On which continent is {country}?", {"answer": continent}, reference)
    for word, opposite in tables.opposites():
        reference = f"The opposite of {word} is {opposite}."
        yield Prompt(
            f'What is the opposite of "{word}"? Answer in one word.',
            {"answer": opposite},
            reference,
        )


def _sentiments() -> Iterable[Prompt]:
    moods = (
        ("positive", tables.PRAISE, tables.PRAISE_MORE),
        ("negative", tables.BLAME, tables.BLAME_MORE),
    )
    for answer, adjectives, sentences in moods:
        for thing, adjective, more in itertools.product(tables.REVIEWED, adjectives, sentences):
            text = (
                "Is this review positive or negative? Answer with one word.\n"
                f"Review: The {thing} was {adjective}. {more}"
            )
            yield Prompt(text, {"answer": answer}, answer)


def _comparisons() -> Iterable[Prompt]:
    generator = random.Random("comparisons")
    shown = (("Which is larger, 12 or 57?", "57"),)
    for _ in range(400):
        first, second = generator.sample(range(10, 100), 2)
        larger = max(first, second)
        yield Prompt(
            f"Which is larger, {first} or {second}?", {"answer": larger}, str(larger), shown
        )


def _extractions() -> Iterable[Prompt]:
    generator = random.Random("extractions")
    for person, town in itertools.product(tables.PEOPLE, tables.TOWNS):
        age, work = generator.randint(20, 69), generator.choice(tables.WORK)
        text = (
            'Extract the data as JSON with the keys "name", "age" and "city".\n'
            f"Text: {person} is a {age} year old {work} who lives in {town}."
        )
        fields = {"name": person, "age": age, "city": town}
        yield Prompt(text, {"fields": fields}, json.dumps(fields))


def _copies() -> Iterable[Prompt]:
    cells = itertools.product(
        tables.COPIED_SUBJECTS, tables.COPIED_VERBS, tables.COPIED_OBJECTS, tables.COPIED_PLACES
    )
    for index, (subject, verb, thing, place) in enumerate(cells):
        sentence = f"{subject} {verb} {thing} {place}."
        sentence = sentence[0].upper() + sentence[1:]
        if index % 2:
            ask = "Repeat this sentence exactly, without anything else"
            yield Prompt(f"{ask}: {sentence}", {"reference": sentence}, sentence)
        else:
            changed = sentence.replace(verb, "saw")
            ask = f'Write this sentence again with "saw" instead of "{verb}"'
            yield Prompt(f"{ask}: {sentence}", {"reference": changed}, changed)


def _lists() -> Iterable[Prompt]:
    for category, count in itertools.product(tables.CATEGORIES, range(3, 9)):
        yield Prompt(f"List {count} different {category}, one on each line.", {"count": count})


def _stories() -> Iterable[Prompt]:
    cells = itertools.product(tables.STORY_TRAITS, tables.STORY_HEROES, tables.STORY_PLACES)
    for trait, hero, place in cells:
        yield Prompt(f"Write the opening of a story about a {trait} {hero} in {place}.", {})


FAMILIES: tuple[Family, ...] = (
    Family(
        "facts",
        "simple",
        "question_answering",
        16,
        _facts,
        lambda answer, known: verifiers.contains(answer.text, known["answer"]),
    ),
    Family(
        "sentiment",
        "simple",
        "classification",
        8,
        _sentiments,
        lambda answer, known: verifiers.label(
            answer.text, known["answer"], ("positive", "negative")
        ),
    ),
    Family(
        "comparison",
        "medium",
        "arithmetic",
        6,
        _comparisons,
        lambda answer, known: verifiers.integer(answer.text, known["answer"]),
    ),
    Family(
        "copying",
        "medium",
        "translation",
        24,
        _copies,
        lambda answer, known: verifiers.same_words(answer.text, known["reference"]),
    ),
    Family(
        "extraction",
        "complex",
        "code",
        32,
        _extractions,
        lambda answer, known: verifiers.json_fields(answer.text, known["fields"]),
    ),
    Family(
        "lists",
        "complex",
        "chat",
        28,
        _lists,
        lambda answer, known: verifiers.distinct_items(answer.text, known["count"]),
    ),
    Family(
        "stories",
        "complex",
        "generation",
        28,
        _stories,
        lambda answer, known: (
            verifiers.distinct_pairs(answer.text, known.get("stock", frozenset()))
            * verifiers.likelihood_gate(answer.log_probability)
        ),
    ),
)
