"""What a light path costs before any training: cuts by importance, and refitted, on the real model.

    python -m benchmarks.light_path FOLDER

Cuts the packaged model to its most important neurons and heads (`distil.order`), compares
each cut with the whole on held-out texts, fits what is behind the neurons anew
(`distil.refitting`), compares again, and publishes the table. Overlap is how often a guess
drawn from the cut would be what the whole draws. FOLDER keeps the texts.
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
from services.inference.distil.refitting import refit
from services.inference.distil.source import OrderedSource
from services.inference.models import load, nested_weights
from services.inference.models.config import ModelConfig
from services.inference.models.nested import Prefix
from services.inference.models.weights import Weights
from services.inference.quantise.divergence import Yardstick
from services.inference.quantise.forward import has_16_bit_products
from services.inference.quantise.search import Options, texts_of
from services.inference.quantise.texts import manual as manual_texts
from services.inference.quantise.workplace import Workplace
from thermesh.models import locate

MODEL = "smollm2-135m-instruct"
CUTS = tuple(Prefix(*cut) for cut in ((3, 1152), (3, 768), (3, 448), (2, 1152), (2, 768)))
_SHOWN = 32
"""Texts of Python's manual, beside those that cuts are chosen by, to fit on."""
PAGE = machine.ROOT / "docs" / "architecture" / "distillation.md"
PUBLISHED = machine.ROOT / "benchmarks" / "results" / "light-path.json"
BEGIN, END = "<!-- light path: begin -->\n", "<!-- light path: end -->\n"


Quality = dict[str, dict[str, float]]
"""What one cut is worth: `cut` and `refitted`."""


def quality(folder: pathlib.Path) -> list[Quality]:
    """Return what each cut is worth on held-out texts."""
    source, options = OrderedSource(locate(MODEL)), Options()
    found = texts_of(source, options, Workplace(folder / "texts", vars(options)), lambda *_: None)
    config, texts = source.config, found.held_out
    orders = [
        one.order(config.kv_heads)
        for one in order.measured(config, source.weights(), found.fitted, options.seed)
    ]
    weights = OrderedSource(source.path, orders).weights()
    manual = manual_texts(load(source.path, "original"), 0, _SHOWN, options.length)
    shown, judge = torch.cat((found.fitted, manual)), _Judge(config, weights, texts)
    return [_both(judge, weights, shown, cut) for cut in CUTS]


def _both(judge: _Judge, weights: Weights, shown: torch.Tensor, cut: Prefix) -> Quality:
    config, sizes = judge.config, cut.config(judge.config)
    part = nested_weights.separated(weights, config, cut)
    found = {"cut": judge.judged(sizes, part)}
    is_mixed = has_16_bit_products(torch.device("cpu"))
    refit((config, weights), (sizes, part), shown, lambda _n, one, _m: one, is_mixed=is_mixed)
    return found | {"refitted": judge.judged(sizes, part)}


class _Judge:
    """Compares networks with the whole one."""

    def __init__(self, config: ModelConfig, whole: Weights, texts: torch.Tensor) -> None:
        self.config = config
        self._yardstick, self._written = Yardstick(config, whole, texts), texts[len(texts) // 2 :]
        self._perplexity = perplexity(config, whole, self._written)

    def judged(self, sizes: ModelConfig, part: Weights) -> dict[str, float]:
        overlaps = [
            torch.minimum(whole.exp(), light.exp()).sum(-1).mean()
            for whole, light in self._yardstick.pairs(part, config=sizes)
        ]
        return {
            "overlap": float(torch.stack(overlaps).mean()),
            "perplexity": perplexity(sizes, part, self._written),
            "whole_perplexity": self._perplexity,
            **self._yardstick.measure(part, config=sizes).as_json(),
        }


def table(result: dict[str, Any]) -> str:
    """Return conditions and figures as Markdown."""
    host, whole = result["machine"], result["quality"][0]["cut"]["whole_perplexity"]
    lines = [
        (
            f"{MODEL}, 2,048 held-out tokens, commit `{host['commit']}` with"
            f" {host['changed_files']} changed files. Not trained; perplexity of the whole"
            f" {whole:.2f}.\n"
        ),
        "| heads a group | neurons | | mean KL | same top | perplexity | overlap |",
        "| ---: | ---: | --- | ---: | ---: | ---: | ---: |",
        *(
            f"| {cut.heads_per_group} | {cut.neurons} | {state} |"
            f" {judged['mean']:.2f} ± {judged['standard_error']:.2f} | {judged['same_top']:.1%} |"
            f" {judged['perplexity']:.1f} | {judged['overlap']:.2f} |"
            for cut, both in zip(CUTS, result["quality"], strict=True)
            for state, judged in both.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def publish(quality_found: list[Quality]) -> None:
    """Keep the figures as the published ones and put them on the page."""
    result = {"quality": quality_found, "machine": machine.describe()}
    PUBLISHED.write_text(json.dumps(result) + "\n", encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + table(result) + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    publish(quality(pathlib.Path(sys.argv[1])))
