"""What a light path costs before any training: cuts by importance, on the real model.

    python -m benchmarks.light_path FOLDER

Cuts the packaged model to its most important neurons and heads (`distil.order`), compares
each cut with the whole on held-out texts, and publishes the table. Overlap is how often a
guess drawn from the cut would be what the whole draws. FOLDER keeps the texts.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import torch

from benchmarks import machine
from services.inference.distil import order
from services.inference.distil.judgement import perplexity
from services.inference.distil.source import OrderedSource
from services.inference.models import nested
from services.inference.models.nested import Prefix
from services.inference.quantise.divergence import Yardstick
from services.inference.quantise.search import Options, texts_of
from services.inference.quantise.workplace import Workplace
from thermesh.models import locate

MODEL = "smollm2-135m-instruct"
CUTS = tuple(Prefix(*cut) for cut in ((3, 1152), (2, 1152), (2, 960), (2, 768), (1, 576)))
PAGE = machine.ROOT / "docs" / "architecture" / "distillation.md"
PUBLISHED = machine.ROOT / "benchmarks" / "results" / "light-path.json"
BEGIN, END = "<!-- light path: begin -->\n", "<!-- light path: end -->\n"


def quality(folder: pathlib.Path) -> list[dict[str, float]]:
    """Return what each cut is worth on held-out texts."""
    source, options = OrderedSource(locate(MODEL)), Options()
    found = texts_of(source, options, Workplace(folder / "texts", vars(options)), lambda *_: None)
    config, texts = source.config, found.held_out
    orders = [
        one.order(config.kv_heads)
        for one in order.measured(config, source.weights(), found.fitted, options.seed)
    ]
    weights = OrderedSource(source.path, orders).weights()
    yardstick, written = Yardstick(config, weights, texts), texts[len(texts) // 2 :]
    return [_judged(yardstick, weights, written, cut, config) for cut in CUTS]


def _judged(
    yardstick: Yardstick, weights: Any, written: torch.Tensor, cut: Prefix, config: Any
) -> dict[str, float]:
    sizes, part = cut.config(config), nested.cut(weights, config, cut)
    overlaps = [
        torch.minimum(whole.exp(), light.exp()).sum(-1).mean()
        for whole, light in yardstick.pairs(part, config=sizes)
    ]
    return {
        "overlap": float(torch.stack(overlaps).mean()),
        "perplexity": perplexity(sizes, part, written),
        "whole_perplexity": perplexity(config, weights, written),
        **yardstick.measure(part, config=sizes).as_json(),
    }


def table(result: dict[str, Any]) -> str:
    """Return conditions and figures as Markdown."""
    host, whole = result["machine"], result["quality"][0]["whole_perplexity"]
    lines = [
        (
            f"{MODEL}, 2,048 held-out tokens, commit `{host['commit']}` with"
            f" {host['changed_files']} changed files. Not trained; perplexity of the whole"
            f" {whole:.2f}.\n"
        ),
        "| heads a group | neurons | mean KL | same top | perplexity | overlap |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {cut.heads_per_group} | {cut.neurons} |"
            f" {judged['mean']:.2f} ± {judged['standard_error']:.2f} | {judged['same_top']:.1%} |"
            f" {judged['perplexity']:.1f} | {judged['overlap']:.2f} |"
            for cut, judged in zip(CUTS, result["quality"], strict=True)
        ),
    ]
    return "\n".join(lines) + "\n"


def publish(quality_found: list[dict[str, float]]) -> None:
    """Keep the figures as the published ones and put them on the page."""
    result = {"quality": quality_found, "machine": machine.describe()}
    PUBLISHED.write_text(json.dumps(result) + "\n", encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + table(result) + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    publish(quality(pathlib.Path(sys.argv[1])))
