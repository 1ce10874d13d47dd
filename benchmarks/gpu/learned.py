"""Rows 9, 10 and 11: what was trained, the light path, and a precision plan."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import pathlib
import tempfile
from typing import Any

import numpy as np
import torch

from benchmarks.gpu import agreement, worlds
from benchmarks.gpu.rows import Figures, NotMeasured, decode_ms, free, operations
from benchmarks.gpu.timing import spread
from services.inference.kernels.precision import PRODUCTS, Precision, PrecisionPlan

MINUTES = 2.0
"""Of training within the check; the command's own default is ten."""
_TRAINING: tuple[str, ...] = ("--device", "cuda", "--minutes", str(MINUTES))
_LIGHT_NEURONS, _LIGHT_HEADS = 7 / 24, 3
"""What the light path of row 10 keeps, as the published one does: 448 of 1,536 neurons, and
all three query heads of each key-value head."""
_OUTER, _PLAN = (
    "fp8",
    {
        "query_key_value": "int8/32",
        "attention_output": "fp8",
        "gate_up": "int4/64",
        "down": "int4/64",
    },
)
"""Precisions of row 11: of embedding and head, and of each layer's products."""
_LAYERS = worlds.SMALL.layers
_IDS = range(1000, 1256)
"""A text to compare two networks on."""


def trained(figures: Figures) -> None:
    """Row 9: an eighth of float32, trained by distillation; perplexity on held-out text."""
    try:
        command = importlib.import_module("services.inference.distil.__main__")
    except ImportError as error:
        raise NotMeasured(f"training cannot be imported here: {error}") from error
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder) / "small.gguf"
        sizes = ["--threads", str(os.cpu_count() or 1), *_TRAINING]
        if command.main([agreement.MODEL, str(output), *sizes]) != 0:
            raise NotMeasured("the command failed; its message stands above")
        report = json.loads(pathlib.Path(f"{output}.json").read_text(encoding="utf-8"))
    before, after = (report[when]["whole"] for when in ("before", "after"))
    original = report["original"]["perplexity"]
    figures.values |= {
        "minutes of training": MINUTES,
        "steps": report["trained"]["steps"],
        "perplexity, original": original,
        "perplexity, rounded": before["perplexity"],
        "perplexity, trained": after["perplexity"],
        "mean KL, rounded": before["divergence"]["mean"],
        "mean KL, trained": after["divergence"]["mean"],
    }
    figures.bar("perplexity <= +5 %", reached=after["perplexity"] <= 1.05 * original)


def light(figures: Figures) -> None:
    """Row 10: decoding through a light path against the whole, in the shape of the 135M."""
    small = dataclasses.replace(
        worlds.SMALL,
        heads=worlds.SMALL.kv_heads * _LIGHT_HEADS,
        intermediate_size=int(worlds.SMALL.intermediate_size * _LIGHT_NEURONS) // 32 * 32,
    )
    make = worlds.dense("cuda")
    found = {}
    for name, shape in (("whole", worlds.SMALL), ("light", small)):
        weights = worlds.random_weights(shape, make, make, make)
        network = worlds.network(shape, weights, operations(), torch.bfloat16)
        found[name] = spread(decode_ms(network, 1, 128))
        del network, weights
        free()
    figures.values["ms a token"] = found
    ratio = found["whole"]["median"] / found["light"]["median"]
    figures.values["whole over light"] = ratio
    figures.bar(">= 1.6x the whole network", reached=ratio >= 1.6)
    figures.missing["self-speculation"] = (
        "acceptance is a property of trained weights: distil a model with --light, then serve"
        " it with THERMESH_SELF_SPECULATION=on"
    )


def planned(figures: Figures) -> None:
    """Row 11: the packaged model by a plan of all precisions, beside its own numbers."""
    layer = {name: Precision.parsed(_PLAN[name], name) for name in PRODUCTS}
    plan = PrecisionPlan(Precision(_OUTER), (layer,) * _LAYERS)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "plan.json"
        path.write_text(plan.to_json(), encoding="utf-8")
        networks = {name: _loaded(plan) for name, plan in (("stored", ""), ("plan", str(path)))}
    ids = np.array(_IDS)
    expected, actual = (one.score(ids).double().log_softmax(-1) for one in networks.values())
    figures.values["mean KL, nats"] = float((expected.exp() * (expected - actual)).sum(-1).mean())
    for name, network in networks.items():
        figures.values[f"{name}, MB"] = network.weight_bytes / 1e6
        figures.values[f"{name}, ms a token"] = spread(decode_ms(network, 1, 128))


def _loaded(plan: str) -> Any:
    try:
        models = importlib.import_module("services.inference.models")
        path = importlib.import_module("thermesh.models").locate(agreement.MODEL)
    except Exception as error:
        raise NotMeasured(f"the packaged model cannot be read here: {error}") from error
    with agreement.environment(THERMESH_DEVICE="cuda", THERMESH_PRECISION_PLAN=plan):
        return models.load(path, agreement.MODEL).network
