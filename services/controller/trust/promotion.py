"""Who may decide: a candidate earns its place in three steps.

shadow   the candidate decides nothing; what it would have earned is estimated
         from the live policy's logs (`evaluation`)
canary   it decides a share of sessions, picked by hash, while a sequential
         test compares what both earn (`canary`)
live     only if the lower bound of its estimate beats what the live one earns
"""

from __future__ import annotations

import enum
import hashlib

from services.controller.trust.evaluation import Estimate

LEAST_EFFECTIVE = 50.0


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
