"""What the two control loops pay: a forecast in each decision, a program in each token.

Interleaved in this process, medians of rounds. A decision is `Decider.decide` with the
packaged policy, with forecasts and without, and as the first of a version, swapped in before
each as the watcher does. A token is drawn from logits of the packaged model's vocabulary
behind top-n-sigma, under each program, by the sampler that serves on this machine and by that
in numpy, which defines the meaning; its share is of what the engine takes for a token, alone
on one thread.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from benchmarks.features.decodes import MODEL, engine, submit
from benchmarks.features.requests import TRAIN, Asked
from benchmarks.spread import interleaved, summary
from services.controller.config import Config
from services.controller.decisions.decision import Constraints, Observation
from services.controller.decisions.records import Context, prior_version
from services.controller.forecasting.forecast import shipped
from services.controller.policies.policy import NEUTRAL
from services.controller.room import Room, furnish
from services.controller.storage.memory_store import MemoryStore
from services.inference.decoding.drawing import SamplingNetwork
from services.inference.events import Ended
from services.inference.limits import Limits
from services.inference.models import LoadedModel, load
from services.inference.sampling.sampler import Row, sample
from services.inference.sampling.settings import (
    Dynatemp,
    Edt,
    Fixed,
    Guard,
    Program,
    Residual,
    Sampling,
)
from thermesh import models
from thermesh.clock import SystemClock

ROUNDS, WARM_UP = 30, 3
DECISIONS, DRAWS, TOKENS = 300, 20, 96
PROGRAMS: dict[str, Program] = {
    "fixed": Fixed(0.7),
    "EDT": Edt(0.7, 0.5),
    "dynatemp": Dynatemp(0.7, 0.3, 1.0),
    "residual": Residual(0.7, 0.3, 1.0, 0.2),
}
Way = TypeVar("Way", str, tuple[str, str])
Floats = npt.NDArray[np.float32]
Sampler = Callable[[Sequence[Floats], Sequence[Row]], object]
_ASKED = Asked("loops", TRAIN, "Tell me about the history of lighthouses.", "chat")


def measured() -> dict[str, Any]:
    """Return microseconds of a decision and of a token, by way."""
    model = load(models.locate(MODEL.name), MODEL.name)
    samplers = {"numpy": sample}
    if isinstance(model.network, SamplingNetwork):
        samplers["as served"] = model.network.sample
    ways = {
        (by, name): _drawing(model, each, sampler)
        for by, sampler in samplers.items()
        for name, each in PROGRAMS.items()
    }
    tokens, step_us = _microseconds(ways), _token_us(model)
    return {
        "decision_us": decisions(),
        "draw_us": {by: {name: tokens[by, name] for name in PROGRAMS} for by in samplers},
        "token_us": step_us,
        "served_by": list(samplers)[-1],
    }


def decisions() -> dict[str, dict[str, float]]:
    """Return microseconds of a decision with and without a forecast, and of a version's first."""
    shipped()  # read once, as a controller does at its start
    return _microseconds(
        {
            "with forecast": _deciding(Config()),
            "with forecast, first of a version": _deciding(Config(), is_first=True),
            "without": _deciding(dataclasses.replace(Config(), forecasts=False)),
        }
    )


def _microseconds(ways: dict[Way, Callable[[], float]]) -> dict[Way, dict[str, float]]:
    """Return the summary of each way's microseconds; a way returns the seconds it took."""
    taken: dict[Way, list[float]] = {name: [] for name in ways}
    for name in interleaved(list(ways), WARM_UP + ROUNDS):
        taken[name].append(ways[name]() * 1e6)
    return {name: vars(summary(each[WARM_UP:])) for name, each in taken.items()}


def _deciding(config: Config, *, is_first: bool = False) -> Callable[[], float]:
    room = furnish(config, MemoryStore(), SystemClock(), lambda _: None, np.random.default_rng(1))
    return lambda: _decide(room, is_first=is_first)


def _decide(room: Room, *, is_first: bool) -> float:
    """Return the mean seconds of a decision; no request waits for the swap before it."""
    seen, context = Observation(NEUTRAL, "chat"), Context(session_id="s")
    version, seconds = prior_version(0), 0.0
    for _ in range(DECISIONS):
        if is_first:
            room.serving.swap_policy(version)
        began = time.perf_counter()
        room.decider.decide(seen, Constraints(), context, MODEL.name, "/")
        seconds += time.perf_counter() - began
    return seconds / DECISIONS


def _drawing(model: LoadedModel, program: Program, sampler: Sampler) -> Callable[[], float]:
    random = np.random.default_rng(3)
    logits = random.normal(0.0, 3.0, model.config.vocabulary_size).astype(np.float32)
    sampling = Sampling(program, Guard(top_n_sigma=1.0))

    def draw() -> float:
        began = time.perf_counter()
        for index in range(DRAWS):
            sampler([logits], [Row(sampling, 1, index)])
        return (time.perf_counter() - began) / DRAWS

    return draw


def _token_us(model: LoadedModel) -> float:
    """Return the median over ROUNDS // 6 answers of what the engine takes for a token."""
    decoder = engine(model, Limits(prefix_cache=False, speculation=False))
    found = []
    for _ in range(ROUNDS // 6):
        submit(decoder, model, _ASKED, {}, TOKENS)
        ended = None
        while ended is None:
            events = [event for _, event in decoder.step().events]
            ended = next((each for each in events if isinstance(each, Ended)), None)
        found.append(ended.usage.decode_time_us / ended.usage.completion_tokens)
    return float(np.median(found))
