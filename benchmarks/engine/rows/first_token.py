"""Row 9: time to the first token of a prompt of 128 tokens."""

from __future__ import annotations

from benchmarks.engine.plan import Figure, Row, Samples, Verdict
from benchmarks.engine.verdicts import at_most, peer_told

PROMPT = 128
IDLE = Figure("first token, idle", "first_token", {"prompt": PROMPT, "streams": 0}, unit="ms")
BUSY = Figure(
    "first token, 8 streams running", "first_token", {"prompt": PROMPT, "streams": 8}, unit="ms"
)
AGAIN = Figure(
    "first token, prompt seen before",
    "first_token_again",
    {"prompt": PROMPT},
    unit="ms",
    has_peers=False,
)


def verdicts(samples: Samples) -> list[Verdict]:
    """Judge medians by fixed bars; peers are told beside them."""
    return [
        at_most(
            samples,
            figure,
            most,
            beside=peer_told(samples, figure)[1] if figure.has_peers else "",
        )
        for figure, most in ((IDLE, 75), (BUSY, 110), (AGAIN, 25))
    ]


ROW = Row(9, "first token", (IDLE, BUSY, AGAIN), verdicts)
