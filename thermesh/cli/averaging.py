"""Federated averaging: what several sites learned from one policy, without their feedback.

Each site began from the same base. What it learned is the difference of its numbers
from the base's; the average of the differences goes on top of the base (McMahan et al.
2017). Sites weigh by how much feedback they learned from, unless noise is asked for:

    difference * min(1, clip / its L2 norm)      so no site moves the average further
    Normal(0, (noise * clip / sites)^2)          added to each number of the average

and then all weigh alike, which bounds what one site can change by clip / sites: the
Gaussian mechanism of McMahan et al. 2018, for the privacy of a site. What must not
become negative (counts, variances) is cut at 0.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thermesh.errors import InvalidArgument

# Members that are no result of learning and must be the same everywhere.
_FIXED = ("actions", "shape_weight", "statics")
_NEVER_NEGATIVE = ("counts", "squares", "seen", "surprise")
Numbers = dict[tuple[str, int], float]


@dataclass(frozen=True, slots=True)
class Protection:
    """`clip` 0 is none; `noise` is in units of clip / sites, and needs a clip."""

    clip: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.clip) and self.clip >= 0.0):
            raise InvalidArgument("--clip must be 0 or above", field="clip")
        if not (math.isfinite(self.noise) and self.noise >= 0.0):
            raise InvalidArgument("--noise must be 0 or above", field="noise")
        if self.noise > 0.0 and self.clip == 0.0:
            raise InvalidArgument("--noise needs --clip, which it is measured by", field="noise")


def averaged(
    base: Mapping[str, Any],
    sites: Sequence[Mapping[str, Any]],
    protection: Protection,
    dice: random.Random,
) -> dict[str, Any]:
    """Return the policy file of the average; raise InvalidArgument where files do not fit."""
    if not sites:
        raise InvalidArgument("at least one site is needed")
    begin = _numbers(base["parameters"])
    deltas = [_clipped(_difference(base, begin, site), protection.clip) for site in sites]
    shares = _shares(base, sites, protection)
    deviation = protection.noise * protection.clip / len(sites)
    result = {}
    for place, value in begin.items():
        moved = sum(share * delta[place] for share, delta in zip(shares, deltas, strict=True))
        noisy = value + moved + (dice.gauss(0.0, deviation) if deviation else 0.0)
        result[place] = max(0.0, noisy) if place[0] in _NEVER_NEGATIVE else noisy
    return {
        **base,
        "reason": "averaged",
        "feedback_count": _learned(base) + sum(_learned(site) - _learned(base) for site in sites),
        "parameters": _rebuilt(base["parameters"], result),
    }


def _learned(content: Mapping[str, Any]) -> int:
    return int(content.get("feedback_count", 0))


def _shares(
    base: Mapping[str, Any], sites: Sequence[Mapping[str, Any]], protection: Protection
) -> list[float]:
    counts = [max(0, _learned(site) - _learned(base)) for site in sites]
    if protection.noise > 0.0 or sum(counts) == 0:
        return [1.0 / len(sites)] * len(sites)
    return [count / sum(counts) for count in counts]


def _difference(base: Mapping[str, Any], begin: Numbers, site: Mapping[str, Any]) -> Numbers:
    own, before = site["parameters"], base["parameters"]
    same = all(own.get(name) == before.get(name) for name in _FIXED)
    numbers = _numbers(own)
    if site["kind"] != base["kind"] or not same or numbers.keys() != begin.keys():
        raise InvalidArgument("a site's policy has another kind, grid or size than the base")
    return {place: numbers[place] - begin[place] for place in begin}


def _clipped(delta: Numbers, clip: float) -> Numbers:
    norm = math.sqrt(sum(each * each for each in delta.values()))
    if not math.isfinite(norm):
        raise InvalidArgument("a site's policy holds a number that is not finite")
    scale = min(1.0, clip / norm) if clip > 0.0 and norm > 0.0 else 1.0
    return {place: scale * each for place, each in delta.items()}


def _numbers(parameters: Mapping[str, Any]) -> Numbers:
    found: Numbers = {}
    for name, value in parameters.items():
        if name not in _FIXED:
            found.update({(name, index): x for index, x in enumerate(_flat(value))})
    return found


def _flat(value: Any) -> list[float]:
    if isinstance(value, list):
        return [each for part in value for each in _flat(part)]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidArgument("a policy file holds something that is not a number")
    return [float(value)]


def _rebuilt(parameters: Mapping[str, Any], numbers: Numbers) -> dict[str, Any]:
    """Return parameters of the same shape that hold `numbers`."""
    rebuilt: dict[str, Any] = {}
    for name, value in parameters.items():
        count = iter(range(len(numbers)))
        rebuilt[name] = value if name in _FIXED else _shaped(value, name, numbers, count)
    return rebuilt


def _shaped(value: Any, name: str, numbers: Numbers, count: Any) -> Any:
    if isinstance(value, list):
        return [_shaped(each, name, numbers, count) for each in value]
    return numbers[name, next(count)]
