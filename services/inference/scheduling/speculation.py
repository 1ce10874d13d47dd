"""Which sequences guess how many tokens ahead in the next step, if any.

A guessed token is one more row of the step. Each position is drawn with its own
random number from its own logits, as without guesses; a guess that equals the
draw saves a step. So outputs are the same bit for bit, and only time is at
stake. Guesses are taken where they are expected to raise the sum over sequences
of the logarithm of their speeds (proportional fairness: Kelly, 1997, "Charging
and rate control for elastic traffic"): a step that all wait for is not made
longer for the good of one.

What looks as if it did not pay is tried again now and then, ever more rarely:
neither acceptance nor costs stay what they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from dataclasses import dataclass

from services.inference.scheduling.costs import StepCosts
from services.inference.sequences.acceptance import Acceptances
from services.inference.sequences.drafting import Draft
from services.inference.sequences.sequence import Sequence

MOST_GUESSES = 15
"""Guesses of one sequence in a step: beyond, rows are no longer cheap anywhere."""

_SHORTEST_PATIENCE = 16
_LONGEST_PATIENCE = 512
_TRIAL_GUESSES = 3
_NO_MATCH = 0
_FORCED_CHANCE = 0.99
"""What a constraint forces comes true unless the answer is ended or changed meanwhile."""

_FORESEEN = 8
"""Most guesses of the light path: each takes a step of its own."""


@dataclass(frozen=True)
class Offer:
    """What one sequence could guess; each guess is right with `chance` if those
    before it are.
    """

    sequence: Sequence
    draft: Draft
    chance: float


class Speculation:
    """Drafts for the sequences of a step, and what became of them."""

    def __init__(self, *, is_enabled: bool, has_light_path: bool = False) -> None:
        self.acceptances = Acceptances()
        self.costs = StepCosts()
        self.light_costs = StepCosts()
        self._is_enabled = is_enabled
        self._has_light_path = has_light_path
        self._rehearsal: list[int] = []
        self._trials, self._light_trials = Trials(), Trials()

    def rehearse(self, lengths: Iterable[int]) -> None:
        """Guess so many tokens in the coming steps, right or wrong, for their cost."""
        self._rehearsal = list(lengths) if self._is_enabled else []

    def drafts(self, sequences: Items[Sequence], most: int) -> dict[Sequence, Draft]:
        """Return drafts for some of the `sequences`, which all decode in the next
        step, with at most `most` guesses in all.
        """
        if not self._is_enabled or not sequences or self.costs.wants_plain(len(sequences)):
            return {}
        if self._rehearsal:
            guesses = sequences[0].token_ids[: self._rehearsal.pop(0)]
            return {sequences[0]: Draft(tuple(guesses), _NO_MATCH)}
        offers = [offer for sequence in sequences if (offer := self._offer(sequence, most))]
        return self._taken(offers, len(sequences), most) if offers else {}

    def judge(self, sequence: Sequence, temperature: float, is_right: bool) -> None:
        """Learn that a guess of `sequence` was right or wrong."""
        if sequence.match:
            self.acceptances.note(sequence.acceptance, sequence.match, temperature, is_right)

    def _offer(self, sequence: Sequence, most: int) -> Offer | None:
        count = min(MOST_GUESSES, sequence.room - 1, most)
        if forced := sequence.forced(max(0, count)):
            return Offer(sequence, Draft(forced, _NO_MATCH), _FORCED_CHANCE)
        draft = sequence.suffixes.draft(sequence.token_ids, count)
        if draft is None:
            return None
        temperature = sequence.account.temperature
        chance = self.acceptances.chance(sequence.acceptance, draft.match, temperature)
        return Offer(sequence, draft, chance)

    def _taken(self, offers: list[Offer], sequences: int, most: int) -> dict[Sequence, Draft]:
        counts = lengths(
            [(offer.chance, len(offer.draft.token_ids)) for offer in offers],
            sequences,
            lambda guesses: self.costs.relative(sequences, guesses),
            most,
        )
        if self._trials.are_due(is_refused=not any(counts)):
            best = max(offers, key=lambda offer: offer.chance)
            counts = [_TRIAL_GUESSES if offer is best else 0 for offer in offers]
        return {
            offer.sequence: Draft(offer.draft.token_ids[:count], offer.draft.match)
            for offer, count in zip(offers, counts, strict=True)
            if count
        }

    def foreseen(self, sequences: Items[Sequence], most: int) -> dict[Sequence, int]:
        """Return how many tokens the light path should guess for which of the `sequences`,
        which all decode in the next step and have no drafts.
        """
        able = [one for one in sequences if one.may_be_foreseen] if self._has_light_path else []
        if not able or self.light_costs.wants_plain(len(sequences)):
            return {}
        offers = [(self._light_chance(one), min(_FORESEEN, one.room - 1, most)) for one in able]
        counts = lengths(
            offers,
            len(sequences),
            lambda guesses: self.light_costs.relative(len(sequences), guesses),
            most,
        )
        is_known = self.light_costs.knows(len(sequences))
        if self._light_trials.are_due(is_refused=not any(counts)) or not is_known:
            counts = [min(_TRIAL_GUESSES, count) for _, count in offers]
        return {one: count for one, count in zip(able, counts, strict=True) if count > 0}

    def _light_chance(self, sequence: Sequence) -> float:
        temperature = sequence.account.temperature
        return self.acceptances.chance(sequence.acceptance, 1, temperature)

    def observe(self, sequences: int, guesses: int, seconds: float, *, is_foreseen: bool) -> None:
        """Learn from a decode step; guesses are the light path's where `is_foreseen`."""
        for costs, is_own in ((self.costs, not is_foreseen), (self.light_costs, is_foreseen)):
            if is_own or not guesses:
                costs.observe(sequences, guesses, seconds)


class Trials:
    """When to try again what does not seem to pay: ever more rarely."""

    def __init__(self) -> None:
        self._refused = 0
        self._patience = _SHORTEST_PATIENCE

    def are_due(self, *, is_refused: bool) -> bool:
        """Take note of one choice; tell whether a trial should be made against it."""
        if not is_refused:
            self._refused, self._patience = 0, _SHORTEST_PATIENCE
            return False
        self._refused += 1
        if self._refused < self._patience:
            return False
        self._refused, self._patience = 0, min(2 * self._patience, _LONGEST_PATIENCE)
        return True


def lengths(
    offers: Items[tuple[float, int]],
    sequences: int,
    relative: Callable[[int], float],
    most: int,
) -> list[int]:
    """Return how many guesses to take of each offer of (chance, guesses).

    Guess i of an offer adds `chance ** i` tokens to the one that is sure. The
    best guesses come first; how many of them is what maximises the sum of
    log(tokens) over sequences less `sequences` times log(`relative`(guesses)).
    """
    gains: list[tuple[float, int]] = []
    for index, (chance, count) in enumerate(offers):
        tokens, share = 1.0, 1.0
        for _ in range(count):
            share *= chance
            gains.append((math.log1p(share / tokens), index))
            tokens += share
    gains.sort(key=lambda gain: -gain[0])  # stable: an offer's guesses stay in order
    best, best_value, value = 0, 0.0, 0.0
    for guesses, (gain, _) in enumerate(gains[:most], start=1):
        value += gain
        if value - sequences * math.log(relative(guesses)) > best_value:
            best, best_value = guesses, value - sequences * math.log(relative(guesses))
    counts = [0] * len(offers)
    for _, index in gains[:best]:
        counts[index] += 1
    return counts
