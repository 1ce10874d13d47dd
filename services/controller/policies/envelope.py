"""Envelopes: what the policy may do in each scenario.

An envelope bounds the temperature, names the value that decodes when the policy
is not trusted, cuts the tail, caps the answer and weighs quality against time.
A request names its scenario; where it does not, the task decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from services.controller.capabilities import USUAL, Capabilities
from services.controller.policies.gaussian import Vector
from services.controller.sampling import Guard, ProgramKind
from thermesh.errors import InvalidArgument
from thermesh.features import INDEX

# A range that leans keeps at least two neighbouring levels of the packaged grid in reach.
_LEAST_WIDTH = 0.15
_SPEECH, _TERMS = INDEX["speech_rate"], INDEX["terminology_density"]

# The kept set of top-n-sigma does not depend on temperature, so that it guards
# a temperature that is still being explored (arXiv 2411.07641).
_GUARD = Guard(top_n_sigma=1.0)

GUARDS: Mapping[str, Guard] = {
    "top_n_sigma": _GUARD,
    "min_p": Guard(min_p=0.05),
    "none": Guard(),
}
"""What a policy over a grid of actions may choose from, by name."""

_KNOWN_LIMIT = 256  # scenarios, tasks and kinds of engines that were asked for, together


@dataclass(frozen=True, slots=True)
class Envelope:
    """The bounds of one scenario.

    Temperatures are inside [0.1, 2.0]; `token_cap` counts decoded tokens and
    yields to the user's own `max_tokens`; the weights are those of the reward
    (`experience.reward`). `program` stays `fixed` until a program that
    varies by token has beaten the mean of its own temperatures.
    """

    scenario: str
    lower: float
    upper: float
    static_temperature: float
    token_cap: int
    guard: Guard = _GUARD
    program: ProgramKind = "fixed"
    quality_weight: float = 1.0
    latency_weight: float = 0.1
    queue_weight: float = 0.0
    paths: tuple[str, ...] = USUAL.paths
    speech_warms: float = 0.0
    terms_cool: float = 0.0

    def leaning(self, features: Vector) -> Envelope:
        """Return the envelope as the speaker moves it: `speech_warms` is how much warmer the
        coolest choice is for the fastest speech, `terms_cool` how much cooler the warmest is
        where every word is a term. Terms win, and the range stays inside this one.
        """
        if not (self.speech_warms or self.terms_cool):
            return self
        upper = self.upper - self.terms_cool * float(features[_TERMS])
        upper = max(upper, self.lower + _LEAST_WIDTH)
        lower = self.lower + self.speech_warms * float(features[_SPEECH])
        lower = min(lower, upper - _LEAST_WIDTH)
        static = min(max(self.static_temperature, lower), upper)
        return replace(self, lower=lower, upper=upper, static_temperature=static)

    def within(self, capabilities: Capabilities) -> Envelope:
        """Return the envelope as far as the engine that decodes can follow it."""
        return replace(
            self,
            guard=self.guard.only(capabilities.guards),
            program=self.program if self.program in capabilities.programs else "fixed",
            paths=capabilities.paths,
        )

    def narrowed(self, wanted: tuple[float, float] | None) -> Envelope:
        """Return the envelope inside the range the user asked for.

        Where the two do not meet the user's range stands: their own value wins.
        """
        if wanted is None:
            return self
        lower, upper = max(self.lower, wanted[0]), min(self.upper, wanted[1])
        if lower > upper:
            lower, upper = wanted
        static = min(max(self.static_temperature, lower), upper)
        return replace(self, lower=lower, upper=upper, static_temperature=static)


ENVELOPES: Mapping[str, Envelope] = {
    envelope.scenario: envelope
    for envelope in (
        Envelope("dialogue", 0.2, 1.1, 0.6, 1024),
        Envelope("translation", 0.1, 0.8, 0.3, 1024, speech_warms=0.3, terms_cool=0.6),
        Envelope("recommendation", 0.3, 1.2, 0.7, 512),
        Envelope("recommendation_new_user", 0.7, 1.3, 0.9, 512),
        Envelope("recommendation_valued_user", 0.2, 0.6, 0.4, 512),
        Envelope("classification", 0.1, 0.5, 0.2, 128),
        Envelope("code", 0.1, 0.8, 0.3, 1024),
        Envelope("question_answering", 0.1, 0.7, 0.3, 512),
        Envelope("arithmetic", 0.1, 0.6, 0.2, 512),
        Envelope("generation", 0.4, 1.4, 0.8, 1024),
    )
}
"""Every scenario by name."""

_BY_TASK = {"chat": "dialogue", "": "dialogue"}


def envelope_of(scenario: str, task: str) -> Envelope:
    """Return the envelope of `scenario`, or of `task` where none is named.

    `task` is a name of `thermesh.features.TASKS`, or empty where the classifier
    abstained. Raises InvalidArgument for an unknown scenario.
    """
    name = scenario or _BY_TASK.get(task, task)
    envelope = ENVELOPES.get(name)
    if envelope is None:
        known = ", ".join(ENVELOPES)
        raise InvalidArgument(
            f"constraints.scenario {name!r} is not known; use one of {known}",
            field="constraints.scenario",
        )
    return envelope


@lru_cache(maxsize=_KNOWN_LIMIT)
def served(
    scenario: str, task: str, program: ProgramKind, capabilities: Capabilities = USUAL
) -> Envelope:
    """Return `envelope_of` with `program` decoding, as far as the engine can follow it.

    Worked out once: hardly anything of it differs from request to request.
    """
    return replace(envelope_of(scenario, task), program=program).within(capabilities)


@lru_cache(maxsize=_KNOWN_LIMIT)
def guard_of(name: str, members: tuple[str, ...]) -> Guard:
    """Return the guard of GUARDS as far as an engine with `members` has it."""
    return GUARDS[name].only(members)
