"""Trains the forecast of what a request costs, and measures its error on held-out requests.

    python -m benchmarks.features decodes     # decodes the requests; again until complete
    python -m benchmarks.features timings     # times them, alone on the machine
    python -m benchmarks.features forecast    # trains, writes forecast.json, reports the error

Gradient boosting of scikit-learn with the quantile loss, on the logarithm of each output.
Every request stands in the training part twice: as the encoder reads it, and with the
neutral values of a request whose encoder was late. Trees, rate and leaves were set by hand
and not tuned; no request of the held-out part has a template, passage or earlier turn that
the training part knows.
"""

from __future__ import annotations

import json
import math
import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.features.decodes import CAP, FOLDER, MODEL, as_decoded, records
from benchmarks.features.requests import HELD_OUT, TRAIN, Asked
from services.controller.forecasting.forecast import FILE, KNOWN_SHARE, OUTPUTS, bound, known_high
from services.controller.forecasting.trees import Forest
from services.feature import lexical
from services.feature.encoder import Encoder
from services.feature.extract import Reading, assemble
from services.feature.house import classifier
from services.feature.task import TaskClassifier
from thermesh.features import FEATURES, INDEX, SCHEMA_VERSION, TASKS

Floats = NDArray[Any]

COMPLEXITY = tuple(feature.name for feature in FEATURES[:12])
"""The twelve features of complexity: of the encoder, length, words, structure, marks, turns."""
INPUTS = (*COMPLEXITY, *(f"task_{task}" for task in TASKS))
QUANTILES = {"output_tokens_high": 0.9}
DEPTH, TREES, RATE, LEAF = 3, 60, 0.1, 15


@dataclass(frozen=True)
class Data:
    """Requests: `x` [requests, features] with the encoder, `late` without; `y` of each output,
    `is_train` and `is_timed` [requests].
    """

    x: Floats
    late: Floats
    y: dict[str, Floats]
    is_train: Floats
    is_timed: Floats


def measured(encoder: Encoder, folder: pathlib.Path = FOLDER) -> dict[str, Any]:
    """Train, write the shipped trees, and return their error on the held-out part."""
    data = collected(encoder, folder)
    models = {name: fitted(data, name, INPUTS) for name in OUTPUTS}
    write(models)
    return {
        "requests": _sizes(data, np.ones_like(data.is_train)),
        "timed": _sizes(data, data.is_timed),
        "model": MODEL.name,
        "longest": CAP,
        "at_longest": float((data.y["output_tokens"] >= CAP).mean()),
        "components": {name: _component(data, name, models[name]) for name in OUTPUTS},
        "budget": _budget(data, models["output_tokens_high"]),
    }


def _sizes(data: Data, known: Floats) -> dict[str, int]:
    return {
        TRAIN: int((known & data.is_train).sum()),
        HELD_OUT: int((known & ~data.is_train).sum()),
    }


def collected(encoder: Encoder, folder: pathlib.Path) -> Data:
    """Read what was decoded and timed, and the features of each request."""
    decoded = {each["key"]: each for each in records(folder / "decodes.jsonl")}
    timed = {each["key"]: each for each in records(folder / "timings.jsonl")}
    asked = as_decoded(decoded)
    step = _seconds_a_token(decoded, timed)
    tokens = np.array([decoded[each.key]["output_tokens"] for each in asked], float)
    prompt = np.array([decoded[each.key]["prompt_tokens"] for each in asked], float)
    found = np.array([timed.get(each.key, {}).get("prefill_us", np.nan) for each in asked]) / 1e6
    is_timed = ~np.isnan(found)
    prefill = np.where(is_timed, found, _by_length(prompt, found))
    decode = tokens * (step[0] + step[1] * (prompt + tokens / 2))
    named, late = classifier(encoder), TaskClassifier()
    return Data(
        np.array([_vector(each, named, encoder) for each in asked]),
        np.array([_vector(each, late, None) for each in asked]),
        {
            "prefill_seconds": prefill,
            "output_tokens": tokens,
            "output_tokens_high": tokens,
            "total_seconds": prefill + decode,
        },
        np.array([each.part == TRAIN for each in asked]),
        is_timed,
    )


def _by_length(prompt: Floats, seconds: Floats) -> Floats:
    """Return prefill seconds by a parabola over the prompt's tokens, fitted to those timed."""
    known = ~np.isnan(seconds)
    fitted_seconds = np.polyval(np.polyfit(prompt[known], seconds[known], 2), prompt)
    return np.maximum(fitted_seconds, seconds[known].min())


def _seconds_a_token(decoded: dict[str, Any], timed: dict[str, Any]) -> tuple[float, float]:
    """Return (a, b) of seconds = a + b * context, by least squares over the timed decodes."""
    rows = [
        (decoded[key]["output_tokens"], decoded[key]["prompt_tokens"], each["decode_us"] / 1e6)
        for key, each in timed.items()
        if "decode_us" in each and key in decoded
    ]
    tokens, prompt, seconds = np.array(rows, float).T
    design = np.stack([tokens, tokens * (prompt + tokens / 2)], axis=1)
    base, slope = np.linalg.lstsq(design, seconds, rcond=None)[0]
    return float(base), float(slope)


def _vector(asked: Asked, named: TaskClassifier, encoder: Encoder | None) -> tuple[float, ...]:
    encoding = encoder.encode(asked.text) if encoder else None
    return assemble(
        Reading(asked.text, turn_count=asked.turn_count),
        lexical=lexical.read(asked.text),
        guess=named.guess(asked.text, encoding.embedding if encoding else None),
        encoding=encoding,
        session=None,
        now_unix_ms=0,
    ).values


def fitted(data: Data, name: str, inputs: tuple[str, ...]) -> Any:
    """Return scikit-learn's model of ln(output) over `inputs` of the training part."""
    from sklearn.ensemble import GradientBoostingRegressor  # noqa: PLC0415  # an extra

    rows = data.is_train
    places = columns(inputs)
    x = np.concatenate([data.x[rows], data.late[rows]])[:, places]
    y = np.log(np.concatenate([data.y[name][rows]] * 2))
    return GradientBoostingRegressor(
        loss="quantile",
        alpha=QUANTILES.get(name, 0.5),
        n_estimators=TREES,
        max_depth=DEPTH,
        learning_rate=RATE,
        min_samples_leaf=LEAF,
        subsample=0.7,
        random_state=7,
    ).fit(x, y)


def columns(names: tuple[str, ...]) -> list[int]:
    """Return the places of features in the vector."""
    return [INDEX[name] for name in names]


def exported(models: list[Any], inputs: tuple[str, ...]) -> Forest:
    """Return scikit-learn's `models` over `inputs` as arrays over the whole vector."""
    parts = [_arrays(model, columns(inputs)) for model in models]
    feature, threshold, leaf = (np.stack(each) for each in zip(*parts, strict=True))
    base = np.array([float(model.init_.constant_[0, 0]) for model in models])
    return Forest(feature, threshold, leaf, base)


def _arrays(model: Any, places: list[int]) -> tuple[Floats, Floats, Floats]:
    """Return feature and threshold [trees, nodes] and leaf [trees, nodes + 1] of one model."""
    depth, trees = model.max_depth, [each[0].tree_ for each in model.estimators_]
    nodes = 2**depth - 1
    feature = np.zeros((len(trees), nodes), dtype=np.int64)
    threshold, leaf = np.zeros((len(trees), nodes)), np.zeros((len(trees), nodes + 1))
    for row, tree in enumerate(trees):
        standing = {0: 0}  # place in the complete tree -> node of the library's
        for place in range(nodes + nodes + 1):
            node = standing[place]
            is_split = tree.children_left[node] >= 0
            if place >= nodes:
                leaf[row, place - nodes] = model.learning_rate * tree.value[node, 0, 0]
                continue
            feature[row, place] = places[tree.feature[node]] if is_split else 0
            threshold[row, place] = tree.threshold[node] if is_split else 0.0
            standing[2 * place + 1] = int(tree.children_left[node]) if is_split else node
            standing[2 * place + 2] = int(tree.children_right[node]) if is_split else node
    return feature, threshold, leaf


def write(models: dict[str, Any], path: pathlib.Path = FILE) -> None:
    """Write the trees as package data."""
    forest = exported([models[name] for name in OUTPUTS], INPUTS)
    stored = {
        "made_by": "python -m benchmarks.features forecast",
        "schema_version": SCHEMA_VERSION,
        "model": MODEL.name,
        "longest": CAP,
        "outputs": OUTPUTS,
        "forest": forest.to_lists(),
    }
    path.write_text(json.dumps(stored, separators=(",", ":")) + "\n", encoding="utf-8")


def _component(data: Data, name: str, model: Any) -> dict[str, Any]:
    """Return the error of one output: shipped inputs, the twelve alone, late, and a constant."""
    in_seconds = name.endswith("_seconds")
    # seconds are judged by what was measured alone
    kept = ~data.is_train & (data.is_timed if in_seconds else True)
    quantile = QUANTILES.get(name, 0.5)
    actual = data.y[name][kept]
    twelve = fitted(data, name, COMPLEXITY)
    constant = np.quantile(data.y[name][data.is_train], quantile)
    ways = {
        "trees": np.exp(model.predict(data.x[kept][:, columns(INPUTS)])),
        "trees, encoder late": np.exp(model.predict(data.late[kept][:, columns(INPUTS)])),
        "trees, the twelve alone": np.exp(twelve.predict(data.x[kept][:, columns(COMPLEXITY)])),
        "constant": np.full(len(actual), constant),
    }
    if name == "output_tokens_high":
        ways = {way: np.vectorize(known_high)(each, CAP) for way, each in ways.items()}
    return {way: errors(actual, each, quantile) for way, each in ways.items()}


def errors(actual: Floats, expected: Floats, quantile: float) -> dict[str, float]:
    """Return MAE and pinball loss (Koenker and Bassett 1978) in the output's unit, MAPE, and
    the share of outcomes at or below what was expected.
    """
    miss = actual - expected
    return {
        "mae": float(np.abs(miss).mean()),
        "mape": float((np.abs(miss) / actual).mean()),
        "pinball": float(np.maximum(quantile * miss, (quantile - 1) * miss).mean()),
        "covered": float((miss <= 0).mean()),
    }


def _budget(data: Data, model: Any) -> dict[str, float]:
    """Return how often the bound on the budget applies to held-out requests, and cuts one."""
    kept = ~data.is_train
    high = np.exp(model.predict(data.x[kept][:, columns(INPUTS)]))
    applies = high < KNOWN_SHARE * CAP
    bounds = np.array([bound(each) for each in high])
    cuts = applies & (bounds < CAP) & (data.y["output_tokens"][kept] > bounds)
    return {
        "applies": float(applies.mean()),
        "median_bound": float(np.median(bounds[applies])) if applies.any() else math.nan,
        "cuts": float(cuts.mean()),
    }
