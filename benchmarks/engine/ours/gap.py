"""How long running streams wait for a token while a long prompt joins them."""

from __future__ import annotations

import itertools
import statistics

from benchmarks.engine.contender import STREAM_CONTEXT, random_prompt
from benchmarks.engine.ours.thermesh import Thermesh

STEPS_BEFORE = 24
STEPS_AFTER = 4


def worst(contender: Thermesh, streams: int, prompt: int) -> dict[str, float]:
    """Return the longest wait of any stream, in median steps without the prompt."""
    running = contender.begin(STREAM_CONTEXT, streams)
    for _ in range(STEPS_BEFORE):
        contender.step()
    alone = [gap for one in running for gap in _gaps(one.times[-STEPS_BEFORE:])]
    counts = [len(one.times) for one in running]
    joining = contender.open(random_prompt(contender.draw, prompt), max_tokens=1)
    contender.until_begun([joining])
    for _ in range(STEPS_AFTER):
        contender.step()
    pairs = zip(running, counts, strict=True)
    waits = [gap for one, count in pairs for gap in _gaps(one.times[count - 1 :])]
    joined = joining.times[0] - running[0].times[counts[0] - 1]
    contender.close()
    step = statistics.median(alone)
    return {
        "worst_in_steps": max(waits) / step,
        "step_ms": 1000 * step,
        "joined_seconds": joined,
    }


def _gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]
