"""The networks of a model, whole and light, on one cache: who computes what.

The light network serves sequences on the light path, and guesses for the others:
it goes some tokens ahead, and the whole network then computes all of them in one
step (self-speculative decoding: Zhang et al., 2023, https://arxiv.org/abs/2309.08168).
What it wrote to the cache on the way is written again by that step. A guess is drawn
as the token will be, with the parameters and the random number of its place, so
that it is right as often as the two distributions overlap.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import numpy as np

from services.inference.decoding.batching import batch_of
from services.inference.decoding.drawing import drawer_of
from services.inference.kernels import Span, StepBatch
from services.inference.request import ComputePath
from services.inference.sampling.sampler import Row
from services.inference.scheduling.budget import Work
from services.inference.sequences.drafting import Draft
from services.inference.sequences.sequence import Sequence
from thermesh.errors import MeshError

log = logging.getLogger(__name__)

LIGHT_MATCH = 1
"""What drafts of the light network say they matched: less than any that was looked up."""


class Paths:
    """The networks of one model; `light` is None where it has no light path."""

    def __init__(self, network: Any) -> None:
        self._whole = network
        # Networks that others bring along know nothing of paths.
        self.light: Any = getattr(network, "light_network", None)
        self._draw_by_light = drawer_of(self.light)

    def follow(self, sequence: Sequence, path: ComputePath) -> None:
        """Let a sequence take the path of its plan from the next token on."""
        has_light = self.light is not None
        offered, computed = self._whole.light, sequence.computed_count
        sequence.attending.follow(path, offered, computed, has_light_network=has_light)

    def computed(self, work: list[Work], cache: Any) -> list[tuple[Work, Any]]:
        """Compute `work`; return each item with its logits, [1 + guesses, vocabulary]."""
        if self.light is None:
            return _step(self._whole, work, cache)
        whole: list[Work] = []
        light: list[Work] = []
        for item in work:
            (light if _is_light(item) else whole).append(item)
        parts = [(self._whole, whole), (self.light, light)]
        return [pair for network, part in parts if part for pair in _step(network, part, cache)]

    def foreseen(self, work: list[Work], cache: Any) -> list[Work]:
        """Return `work` with the guesses of the light network where they were asked for."""
        asked = [item for item in work if item.foreseen]
        if not asked:
            return work
        try:
            found = self._guessed(asked, cache)
        except Exception:
            # Nobody depends on a guess: the whole network computes without.
            log.exception("the light network failed")
            found = {}
        return [
            dataclasses.replace(item, draft=Draft(tuple(found[id(item)]), LIGHT_MATCH))
            if found.get(id(item))
            else dataclasses.replace(item, foreseen=0)
            for item in work
        ]

    def _guessed(self, asked: list[Work], cache: Any) -> dict[int, list[int]]:
        rows = {id(item): row for item in asked if (row := _row(item)) is not None}
        found: dict[int, list[int]] = {key: [] for key in rows}
        for place in range(max(item.foreseen for item in asked)):
            active = [
                item
                for item in asked
                if item.foreseen > place
                and len(found.get(id(item), ())) == place
                and id(item) in rows
            ]
            if not active:
                break
            logits = self.light.step(_next(active, found), cache)
            drawing = [_at(rows[id(item)], place) for item in active]
            drawn = self._draw_by_light(cache, list(logits), drawing, ())
            for item, token in zip(active, drawn, strict=True):
                if token is not None:
                    found[id(item)].append(token.token_id)
        return found


def _is_light(item: Work) -> bool:
    return item.sequence.attending.is_light(item.sequence.computed_count)


def _step(network: Any, work: list[Work], cache: Any) -> list[tuple[Work, Any]]:
    logits = network.step(batch_of(work), cache)
    computed, start = [], 0
    for item in work:
        end = start + 1 + len(item.guesses)
        computed.append((item, logits[start:end]))
        start = end
    return computed


def _row(item: Work) -> Row | None:
    """Return how the next token of a sequence will be drawn, None where nobody can say."""
    try:
        return item.sequence.row()
    except MeshError:
        return None


def _at(row: Row, place: int) -> Row:
    return dataclasses.replace(row, token_index=row.token_index + place, candidate_count=0)


def _next(active: list[Work], found: dict[int, list[int]]) -> StepBatch:
    """Return the step of the newest token of each sequence, drawn or guessed."""
    spans, ids, positions = [], [], []
    for start, item in enumerate(active):
        sequence = item.sequence
        guessed = found[id(item)]
        position = sequence.computed_count + len(guessed)
        ids.append(guessed[-1] if guessed else sequence.token_ids[-1])
        positions.append(position)
        pages, sparsity = tuple(sequence.pages), sequence.attending.sparsity
        spans.append(Span(start, 1, position + 1, pages, sparsity=sparsity))
    return StepBatch(np.array(ids), np.array(positions), tuple(spans))
