"""What deciding reads: one immutable state, swapped as a whole.

The event loop swaps and reads it, so a decision sees one version and one set of
modes from its beginning to its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.controller.decisions.decision import Mode
from services.controller.decisions.records import PolicyVersion
from services.controller.policies.policy import Parameters, PolicySnapshot, prior
from services.controller.trust.trial import Candidate

EVERY_ROUTE = "*"


@dataclass(frozen=True, slots=True)
class ServingState:
    """The live policy, the modes of routes, and the candidate on trial if there is one."""

    snapshot: PolicySnapshot
    default_mode: Mode
    modes: Mapping[str, Mode] = field(default_factory=dict)
    candidate: Candidate | None = None

    def mode_of(self, route: str, wanted: Mode | None) -> Mode:
        """Return the mode of a request: its own, its route's, that of `*`, the default."""
        if wanted is not None:
            return wanted
        return self.modes.get(route) or self.modes.get(EVERY_ROUTE) or self.default_mode


class Serving:
    """Holds the state that decisions are made by."""

    def __init__(self, default_mode: Mode = Mode.APPLY, newborn: Parameters | None = None) -> None:
        # Until a store answers, the prior decides; it is what a new
        # installation publishes as version 1.
        self.state = ServingState(PolicySnapshot(1, newborn or prior(), 0), default_mode)

    def swap_policy(self, version: PolicyVersion) -> None:
        """Decide by `version` from the next call on."""
        snapshot = PolicySnapshot(
            version.version, version.parameters, version.feedback_count, self.state.snapshot
        )
        self.state = replace(self.state, snapshot=snapshot)

    def swap_candidate(self, candidate: Candidate | None) -> None:
        """Try `candidate` beside the live policy from the next call on."""
        self.state = replace(self.state, candidate=candidate)

    def swap_modes(self, modes: Mapping[str, Mode]) -> None:
        """Use `modes` from the next call on."""
        self.state = replace(self.state, modes=dict(modes))
