"""The reward matrix: what every arm earned on every prompt, and its compact stored form.

    quality  [families, prompts, samples, arms, caps]   reward of the verifier, in [0, 1]
    rouge    the same shape: ROUGE-L F1 against the reference, NaN where there is none
    bleu     likewise: sentence BLEU / 100
    fresh    likewise: share of different token trigrams, for every family
    tokens   the same shape: tokens decoded, the end of turn among them

A token cap is the beginning of a longer answer: the random number of a token depends
on seed and place alone, so that one decoding serves all caps. NaN is what was not
decoded. Shares are stored in steps of 1/250.
"""

from __future__ import annotations

import json
import pathlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.policy.families import FAMILIES, PROMPTS, TRAIN, Answer, Family, Prompt
from thermesh.verifiers import pairs

Floats = NDArray[Any]

CAP_SHARES = (1.0, 0.75, 0.5)
LENGTH_WEIGHT = 0.1
"""What decoding the whole token cap of a task costs, in units of quality."""

_STEPS, _MISSING = 250, 255
_SHARES = ("quality", "rouge", "bleu", "fresh")


@dataclass(frozen=True)
class Matrix:
    """Everything that was collected; `about` says with what."""

    arms: tuple[str, ...]
    quality: Floats
    rouge: Floats
    bleu: Floats
    fresh: Floats
    tokens: Floats
    about: dict[str, Any]

    @property
    def reward(self) -> Floats:
        """R = quality - 0.1 * tokens / token cap, in the shape of quality."""
        caps = np.array([family.cap for family in FAMILIES], dtype=np.float32)
        return np.asarray(
            self.quality - LENGTH_WEIGHT * self.tokens / caps[:, None, None, None, None]
        )

    def save(self, path: pathlib.Path) -> None:
        """Write a compressed npz."""
        shares = {name: _quantised(getattr(self, name)) for name in _SHARES}
        tokens = np.where(np.isnan(self.tokens), _MISSING, self.tokens).astype(np.uint8)
        np.savez_compressed(
            path, **shares, tokens=tokens, about=json.dumps(self.about), arms=json.dumps(self.arms)
        )

    @classmethod
    def load(cls, path: pathlib.Path) -> Matrix:
        """Undo `save`."""
        with np.load(path) as stored:
            shares = {name: _shares(stored[name]) for name in _SHARES}
            tokens = stored["tokens"].astype(np.float32)
            tokens[tokens == _MISSING] = np.nan
            arms, about = (json.loads(str(stored[name])) for name in ("arms", "about"))
        return cls(tuple(arms), **shares, tokens=tokens, about=about)


@dataclass(frozen=True)
class Judged:
    """What one answer at one cap is worth."""

    quality: float
    rouge: float
    bleu: float
    fresh: float
    tokens: int


class Judge:
    """Verifies answers, and measures what never drove learning; `text_of` decodes token ids."""

    def __init__(self, text_of: Any, end_ids: frozenset[int]) -> None:
        from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415  # an extra
        from sacrebleu.metrics import BLEU  # noqa: PLC0415

        self._text_of, self._end_ids = text_of, end_ids
        self._rouge = RougeScorer(["rougeL"], use_stemmer=False)
        self._bleu = BLEU(effective_order=True)

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids, the end of turn left out."""
        return str(self._text_of([each for each in tokens if each not in self._end_ids]))

    def judged(
        self,
        family: Family,
        prompt: Prompt,
        tokens: Sequence[int],
        scores: Sequence[float],
        also_known: dict[str, Any],
    ) -> Judged:
        """Judge one answer that was cut to `tokens`."""
        said = [token for token in tokens if token not in self._end_ids]
        text = self.text(said)
        answer = Answer(text, float(np.mean(scores)))
        rouge = bleu = float("nan")
        if prompt.reference:
            rouge = self._rouge.score(prompt.reference, text)["rougeL"].fmeasure
            bleu = min(1.0, self._bleu.sentence_score(text, [prompt.reference]).score / 100.0)
        trigrams = list(zip(said, said[1:], said[2:], strict=False))
        fresh = len(set(trigrams)) / len(trigrams) if trigrams else 1.0
        quality = family.verify(answer, {**prompt.known, **also_known})
        return Judged(quality, rouge, bleu, fresh, len(tokens))


def packed(
    records: Iterable[dict[str, Any]],
    arms: Sequence[str],
    judge: Judge,
    samples: int,
    *,
    about: dict[str, Any],
    stock: frozenset[tuple[str, str]],
) -> Matrix:
    """Judge all answers of `records` at every cap; `stock` is what stories have in common."""
    shape = (len(FAMILIES), PROMPTS, samples, len(arms), len(CAP_SHARES))
    cells = {name: np.full(shape, np.nan, np.float32) for name in (*_SHARES, "tokens")}
    about = {**about, "stock": sorted(stock)}
    prompts = [family.prompts() for family in FAMILIES]
    positions = {family.name: index for index, family in enumerate(FAMILIES)}
    for record in records:
        place = positions[record["family"]]
        family, prompt = FAMILIES[place], prompts[place][record["prompt"]]
        for answer in record["answers"]:
            for cap, share in enumerate(CAP_SHARES):
                end = max(1, round(share * family.cap))
                cut, scores = answer["tokens"][:end], answer["log_probabilities"][:end]
                found = judge.judged(family, prompt, cut, scores, {"stock": stock})
                for name, cell in cells.items():
                    cell[place, record["prompt"], record["sample"], answer["arms"], cap] = getattr(
                        found, name
                    )
    return Matrix(tuple(arms), **cells, about=about)


def stock_of(judge: Judge, records: Iterable[dict[str, Any]]) -> frozenset[tuple[str, str]]:
    """Return the word pairs that two or more of the coolest stories of the train part share."""
    seen: Counter[tuple[str, str]] = Counter()
    for record in records:
        if record["family"] == "stories" and record["prompt"] < TRAIN and record["sample"] == 0:
            coolest = next(each for each in record["answers"] if 0 in each["arms"])
            seen.update(set(pairs(judge.text(coolest["tokens"]))))
    return frozenset(pair for pair, count in seen.items() if count > 1)


def parts(values: Floats) -> tuple[Floats, Floats]:
    """Return (train, held-out) along the prompts, axis 1."""
    return values[:, :TRAIN], values[:, TRAIN:]


def _quantised(values: Floats) -> NDArray[np.uint8]:
    return np.where(np.isnan(values), _MISSING, np.round(np.clip(values, 0, 1) * _STEPS)).astype(
        np.uint8
    )


def _shares(stored: NDArray[np.uint8]) -> Floats:
    values = stored.astype(np.float32) / _STEPS
    values[stored == _MISSING] = np.nan
    return values
