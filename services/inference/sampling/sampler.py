"""Draws one token a row from logits. Pure numpy: no engine, no text, no clock.

Order, the same for every token:

1. telemetry of the model's own distribution: entropy, log-probabilities;
2. logit bias, then penalties;
3. constraint: tokens that the output's language does not allow are gone;
4. guard: top_k, top_p, min_p, top_n_sigma, on untempered probabilities;
5. temperature, by the row's program, from this token's own distribution;
6. one draw by inverse CDF, with a number from a counter-based generator.

Under a constraint the temperature follows the model's entropy over the allowed
tokens: how much it would rather have written prose says nothing of how sure it
is about the next digit.

Replay: the random number depends on (seed, token index) alone and every
reduction runs over one row of fixed length, so what else is in the batch
changes nothing, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.inference.sampling.settings import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    Dynatemp,
    Edt,
    Fixed,
    Guard,
    Program,
    Residual,
    Sampling,
)

Vector = npt.NDArray[np.floating]
Ids = npt.NDArray[np.int64]

MINIMUM_TEMPERATURE = 0.01
"""Lowest temperature a program can reach: EDT and dynatemp tend to 0 where the
model is sure, and a division by 0 must not follow. At 0.01 a lead of 1 nat is
already e^100."""

RESIDUAL_GATE_NATS = 0.2
"""A token less unsure than this keeps its request's temperature: there is nothing to correct
(arXiv 2603.09065 masks tokens of a probability above 0.95 likewise)."""

_EDT_BASE = 0.8  # the constant of arXiv 2403.14541, equation 4


@dataclass(frozen=True)
class Row:
    """What the sampler must know of one sequence beside its logits.

    `allowed` ([vocabulary] bool, at least one true) is what a constraint leaves.
    """

    sampling: Sampling
    seed: int
    token_index: int
    prompt_ids: AbstractSet[int] = frozenset()
    output_counts: Mapping[int, int] = field(default_factory=dict)
    candidate_count: int = 0
    allowed: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Drawn:
    """One drawn token; entropy and log-probabilities in nats."""

    token_id: int
    temperature: float
    entropy: float
    log_probability: float
    model_log_probability: float
    candidates: tuple[tuple[int, float], ...] = ()


def sample(logits: Sequence[npt.ArrayLike], rows: Sequence[Row]) -> list[Drawn | None]:
    """Draw one token for each row from its vector of `logits`: [vocabulary], any float.

    None stands for a row whose logits are not a distribution (NaN, +inf).
    """
    return [
        _draw(np.asarray(vector, dtype=np.float32), row)
        for vector, row in zip(logits, rows, strict=True)
    ]


def random_unit(seed: int, token_index: int) -> float:
    """Return the number in [0, 1) that draws token `token_index` under `seed`.

    Philox 4x64 (Salmon et al. 2011) keyed by the seed with the index as its
    counter: random access, so a resumed or preempted sequence repeats itself.
    """
    raw = np.random.Philox(key=seed, counter=token_index).random_raw()
    return float(int(raw) >> 11) * 2.0**-53


def _draw(logits: Vector, row: Row) -> Drawn | None:
    log_probabilities = log_softmax(logits)
    entropy = entropy_of(log_probabilities)
    if not math.isfinite(entropy):
        return None
    adjusted = _penalised(_biased(logits, row), row)
    allowed_ids = None if row.allowed is None else np.flatnonzero(row.allowed)
    if allowed_ids is not None:
        adjusted = adjusted[allowed_ids]
    program = row.sampling.program
    if isinstance(program, Fixed) and program.temperature == 0:
        token_id, temperature, log_probability = int(adjusted.argmax()), 0.0, 0.0
    else:
        token_ids, kept = _guarded(adjusted, logits, row.sampling.guard)
        certainty = entropy if allowed_ids is None else entropy_of(log_softmax(logits[allowed_ids]))
        temperature = temperature_of(program, certainty, kept)
        unit = random_unit(row.seed, row.token_index)
        # Rounded to what the trace of an answer holds: decoding by the trace gives the same bits.
        traced = float(np.float32(temperature))
        position, log_probability = _inverse_cdf(kept / traced, unit)
        token_id = int(token_ids[position])
    if allowed_ids is not None:
        token_id = int(allowed_ids[token_id])
    return Drawn(
        token_id,
        temperature,
        entropy,
        log_probability,
        float(log_probabilities[token_id]),
        _candidates(log_probabilities, row.candidate_count),
    )


def temperature_of(program: Program, entropy: float, kept: Vector) -> float:
    """Return the temperature of one token.

    `entropy` (nats) is that of the model's own distribution over what a
    constraint allows; `kept` ([n]) are the untempered logits of the candidates
    that the guard left.
    """
    if not isinstance(program, Dynatemp):
        return temperature_by(program, entropy, 0.0)
    return temperature_by(program, entropy, evenness(entropy_of(log_softmax(kept)), len(kept)))


def temperature_by(program: Program, entropy: float, spread: float) -> float:
    """Return the temperature of one token like `temperature_of`; `spread` in [0, 1] is the
    `evenness` of what the guard left, asked for by Dynatemp alone.
    """
    match program:
        case Fixed(temperature):
            wanted = temperature
        case Edt(base, theta):
            wanted = base * _EDT_BASE ** (theta / entropy) if entropy > 0 else 0.0
        case Dynatemp(middle, width, exponent):
            low, high = max(0.0, middle - width), middle + width
            wanted = low + (high - low) * spread**exponent
        case Residual():
            wanted = residual_temperature(program, entropy)
    return max(MINIMUM_TEMPERATURE, wanted)


def residual_temperature(program: Residual, entropy: float) -> float:
    """Return a token's temperature, exactly as a trace of float32 keeps it; always within
    `range` of the program's own and in [0.1, 2.0], but for that rounding.
    """
    moved = program.slope * (entropy - program.centre) if entropy > RESIDUAL_GATE_NATS else 0.0
    low = max(program.temperature - program.range, LOWEST_TEMPERATURE)
    high = min(program.temperature + program.range, HIGHEST_TEMPERATURE)
    # beyond either end the reciprocal may be 0 or negative; at the end it is neither
    inverse = min(max(1.0 / program.temperature + moved, 1.0 / high), 1.0 / low)
    return float(np.float32(1.0 / inverse))


def evenness(entropy: float, count: int) -> float:
    """Return what `count` candidates of `entropy` (nats) have of the most they could."""
    return min(1.0, entropy / math.log(count)) if count > 1 else 0.0


def log_softmax(logits: Vector) -> Vector:
    """Return the log-probabilities, nats, of [vocabulary] `logits`, in their own precision.

    Where the logits are no distribution, they are not finite either.
    """
    with np.errstate(all="ignore"):
        above: Vector = logits - logits.max()
        total = np.exp(above).sum(dtype=np.float64)
        return above - logits.dtype.type(np.log(total))


def entropy_of(log_probabilities: Vector) -> float:
    """Return the entropy, nats, of [vocabulary] log-probabilities."""
    with np.errstate(all="ignore"):
        probabilities = np.exp(log_probabilities)
        parts = np.where(probabilities == 0, 0, probabilities * log_probabilities)
    return float(np.maximum(0.0, -parts.sum(dtype=np.float64)))  # NaN stays


def _biased(logits: Vector, row: Row) -> Vector:
    if not row.sampling.logit_bias:
        return logits
    token_ids, biases = zip(*row.sampling.logit_bias, strict=True)
    biased = logits.copy()
    np.add.at(biased, np.array(token_ids), np.array(biases, dtype=logits.dtype))
    return biased


def _penalised(logits: Vector, row: Row) -> Vector:
    penalties = row.sampling.penalties
    if penalties.are_off:
        return logits
    penalised = logits.copy()
    used = np.array(sorted(row.prompt_ids | row.output_counts.keys()), dtype=np.int64)
    if penalties.repetition != 1:
        score, factor = penalised[used], penalties.repetition
        penalised[used] = np.where(score > 0, score / factor, score * factor)
    if row.output_counts:
        output = np.array(list(row.output_counts), dtype=np.int64)
        counts = np.array(list(row.output_counts.values()), dtype=logits.dtype)
        penalised[output] -= penalties.presence + penalties.frequency * counts
    return penalised


def _guarded(adjusted: Vector, logits: Vector, guard: Guard) -> tuple[Ids, Vector]:
    """Return (token ids ascending, their logits in float64) of what survives."""
    token_ids = np.arange(len(adjusted))
    kept = adjusted.astype(np.float64)
    if guard.top_k is not None and guard.top_k < len(kept):
        token_ids = _first(kept, guard.top_k)
        kept = kept[token_ids]
    if guard.top_p is not None and guard.top_p < 1:
        survivors = _nucleus(kept, guard.top_p)
        token_ids, kept = token_ids[survivors], kept[survivors]
    floor = _floor(kept, logits, guard)
    if floor is not None:
        survivors = np.flatnonzero(kept >= floor)
        token_ids, kept = token_ids[survivors], kept[survivors]
    return token_ids, kept


def _first(scores: Vector, count: int) -> Ids:
    """Return positions, ascending, of the `count` best; of equal ones the earlier."""
    lowest = np.partition(scores, len(scores) - count)[len(scores) - count]
    is_kept = scores > lowest
    ties = np.flatnonzero(scores == lowest)
    is_kept[ties[: count - np.count_nonzero(is_kept)]] = True
    return np.flatnonzero(is_kept)


def _nucleus(kept: Vector, top_p: float) -> Ids:
    """Return positions, ascending, of the smallest set that reaches `top_p`."""
    probabilities = np.exp(log_softmax(kept))
    ordered = np.sort(probabilities)[::-1]
    before = np.cumsum(ordered) - ordered
    return _first(probabilities, max(1, int(np.count_nonzero(before < top_p))))


def _floor(kept: Vector, logits: Vector, guard: Guard) -> float | None:
    """Return the lowest logit that min_p and top_n_sigma let through.

    Both measure from the best logit, which always survives, so the higher of
    the two floors is the same as one cut after the other. Sigma is that of the
    model's own logits over the whole vocabulary, as in the paper: neither a
    ban by logit bias nor an earlier cut may widen or narrow it.
    """
    below_best = []
    if guard.min_p is not None:
        below_best.append(-math.log(guard.min_p))
    if guard.top_n_sigma is not None:
        below_best.append(guard.top_n_sigma * float(logits.std(dtype=np.float64)))
    return float(kept.max()) - min(below_best) if below_best else None


def _inverse_cdf(scores: Vector, unit: float) -> tuple[int, float]:
    """Return (position, log-probability) of the draw `unit` from softmax(scores)."""
    log_probabilities = log_softmax(scores)
    cumulative = np.exp(log_probabilities).cumsum()
    position = int(np.searchsorted(cumulative, cumulative[-1] * unit, side="right"))
    position = min(position, len(scores) - 1)
    return position, float(log_probabilities[position])


def best_of(logits: Vector, count: int) -> tuple[tuple[int, float], ...]:
    """Return the `count` likeliest tokens of `logits` [vocabulary] and their log-probabilities."""
    return _candidates(log_softmax(logits), count) if count else ()


def _candidates(log_probabilities: Vector, count: int) -> tuple[tuple[int, float], ...]:
    if count == 0:
        return ()
    best = _first(log_probabilities, min(count, len(log_probabilities)))
    best = best[np.argsort(-log_probabilities[best], kind="stable")]
    return tuple(zip(best.tolist(), log_probabilities[best].tolist(), strict=True))
