"""How long running streams wait for a token while a long prompt joins them."""

from __future__ import annotations

import itertools
import statistics

from benchmarks.engine.contender import STREAM_CONTEXT, random_prompt
from benchmarks.engine.ours.thermesh import Thermesh
from benchmarks.spread import quantile

STEPS_ALONE = 24
"""Before the prompt, and after it: while it is computed the streams' own contexts
grow, and with them what a step takes without it.
"""


def worst(contender: Thermesh, streams: int, prompt: int, most: float) -> dict[str, float]:
    """Return the longest wait of any stream, in median steps without the prompt, and how
    many of the steps took longer than `most` of these.
    """
    running = contender.begin(STREAM_CONTEXT, streams)
    for _ in range(STEPS_ALONE):
        contender.step()
    counts = [len(one.times) for one in running]
    joining = contender.open(random_prompt(contender.draw, prompt), max_tokens=1)
    contender.until_begun([joining])
    for _ in range(STEPS_ALONE):
        contender.step()
    pairs = list(zip(running, counts, strict=True))
    before = [gap for one, count in pairs for gap in _gaps(one.times[:count][-STEPS_ALONE:])]
    after = [gap for one in running for gap in _gaps(one.times[-STEPS_ALONE:])]
    waits = [gap for one, count in pairs for gap in _gaps(one.times[count - 1 :])]
    joined = joining.times[0] - running[0].times[counts[0] - 1]
    contender.close()
    usual = [statistics.median(gaps) for gaps in (before, after)]
    step = statistics.fmean(usual)
    # All decode in the same steps, so the gaps of one are the steps of all.
    steps = _gaps(running[0].times[counts[0] - 1 :])
    return {
        "worst_in_steps": max(waits) / step,
        "p99_in_steps": quantile(waits, 0.99) / step,
        "beyond": sum(gap > most * step for gap in steps),
        "steps": len(steps),
        "step_ms": 1000 * step,
        "before_ms": 1000 * usual[0],
        "after_ms": 1000 * usual[1],
        "joined_seconds": joined,
    }


def _gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]
