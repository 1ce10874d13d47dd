"""How many prompt tokens a step may compute without holding running streams up.

A step that only decodes takes a time that depends on how many sequences are in
it; prompt tokens make it longer. Both are learned from the steps
themselves: the median of recent decode steps of about that many sequences, and
what the latest prompt tokens took (`prompt_costs.py`). The allowance of a step is
what keeps it within `stretch` times the decode step. The cost follows the
length of the context and the company on the cores within a few steps.

While a long prompt is computed those who decode get longer contexts, and their
steps with them. Prompts do not get more time for that: it is measured by what a
decode step took when they joined, so that a step grows by its own share alone.

A short prompt is let in as a whole where that takes a step of at most
`burst_seconds`: cut into pieces its first token would come late, to spare the
others a gap that nobody notices. What such a step takes beyond the stretch is
owed to those who decode, and the next one comes when steps without prompts have
paid it back: in the long run steps are stretched no more than without bursts.
"""

from __future__ import annotations

import statistics
from collections import deque

from services.inference.scheduling.prompt_costs import PromptCosts

FIRST_TOKENS = 10
"""Prompt tokens of a step while nothing is known of what they cost. What joins after that
takes at most `_GROWTH` times what the step before it took: behind another context, or read
without others, tokens cost something else, and where a neighbour left the core since decode
steps were measured they seem to cost next to nothing."""

FEWEST_TOKENS = 2
"""Prompt tokens that a step takes whatever they cost, so that a prompt always gets on. One
alone is taken for a sequence that decodes."""

_GROWTH = 1.5
_DECODE_STEPS = 9
_STALE_AFTER = 16
"""Steps with prompts after which one without is due: while a long prompt is
computed the contexts of the others grow, and what a decode step takes with them. Halfway
there one takes half its tokens, or twice the fewest, to see which part of their cost each
token bears."""


class Pace:
    """Learns from steps; times are in seconds."""

    def __init__(self, stretch: float, burst_seconds: float = 0.0) -> None:
        self._stretch = stretch
        self._burst_seconds = burst_seconds
        self._owed_seconds = 0.0
        self._since_plain = 0
        self._plain_run = 0
        self._is_probe = False
        self._last_beside = 0
        self._allowed = FIRST_TOKENS
        self._decode_seconds: dict[int, deque[float]] = {}
        self._usual_seconds: dict[int, float] = {}
        self._decode_before: dict[int, float] = {}
        self._costs = PromptCosts()

    def observe(self, seconds: float, decoding: int, prompt_tokens: int) -> None:
        """Learn from a step of `decoding` sequences and `prompt_tokens`."""
        if decoding and (usual := self._decode_step(decoding)) is not None:
            owed = self._owed_seconds + seconds - self._stretch * usual
            self._owed_seconds = min(max(0.0, owed), self._burst_seconds)
        if prompt_tokens:
            self._observe_prompt(seconds, decoding, prompt_tokens)
            return
        size = _size(decoding)
        times = self._decode_seconds.setdefault(size, deque(maxlen=_DECODE_STEPS))
        times.append(seconds)
        self._usual_seconds[size] = statistics.median(times)
        self._since_plain = 0
        self._plain_run += 1

    def _observe_prompt(self, seconds: float, decoding: int, prompt_tokens: int) -> None:
        # One step without prompts only measures anew, amid a prompt.
        if self._plain_run > 1:
            self._decode_before = dict(self._usual_seconds)
        self._since_plain += 1
        self._plain_run = 0
        base = self._decode_step(decoding)
        # A step faster than the median one tells nothing of what its tokens cost: as one of no
        # cost it would let the next prompt in with as many as there are.
        if base is not None and seconds >= base:
            self._costs.observe(seconds - base, prompt_tokens, is_probe=self._is_probe)
        if decoding and not self._is_probe:
            # The end of a prompt, of few tokens, says nothing of how many the next one may have.
            self._last_beside = max(prompt_tokens, min(self._last_beside, self._allowed))

    def allowance(self, decoding: int, most: int) -> int:
        """Return how many of at most `most` prompt tokens may join a step in
        which `decoding` sequences decode; none now and then, to see what a step
        takes without, or half of those, to see what fewer take.
        """
        self._is_probe = False
        if not decoding:
            return most
        if self._since_plain >= _STALE_AFTER:
            return 0
        base = self._decode_step(decoding)
        count = FIRST_TOKENS
        if base is not None and self._costs.is_known:
            spare = (self._stretch - 1) * min(base, self._decode_before.get(_size(decoding), base))
            most = min(most, max(FIRST_TOKENS, int(_GROWTH * self._last_beside)))
            count = max(FEWEST_TOKENS, self._costs.affordable(spare, most))
            self._is_probe = count < most and self._since_plain == _STALE_AFTER // 2
            if self._is_probe:
                count = count // 2 if count >= 2 * FEWEST_TOKENS else 2 * count
        self._allowed = min(count, most)
        return self._allowed

    def can_burst(self, decoding: int, prompt_tokens: int) -> bool:
        """Tell whether a whole prompt of so many tokens may join a step in which
        `decoding` sequences decode, whatever their stretch.
        """
        base = self._decode_step(decoding)
        if self._owed_seconds > 0 or base is None or not self._costs.is_known:
            return False
        return base + self._costs.seconds(prompt_tokens) <= self._burst_seconds

    def _decode_step(self, decoding: int) -> float | None:
        """Return the median time of a step that decodes about so many; where
        none did, of the next smaller size, else of the smallest. A step of
        prompts alone has the fixed part of a decode step too.
        """
        usual, size = self._usual_seconds, _size(decoding)
        if size in usual or not usual:
            return usual.get(size)
        below = [known for known in usual if known < size]
        return usual[max(below) if below else min(usual)]


def _size(decoding: int) -> int:
    """Return the power of two below which the count lies, as its exponent."""
    return max(1, decoding).bit_length()
