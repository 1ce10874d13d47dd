"""`thermesh distil MODEL GATES.npz`: gates for a model's long contexts, and what they find."""

from __future__ import annotations

import json
import pathlib
import statistics
from typing import Any

import torch

from services.inference.distil import gates as teaching
from services.inference.kernels import PAGE_SIZE
from services.inference.kernels.gates import Gates
from services.inference.kernels.sparsity import LIGHT
from services.inference.models import load
from services.inference.quantise import texts
from services.inference.quantise.search import Options, Progress
from services.inference.quantise.source import Source

ROUNDS = 2
JUDGED_PAGES = (16, LIGHT.budget_tokens // PAGE_SIZE)
"""Pages that may be read besides first page and window, when gates are judged: few, and as
many as a sequence on the light path reads in all."""


def taught_gates(
    source: Source, options: Options, count: int, target: pathlib.Path, progress: Progress
) -> str:
    """Write gates taught by `count` texts of the manual, and a report; return it in a line.

    Texts are as long as `options.length`; sampled ones would need long contexts that
    the gates are there to make cheap.
    """
    model, config, weights = load(source.path, "original"), source.config, source.weights()
    fitted, held_out = (
        texts.manual(model, part, wanted, options.length)
        for part, wanted in ((0, count), (1, options.held_out))
    )
    found = teaching.learned(
        config,
        weights,
        fitted,
        ROUNDS,
        seed=options.seed,
        progress=lambda done, of: progress("gates", done, of),
    )
    found.save(target)
    begun = Gates.of_means(config.layers, config.kv_heads, config.head_size)
    recalls = [
        {
            "pages": pages,
            "by_means": teaching.recalls(config, weights, begun, held_out, pages),
            "by_gates": teaching.recalls(config, weights, found, held_out, pages),
        }
        for pages in JUDGED_PAGES
    ]
    report = {
        "model": source.path.name,
        "texts": {"fitted": len(fitted), "held_out": len(held_out), "tokens": options.length},
        "recalls": recalls,
        "device": str(torch.device("cpu")),
    }
    pathlib.Path(f"{target}.json").write_text(json.dumps(report, indent=1) + "\n")
    return "\n".join(f"{target}: {told(one)}" for one in recalls)


def told(recall: dict[str, Any]) -> str:
    """Return what pages chosen by means and by gates have of the attention to choose from."""
    means, gates = (statistics.fmean(recall[by]) for by in ("by_means", "by_gates"))
    better = sum(new > old for new, old in zip(recall["by_gates"], recall["by_means"], strict=True))
    return (
        f"{recall['pages']} pages chosen by means have {means:.1%} of the attention there is to"
        f" choose, by gates {gates:.1%}; gates are better in {better} of"
        f" {len(recall['by_gates'])} layers"
    )
