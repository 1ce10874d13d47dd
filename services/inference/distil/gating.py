"""`thermesh distil MODEL GATES.npz`: gates for a model's long contexts, and what they find."""

from __future__ import annotations

import json
import pathlib
import statistics

import torch

from services.inference.distil import gates as teaching
from services.inference.kernels.gates import Gates
from services.inference.models import load
from services.inference.quantise import texts
from services.inference.quantise.search import Options, Progress
from services.inference.quantise.source import Source

ROUNDS = 2
JUDGED_PAGES = 16
"""Pages that may be read besides first page and window, when gates are judged."""


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
    means = teaching.recalls(config, weights, begun, held_out, JUDGED_PAGES)
    gated = teaching.recalls(config, weights, found, held_out, JUDGED_PAGES)
    report = {
        "model": source.path.name,
        "texts": {"fitted": len(fitted), "held_out": len(held_out), "tokens": options.length},
        "pages": JUDGED_PAGES,
        "recall_by_means": means,
        "recall_by_gates": gated,
        "device": str(torch.device("cpu")),
    }
    pathlib.Path(f"{target}.json").write_text(json.dumps(report, indent=1) + "\n")
    return (
        f"{target}: recall of attention in {JUDGED_PAGES} pages"
        f" {statistics.fmean(means):.3f} by means, {statistics.fmean(gated):.3f} by gates"
    )
