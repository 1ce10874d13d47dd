"""How long prefill hides what a request's plan still waits for.

A plan that is there when the first token is due has cost nothing. So what may be
waited for, above all the encoder, is bounded by the time that the engine
lately took until a first token was due, less what deciding takes afterwards. The
estimate is an expectile (Newey and Powell 1987): it goes down quickly and up
slowly, since waiting too long is seen and waiting too short costs one feature.
"""

from __future__ import annotations

from services.gateway.events import Usage

DECIDING_SECONDS = 0.005
"""From the features to a plan in the engine: two hops, and the controller between them."""

DOWN, UP = 0.5, 0.1


class Headroom:
    """What the last requests left; knows nothing before the first has ended."""

    def __init__(self) -> None:
        self._hidden: float | None = None

    @property
    def seconds(self) -> float | None:
        """How long the features of the next request may wait; None: not known yet."""
        return None if self._hidden is None else max(0.0, self._hidden - DECIDING_SECONDS)

    def saw(self, usage: Usage) -> None:
        """Take note of how long a request waited for its place and its prompt."""
        hidden = (usage.queue_time_us + usage.prefill_time_us) / 1e6
        if not hidden:
            return  # an engine behind a bridge does not tell
        before = hidden if self._hidden is None else self._hidden
        self._hidden = before + (UP if hidden > before else DOWN) * (hidden - before)
