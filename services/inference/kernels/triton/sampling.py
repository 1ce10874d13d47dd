"""The sampler on the device: temperature programs and guards, no host in between.

What `services.inference.sampling.sampler` computes for a row, in the same order: telemetry
of the model's own distribution, guard on untempered logits, the row's temperature
from this very distribution, one draw by inverse CDF. The random number comes from
the host, which knows it before the logits: it depends on seed and index alone.

One program takes one row and goes over the vocabulary in blocks, always in the
same order. Cuts by rank or by mass need no sorting: the lowest logit that they
keep is found by halving the interval of logits until it has one left.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

FIELDS = (
    "program",
    "first",
    "second",
    "third",
    "fourth",
    "top_n_sigma",
    "min_p_below",
    "top_p",
    "top_k",
    "unit",
)
"""What a row of `settings` holds, all float32. `program` is 0 greedy, 1 fixed (first: its
temperature), 2 EDT (first: base, second: theta), 3 dynatemp (first: temperature, second:
range, third: exponent), 4 residual (first: temperature, second: range, third: slope, fourth:
centre). `min_p_below` is -log(min_p). An absent cut is below 0, `unit` the
random number in [0, 1)."""

RESULTS = ("entropy", "temperature", "log_probability", "model_log_probability")
"""What a row of the second result holds, float32; all NaN where the logits are no
distribution."""

_BLOCK = 4096
_LOWEST = 0.01
"""See `sampler.MINIMUM_TEMPERATURE`."""

_GATE = 0.2
"""See `sampler.RESIDUAL_GATE_NATS`."""


@triton.jit
def extent(row, size, BLOCK: tl.constexpr):
    """Return (highest, mean, how many are no number) of a row of logits."""
    highest, total, bad = float("-inf"), 0.0, 0
    for start in range(0, size, BLOCK):
        at = start + tl.arange(0, BLOCK)
        logits = tl.load(row + at, at < size, float("-inf")).to(tl.float32)
        highest = tl.maximum(highest, tl.max(logits))
        total += tl.sum(tl.where(at < size, logits, 0.0))
        bad += tl.sum((logits != logits).to(tl.int32))  # noqa: PLR0124  # NaN
    return highest, total / size, bad


@triton.jit
def deviation(row, size, mean, BLOCK: tl.constexpr):
    """Return the standard deviation of a row of logits."""
    squares = 0.0
    for start in range(0, size, BLOCK):
        at = start + tl.arange(0, BLOCK)
        logits = tl.load(row + at, at < size, 0.0).to(tl.float32)
        squares += tl.sum(tl.where(at < size, (logits - mean) * (logits - mean), 0.0))
    return tl.sqrt(squares / size)


@triton.jit
def mass(row, size, highest, floor, sharpness, BLOCK: tl.constexpr):
    """Return (count, sum of exp, sum of x * exp) of x = (logit - highest) * sharpness
    over the logits that are `floor` or more.
    """
    count, total, moment = 0.0, 0.0, 0.0
    for start in range(0, size, BLOCK):
        at = start + tl.arange(0, BLOCK)
        logits = tl.load(row + at, at < size, float("-inf")).to(tl.float32)
        kept = (at < size) & (logits >= floor)
        x = tl.where(kept, (logits - highest) * sharpness, 0.0)
        weight = tl.where(kept, tl.exp(x), 0.0)
        count += tl.sum(kept.to(tl.float32))
        total += tl.sum(weight)
        # exp(-inf) is 0, and 0 * -inf is no number.
        moment += tl.sum(tl.where(weight > 0, weight * x, 0.0))
    return count, total, moment


@triton.jit
def floor_by(row, size, highest, base, wanted, BY_MASS: tl.constexpr, BLOCK: tl.constexpr):
    """Return the highest floor (at least `base`) that keeps `wanted` of count, or of mass.

    Halving ends at neighbouring numbers of float32 before 32 rounds.
    """
    _, whole, _ = mass(row, size, highest, base, 1.0, BLOCK)
    low = tl.maximum(base, highest - 100.0)
    high = highest
    for _round in range(32):
        middle = low + (high - low) * 0.5
        count, total, _ = mass(row, size, highest, middle, 1.0, BLOCK)
        reached = count >= wanted
        if BY_MASS:
            reached = total >= wanted * whole
        low = tl.where(reached, middle, low)
        high = tl.where(reached, high, middle)
    count, total, _ = mass(row, size, highest, high, 1.0, BLOCK)
    enough = count >= wanted
    if BY_MASS:
        enough = total >= wanted * whole
    return tl.where(enough, high, low)


@triton.jit
def position_of(row, size, highest, floor, sharpness, target, greedy, BLOCK: tl.constexpr):
    """Return the first token at which the running sum of weights exceeds `target`,
    or the first of the highest where `greedy`.
    """
    before, token, last = 0.0, -1, 0
    for start in range(0, size, BLOCK):
        at = start + tl.arange(0, BLOCK)
        logits = tl.load(row + at, at < size, float("-inf")).to(tl.float32)
        kept = (at < size) & (logits >= floor)
        weight = tl.where(kept, tl.exp((logits - highest) * sharpness), 0.0)
        reached = kept & (before + tl.cumsum(weight, 0) > target)
        reached = tl.where(greedy, (logits == highest) & (at < size), reached)
        first = tl.min(tl.where(reached, at, size))
        token = tl.where((token < 0) & (first < size), first, token)
        last = tl.maximum(last, tl.max(tl.where(kept, at, 0)))
        before += tl.sum(weight)
    return tl.where(token < 0, last, token)


@triton.jit
def sample_kernel(logits, settings, tokens, results, size, LOWEST: tl.constexpr, GATE: tl.constexpr,
                  FIELDS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """One row a program."""
    index = tl.program_id(0).to(tl.int64)
    row, own = logits + index * size, settings + index * FIELDS
    program, first = tl.load(own), tl.load(own + 1)
    second, third, fourth = tl.load(own + 2), tl.load(own + 3), tl.load(own + 4)
    sigma, below, top_p = tl.load(own + 5), tl.load(own + 6), tl.load(own + 7)
    top_k, unit = tl.load(own + 8), tl.load(own + 9)
    out = results + index * 4
    highest, mean, bad = extent(row, size, BLOCK)
    if (bad > 0) | (highest == float("inf")) | (highest == float("-inf")):
        tl.store(tokens + index, 0)
        tl.store(out + tl.arange(0, 4), float("nan"))
        return
    none = float("-inf")
    _, whole, moment = mass(row, size, highest, none, 1.0, BLOCK)
    entropy = tl.log(whole) - moment / whole
    floor = highest - 200.0
    if (top_k > 0) & (top_k < size):
        floor = floor_by(row, size, highest, floor, top_k, False, BLOCK)
    if (top_p > 0) & (top_p < 1):
        floor = floor_by(row, size, highest, floor, top_p, True, BLOCK)
    if below >= 0:
        floor = tl.maximum(floor, highest - below)
    if sigma >= 0:
        floor = tl.maximum(floor, highest - sigma * deviation(row, size, mean, BLOCK))
    temperature = first
    if program == 2:
        power = tl.exp2(tl.log2(0.8) * second / tl.maximum(entropy, 1e-9))
        temperature = tl.where(entropy > 0, first * power, 0.0)
    if program == 3:
        count, total, part = mass(row, size, highest, floor, 1.0, BLOCK)
        spread = (tl.log(total) - part / total) / tl.log(tl.maximum(count, 2.0))
        spread = tl.where(count > 1, tl.minimum(tl.maximum(spread, 0.0), 1.0), 0.0)
        low = tl.maximum(first - second, 0.0)
        power = tl.where(spread > 0, tl.exp2(third * tl.log2(tl.maximum(spread, 1e-30))), 0.0)
        temperature = low + (first + second - low) * power
    if program == 4:
        # the bounds and the gate are those of `sampler.residual_temperature`
        moved = tl.where(entropy > GATE, third * (entropy - fourth), 0.0)
        coolest, hottest = tl.maximum(first - second, 0.1), tl.minimum(first + second, 2.0)
        inverse = tl.maximum(1.0 / first + moved, 1.0 / hottest)
        temperature = 1.0 / tl.minimum(inverse, 1.0 / coolest)
    temperature = tl.maximum(temperature, LOWEST)
    greedy = program == 0
    _, total, _ = mass(row, size, highest, floor, 1.0 / temperature, BLOCK)
    token = position_of(row, size, highest, floor, 1.0 / temperature, unit * total, greedy, BLOCK)
    drawn = tl.load(row + token).to(tl.float32) - highest
    own_log = tl.where(greedy, 0.0, drawn / temperature - tl.log(total))
    tl.store(tokens + index, token.to(tl.int64))
    tl.store(out, entropy)
    tl.store(out + 1, tl.where(greedy, 0.0, temperature))
    tl.store(out + 2, own_log)
    tl.store(out + 3, drawn - tl.log(whole))


def sample(logits: torch.Tensor, settings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a token for each row of [rows, vocabulary] float32 `logits`.

    `settings` is [rows, FIELDS] float32 on the same device. Returns tokens
    [rows] int64 and [rows, RESULTS] float32, both still on the device.
    """
    rows, size = logits.shape
    tokens = torch.empty(rows, dtype=torch.int64, device=logits.device)
    results = torch.empty(rows, len(RESULTS), dtype=torch.float32, device=logits.device)
    sample_kernel[(rows,)](
        logits,
        settings,
        tokens,
        results,
        size,
        LOWEST=_LOWEST,
        GATE=_GATE,
        FIELDS=len(FIELDS),
        BLOCK=min(_BLOCK, triton.next_power_of_2(size)),
        num_warps=8,
    )
    return tokens, results


def settings_of(rows: Sequence[tuple[float, ...]], device: torch.device) -> torch.Tensor:
    """Return the `settings` of rows given as tuples of FIELDS."""
    return torch.tensor(rows, dtype=torch.float32).to(device, non_blocking=True)
