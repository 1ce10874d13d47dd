"""How long prefill hides what a request's plan still waits for.

A plan that is there when the first token is due has cost nothing. So what may be
waited for, above all the encoder, is bounded by half of the time that the engine
lately took until a first token was due: the other half is for two more hops and the
controller, which a busy machine makes slow as well. The estimate is an expectile
(Newey and Powell 1987): it goes down quickly and up slowly, since waiting too long
is seen and waiting too short costs one feature.

A fast engine hides little of a short prompt. An encoding is waited for all the same, as
long as one takes: only requests whose task is not told at a glance are encoded, and there
it is worth more than some milliseconds.
"""

from __future__ import annotations

from services.gateway.events import Usage

WAITING_SHARE = 0.5
"""Of the time that prefill hides, what features may wait."""

LEAST_SECONDS = 0.015
"""What an encoding takes on a machine that is not busy, hops included."""

DOWN, UP = 0.5, 0.1


class Headroom:
    """What the last requests left; knows nothing before the first has ended."""

    def __init__(self) -> None:
        self._hidden: float | None = None

    @property
    def seconds(self) -> float | None:
        """How long the features of the next request may wait; None: not known yet."""
        if self._hidden is None:
            return None
        return max(LEAST_SECONDS, WAITING_SHARE * self._hidden)

    def saw(self, usage: Usage) -> None:
        """Take note of how long a request waited for its place and its prompt."""
        hidden = (usage.queue_time_us + usage.prefill_time_us) / 1e6
        if not hidden:
            return  # an engine behind a bridge does not tell
        before = hidden if self._hidden is None else self._hidden
        self._hidden = before + (UP if hidden > before else DOWN) * (hidden - before)
