"""Whether a canary earns less than its control: two sums, looked at after every reward.

Rewards of tasks scatter differently: facts are right or wrong, a rewritten sentence is
nearly always good. A drop that hides in the noise of the one is plain in the other. So
rewards are compared within tasks, and what is missing adds up in two ways. After n
rewards of the canary and k of the control in a task, with the control's mean m and
variance v,

    missing = n m - sum of the canary's rewards     variance n v (1 + n / k)

    rewards     sum of `missing`             finds a drop wherever it is
    deviations  sum of `missing` / sqrt(v)   finds early what drops in quiet tasks

Each sum is measured against its own standard deviation at HORIZON requests, so that
under no change it is a Brownian motion up to time 1. That crosses 2.24 with probability
2 (1 - Phi(2.24)) = 2.5 %, however often it is looked at (the reflection principle), and
one of the two crosses with 5 % at most, whatever they have in common.

A task joins in when its control has LEAST_CONTROL rewards; until then nothing is lost,
as sums are kept by task. The variance of a task with few rewards is drawn to that of all,
and is never taken for less than a tenth of it, so that one bad answer where all were
perfect is no proof.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from services.controller.policies.bandit import CONTEXTS
from services.controller.trust.promotion import Verdict

HORIZON = 500
BOUNDARY = 2.24
LEAST_CONTROL = 10
_BELIEVED_AS = 10.0
_LEAST_SHARE_OF_VARIANCE = 0.1
_LEAST_VARIANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Arms:
    """What both arms earned in one task; `mean` and `squares` are the control's (Welford)."""

    control: int = 0
    mean: float = 0.0
    squares: float = 0.0
    seen: int = 0
    earned: float = 0.0

    def control_earned(self, reward: float) -> Arms:
        """Take up a reward of the live policy."""
        count = self.control + 1
        miss = reward - self.mean
        mean = self.mean + miss / count
        squares = self.squares + miss * (reward - mean)
        return replace(self, control=count, mean=mean, squares=squares)

    def canary_earned(self, reward: float) -> Arms:
        """Take up a reward of the candidate."""
        return replace(self, seen=self.seen + 1, earned=self.earned + reward)

    @property
    def missing(self) -> float:
        """By how much the canary's rewards fall short of as many of the control's."""
        return self.seen * self.mean - self.earned

    @property
    def terms(self) -> float:
        """How many variances of one reward `missing` has: the control's mean is unsure too."""
        return self.seen * (1.0 + self.seen / self.control)


@dataclass(frozen=True, slots=True)
class Canary:
    """The state of one comparison, by task (`bandit.context_of`).

    HOLD while it runs; then PROMOTE (no drop was found) or ROLL_BACK, for good.
    """

    tasks: tuple[Arms, ...] = (Arms(),) * CONTEXTS
    verdict: Verdict = Verdict.HOLD

    @property
    def control(self) -> int:
        """How many rewards of the live policy were counted."""
        return sum(each.control for each in self.tasks)

    @property
    def seen(self) -> int:
        """How many rewards of the candidate were counted."""
        return sum(each.seen for each in self.tasks)

    @property
    def mean(self) -> float:
        """Mean reward of the live policy; 0 before the first."""
        total = sum(each.control * each.mean for each in self.tasks)
        return total / max(self.control, 1)

    def control_earned(self, task: int, reward: float) -> Canary:
        """Take up a reward of the live policy."""
        return self._with(task, self.tasks[task].control_earned(reward))

    def canary_earned(self, task: int, reward: float) -> Canary:
        """Take up a reward of the candidate; nothing changes a verdict."""
        if self.verdict is not Verdict.HOLD:
            return self
        counted = self._with(task, self.tasks[task].canary_earned(reward))
        if counted.crossed >= BOUNDARY:
            return replace(counted, verdict=Verdict.ROLL_BACK)
        if counted.seen >= HORIZON:
            return replace(counted, verdict=Verdict.PROMOTE)
        return counted

    @property
    def crossed(self) -> float:
        """How far the canary has fallen short, on the scale of BOUNDARY."""
        known = [each for each in self.tasks if each.control >= LEAST_CONTROL]
        seen = sum(each.seen for each in known)
        if seen == 0:
            return 0.0
        variances, scale = _variances(known), HORIZON / seen
        rewards = sum(each.missing for each in known)
        noise = sum(each.terms * v for each, v in zip(known, variances, strict=True))
        deviations = sum(e.missing / math.sqrt(v) for e, v in zip(known, variances, strict=True))
        terms = sum(each.terms for each in known)
        return max(rewards / math.sqrt(noise * scale), deviations / math.sqrt(terms * scale))

    def _with(self, task: int, arms: Arms) -> Canary:
        return replace(self, tasks=(*self.tasks[:task], arms, *self.tasks[task + 1 :]))

    def to_dict(self) -> dict[str, Any]:
        """Return the stored form."""
        return {**asdict(self), "verdict": self.verdict.value}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Canary:
        """Undo `to_dict`."""
        return cls(tuple(Arms(**each) for each in stored["tasks"]), Verdict(stored["verdict"]))


def _variances(known: Sequence[Arms]) -> list[float]:
    """Return the variance of one reward in each task, drawn to that of all of them."""
    freedom = sum(each.control - 1 for each in known)
    pooled = max(sum(each.squares for each in known) / freedom, _LEAST_VARIANCE)
    own = [
        (each.squares + _BELIEVED_AS * pooled) / (each.control - 1 + _BELIEVED_AS) for each in known
    ]
    return [max(each, _LEAST_SHARE_OF_VARIANCE * pooled) for each in own]
