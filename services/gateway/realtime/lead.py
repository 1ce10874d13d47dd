"""How far decoding may run ahead of what the user hears.

Speech is played at about four tokens a second and decoded at hundreds. What is
decoded ahead is lost when the user interrupts, and others could have had the
engine meanwhile. So an answer that may be interrupted is decoded on credit: so
many tokens beyond those heard, and more only where the speech that is left
would end before the next clause is whole.
"""

from __future__ import annotations

STRIDE = 8
"""Tokens given at once, so that credit does not cost a message a token."""

SHORT_MS = 1000.0
"""Speech left at which the next clause is decoded whatever the lead: its synthesis
takes time too, and a silence amid an answer sounds broken."""


class Lead:
    """The credit of one answer, which began with `tokens` of it."""

    def __init__(self, tokens: int) -> None:
        self.granted = tokens
        self._tokens = tokens

    def due(self, decoded: int, heard: int, left_ms: float) -> int:
        """Return the credit to give now, 0 or at least STRIDE.

        `decoded` tokens came so far, `heard` of them were played, and `left_ms`
        of speech is left.
        """
        wanted = heard + self._tokens
        if decoded >= self.granted and left_ms < SHORT_MS:
            wanted = max(wanted, self.granted + STRIDE)
        due = wanted - self.granted
        if due < STRIDE:
            return 0
        self.granted += due
        return due
