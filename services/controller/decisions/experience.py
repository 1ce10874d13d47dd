"""An experience, and the reward it was worth."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from services.controller.decisions.records import LoggedDecision

# A service or queue time of this many seconds or more is the worst there is.
WORST_SERVICE_TIME_S = 10.0
WORST_QUEUE_TIME_S = 10.0


@dataclass(frozen=True, slots=True)
class Experience:
    """A decision whose outcome and feedback are both known.

    `quality` in [-1, 1]; `trust` in (0, 1] is how much it is believed
    (`signals`); `tenant` is who said so. `broken` is what decoding itself tells of the
    answer (`signals.is_broken`), which no user can fake.
    """

    decision: LoggedDecision
    quality: float
    service_time_s: float
    queue_time_s: float = 0.0
    tenant: str = "default"
    trust: float = 1.0
    broken: bool = False

    @property
    def contradicted(self) -> bool:
        """Whether somebody praises an answer that decoding itself shows to be broken."""
        return self.broken and self.quality > 0.0

    def to_lists(self) -> dict[str, Any]:
        """Return the stored form."""
        return asdict(self)

    @classmethod
    def from_lists(cls, stored: dict[str, Any]) -> Experience:
        """Undo `to_lists`."""
        return cls(**{**stored, "decision": LoggedDecision.from_lists(stored["decision"])})


def reward(experience: Experience) -> float:
    """Return quality_weight * Quality - latency_weight * Service - queue_weight * Queue.

    Service and queue time are shares of their worst, in [0, 1]. Waiting says
    little of the decision that waited, so `queue_weight` is 0 unless an
    envelope gives it a value.
    """
    decision = experience.decision
    queue = min(experience.queue_time_s / WORST_QUEUE_TIME_S, 1.0)
    cost = latency_cost(decision.latency_weight, experience.service_time_s)
    cost += decision.queue_weight * queue
    return decision.quality_weight * experience.quality - cost


def latency_cost(latency_weight: float, service_time_s: float) -> float:
    """Return what an answer that took so long loses, or is expected to lose."""
    return latency_weight * min(service_time_s / WORST_SERVICE_TIME_S, 1.0)
