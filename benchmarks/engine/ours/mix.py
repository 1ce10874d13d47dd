"""What a mix of precisions loses against uniform bits, by `thermesh quantize`'s own search."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.engine.ours.thermesh import Thermesh
from services.inference.cores import physical_cores
from services.inference.quantise import search as searching
from services.inference.quantise.search import LAYOUT, Options, Search
from services.inference.quantise.source import Source
from services.inference.quantise.workplace import Workplace
from thermesh.settings import state_dir


def divergences(contender: Thermesh, bits: list[float]) -> dict[str, float]:
    """Return mean KL divergence and megabytes of mix and uniform at some bits a weight.

    It takes minutes; what is found is kept, so an interrupted run goes on.
    """
    torch.set_num_threads(physical_cores())
    points = _points(contender, bits)
    torch.set_num_threads(1)
    return {
        f"{kind} {point['bits']:g} {name}": value
        for point in points
        for kind in ("mix", "uniform")
        for name, value in _told(point[kind]).items()
    }


def _points(contender: Thermesh, bits: list[float]) -> list[dict[str, Any]]:
    options, source = Options(), Source(contender.path)
    fingerprint = {
        "layout": LAYOUT,
        "model": contender.path.name,
        "bytes": contender.path.stat().st_size,
    }
    folder = state_dir() / "bench" / "mix"
    workplace = Workplace(folder, {**fingerprint, **vars(options)})
    search = Search(source, options, workplace, lambda _stage, _done, _of: None)
    return [searching.point(search, workplace, each) for each in bits]


def _told(entry: dict[str, Any]) -> dict[str, float]:
    divergence = entry["divergence"]
    return {
        "megabytes": entry["bytes"] / 1e6,
        "mean_kl": divergence["mean"],
        "standard_error": divergence["standard_error"],
        "same_top": divergence["same_top"],
        **{name: entry["temperature"]["divergence"][name] for name in ("value", "low", "high")},
    }
