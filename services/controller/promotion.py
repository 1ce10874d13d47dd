"""Who may decide: a candidate earns its place in three steps, each pure.

    shadow   the candidate decides nothing; what it would have earned is estimated
             from the live policy's logs (`evaluation`)
    canary   it decides a share of sessions, picked by hash, while a sequential
             test compares what both earn
    live     only if the lower bound of its estimate beats what the live one earns

The test adds up by how much the canary falls short of the control's mean m after
n of its N = 500 requests (k of the control's), and rolls back at the first crossing:

    shortfall = n m - sum of canary rewards
    shortfall / sqrt(N v (1 + n / k)) >= 2.15

Under no change the left side is a Brownian motion up to time 1, which crosses
2.15 with probability 2 (1 - Phi(2.15)) = 3.2 %, however often it is looked at; the
control's own mean, uncertain at first, makes it 3.5 % in simulation. A drop of 0.05
is found in 95 % of runs up to a standard deviation of 0.28 of the reward at a share
of 10 %; noisier rewards need a longer horizon. Rewards are to be centred on the mean
of their task first.
"""

from __future__ import annotations

import enum
import hashlib
import math
from dataclasses import dataclass, replace

from services.controller.evaluation import Estimate

HORIZON = 500
BOUNDARY = 2.15
LEAST_CONTROL = 30
LEAST_EFFECTIVE = 50.0
_LEAST_VARIANCE = 1e-4


class Verdict(enum.Enum):
    """What to do with a candidate."""

    PROMOTE = "promote"
    HOLD = "hold"
    ROLL_BACK = "roll_back"


def in_canary(key: str, candidate_version: int, share: float) -> bool:
    """Return whether a session (or request without one) is the candidate's.

    The same key gets the same answer as long as the candidate is the same, and
    a larger share only adds keys; another candidate gets other keys.
    """
    digest = hashlib.sha256(f"{candidate_version}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2.0**64


def gate(candidate: Estimate, live_value: float) -> Verdict:
    """Promote only where the lower bound beats the live policy on enough evidence."""
    if candidate.effective_count < LEAST_EFFECTIVE:
        return Verdict.HOLD
    return Verdict.PROMOTE if candidate.lower > live_value else Verdict.HOLD


@dataclass(frozen=True, slots=True)
class Canary:
    """The state of one comparison; `mean` and `squares` are the control's (Welford).

    HOLD while it runs; then PROMOTE (no drop was found) or ROLL_BACK, for good.
    """

    control: int = 0
    mean: float = 0.0
    squares: float = 0.0
    seen: int = 0
    earned: float = 0.0
    verdict: Verdict = Verdict.HOLD

    def control_earned(self, reward: float) -> Canary:
        """Take up a reward of the live policy."""
        count = self.control + 1
        miss = reward - self.mean
        mean = self.mean + miss / count
        squares = self.squares + miss * (reward - mean)
        return replace(self, control=count, mean=mean, squares=squares)

    def canary_earned(self, reward: float) -> Canary:
        """Take up a reward of the candidate; none counts before the control has a mean."""
        if self.verdict is not Verdict.HOLD or self.control < LEAST_CONTROL:
            return self
        counted = replace(self, seen=self.seen + 1, earned=self.earned + reward)
        if counted.crossed >= BOUNDARY:
            return replace(counted, verdict=Verdict.ROLL_BACK)
        if counted.seen >= HORIZON:
            return replace(counted, verdict=Verdict.PROMOTE)
        return counted

    @property
    def crossed(self) -> float:
        """How far the canary has fallen short, on the scale of BOUNDARY."""
        variance = max(self.squares / max(self.control - 1, 1), _LEAST_VARIANCE)
        shortfall = self.seen * self.mean - self.earned
        unsure = 1.0 + self.seen / max(self.control, 1)
        return shortfall / math.sqrt(HORIZON * variance * unsure)
