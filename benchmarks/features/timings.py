"""Times the decoded requests alone on the machine: prefill of each, and decoding of some.

Prefills take turns in a random order with prompts decoded to the end, in one process on one
thread, without the prefix cache. What is there is not measured again, so that a busy machine
may be left and come back to.
"""

from __future__ import annotations

import json
import pathlib
import random
import time
from typing import Any

import torch

from benchmarks.features.decodes import (
    EARLIER_CHARACTERS,
    FOLDER,
    MODEL,
    as_decoded,
    engine,
    records,
    submit,
)
from benchmarks.features.requests import Asked
from services.inference.decoding.decoder import Decoder
from services.inference.events import Ended, Usage
from services.inference.limits import Limits
from services.inference.models import LoadedModel, load
from thermesh import models

WHOLE_EVERY = 12
"""One request in so many is decoded to its end."""
WARM_UP = 5


def measure(seconds: float, folder: pathlib.Path = FOLDER) -> bool:
    """Append timings for up to `seconds`; return whether all are there."""
    kept = {each["key"]: each for each in records(folder / "decodes.jsonl")}
    path = folder / "timings.jsonl"
    have = {each["key"] for each in records(path)}
    wanted = [each for each in as_decoded(kept) if each.key not in have]
    random.Random("timings").shuffle(wanted)
    model = load(models.locate(MODEL.name), MODEL.name)
    decoder = engine(model, Limits(prefix_cache=False, speculation=False))
    answers = {
        key: (each["text"], each["answer"][:EARLIER_CHARACTERS]) for key, each in kept.items()
    }
    with torch.inference_mode(), path.open("a") as file:
        for asked in wanted[:WARM_UP]:
            _usage(decoder, model, asked, answers, 1)
        until = time.monotonic() + seconds
        for asked in wanted:
            if time.monotonic() > until:
                return False
            record = _timed(decoder, model, asked, answers, kept[asked.key]["output_tokens"])
            file.write(json.dumps(record) + "\n")
    return True


def _timed(
    decoder: Decoder,
    model: LoadedModel,
    asked: Asked,
    answers: dict[str, tuple[str, str]],
    tokens: int,
) -> dict[str, Any]:
    is_whole = sum(asked.key.encode()) % WHOLE_EVERY == 0
    usage = _usage(decoder, model, asked, answers, tokens if is_whole else 1)
    decoded = {"decode_us": usage.decode_time_us} if is_whole else {}
    return {"key": asked.key, "prefill_us": usage.prefill_time_us, **decoded}


def _usage(
    decoder: Decoder,
    model: LoadedModel,
    asked: Asked,
    answers: dict[str, tuple[str, str]],
    max_tokens: int,
) -> Usage:
    submit(decoder, model, asked, answers, max_tokens)
    while True:
        for _, event in decoder.step().events:
            if isinstance(event, Ended):
                return event.usage
