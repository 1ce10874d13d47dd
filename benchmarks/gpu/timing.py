"""Times of a device by its own events, and what it can read at most."""

from __future__ import annotations

import contextlib
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

SAMPLES = 7
"""Samples of each contender; medians are of at least five."""


class OutOfTime(Exception):
    """A row took longer than its share of the whole."""


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the body after `seconds`."""

    def over(_signal: int, _frame: Any) -> None:
        raise OutOfTime(f"longer than its {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def milliseconds(work: Callable[[], object], repeats: int = 1) -> float:
    """Return what one of `repeats` runs of `work` takes on the device."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / repeats


def compared(
    contenders: Mapping[str, Callable[[], object]], repeats: int = 5
) -> dict[str, list[float]]:
    """Return samples in milliseconds of each contender, measured in turns."""
    for work in contenders.values():
        for _ in range(3):
            work()
    torch.cuda.synchronize()
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(SAMPLES):
        for name, work in contenders.items():
            samples[name].append(milliseconds(work, repeats))
    return samples


def wall_milliseconds(work: Callable[[], object], steps: int) -> list[float]:
    """Return samples of one of `steps` runs, the host's part included, until the device is done."""
    for _ in range(3):
        work()
    samples = []
    for _ in range(SAMPLES):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(steps):
            work()
        torch.cuda.synchronize()
        samples.append((time.perf_counter() - started) * 1000 / steps)
    return samples


def spread(samples: list[float]) -> dict[str, float]:
    """Return median and quartiles."""
    low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
    return {"median": middle, "low": low, "high": high, "samples": len(samples)}


def bandwidth(gibibytes: int = 2) -> float:
    """Return bytes per second that a reduction of a large tensor reads."""
    numbers = torch.ones(gibibytes << 28, dtype=torch.float32, device="cuda")
    samples = compared({"read": numbers.sum})["read"]
    return numbers.nbytes / (statistics.median(samples) / 1000)
