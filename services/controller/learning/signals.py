"""What each signal of a user says about quality, and how much it is believed.

    signal      quality         trust   why
    explicit    the score       1.0     the user rated the answer
    verifier    the score       1.0     a program checked it
    edit        score, or -0.2  0.6     the answer was worth correcting, and had to be:
                where it is 0           a client that knows how much was kept says so
    regenerate  -0.6            0.5     asked again: mostly dissatisfied, at times curious
    abandon     -0.4            0.25    left while it streamed: often only because
                                        enough was read

Scores that come with `regenerate` and `abandon` are not read: the event itself is
all they know. Trust scales how far one piece of feedback may move the policy. The
values are a judgement, not a measurement; they keep an implicit signal from ever
outweighing what a person said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.controller.decisions.records import Feedback, Outcome


@dataclass(frozen=True, slots=True)
class Judgement:
    """Quality in [-1, 1], and how much it is believed in (0, 1]."""

    quality: float
    trust: float


EDIT_QUALITY = -0.2
IMPLIED: Mapping[str, Judgement] = {
    "regenerate": Judgement(-0.6, 0.5),
    "abandon": Judgement(-0.4, 0.25),
}
EDIT_TRUST = 0.6


def judgement_of(feedback: Feedback) -> Judgement:
    """Return what `feedback` says; a signal that is not known is read as explicit."""
    if feedback.signal in IMPLIED:
        return IMPLIED[feedback.signal]
    if feedback.signal == "edit":
        return Judgement(feedback.score or EDIT_QUALITY, EDIT_TRUST)
    return Judgement(feedback.score, 1.0)


# As in steering: half of the 4-grams occurred before; a distribution so flat that
# text from it makes no sense.
BROKEN_REPETITION, BROKEN_NATS = 0.5, 4.5


def is_broken(outcome: Outcome) -> bool:
    """Return whether an answer loops or drifts, as inference measured it."""
    return outcome.repetition >= BROKEN_REPETITION or outcome.mean_entropy >= BROKEN_NATS
