"""Decodes the requests of `requests` through the engine, to learn how long answers are.

Each is decoded once at the static temperature of its task, up to CAP tokens, and kept as a
line of JSON; what is there is not decoded again. Lengths do not depend on how busy the
machine is; `timings` measures seconds apart from this.
"""

from __future__ import annotations

import json
import pathlib
import random
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from benchmarks.features.requests import Asked, requests
from services.controller.policies.envelope import envelope_of
from services.inference.decoding.decoder import Decoder
from services.inference.events import Ended, Token
from services.inference.limits import Limits
from services.inference.models import LoadedModel, load
from services.inference.request import Context, Request
from services.inference.sampling.settings import Fixed, Guard, Sampling
from services.inference.sequences.sequence import Sequence
from thermesh import models
from thermesh.clock import SystemClock

MODEL = models.SMOLLM2
FOLDER = pathlib.Path("build/forecast")
CAP = 256
"""Most tokens of an answer; one that ends there is at least so long."""
EARLIER_CHARACTERS = 400
"""How much of an earlier answer stands in a conversation."""

_PAGES, _TOGETHER = 3000, 24


class Line:
    """One decode under way."""

    taken = 0
    is_cancelled = False

    def __init__(self, asked: Asked, prompt_tokens: int) -> None:
        self.asked, self.prompt_tokens = asked, prompt_tokens
        self.texts: list[str] = []

    def record(self, tokens: int) -> dict[str, Any]:
        """Return what is kept."""
        return {
            "key": self.asked.key,
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": tokens,
            "text": self.asked.text,
            "answer": "".join(self.texts),
        }


def collect(seconds: float, folder: pathlib.Path = FOLDER) -> bool:
    """Decode what is missing for up to `seconds`; return whether all is there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "decodes.jsonl"
    kept = {each["key"]: each for each in records(path)}
    missing = [each for each in requests() if each.key not in kept]
    random.Random("order").shuffle(missing)
    first = [each for each in missing if not each.earlier]
    model = load(models.locate(MODEL.name), MODEL.name)
    until = time.monotonic() + seconds
    # later turns need the answers of the first ones
    for wave in (first, [each for each in missing if each.earlier]):
        answers = {
            key: (each["text"], each["answer"][:EARLIER_CHARACTERS]) for key, each in kept.items()
        }
        with path.open("a") as file:
            for record in decoded(model, wave, answers, until):
                kept[record["key"]] = record
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        print(f"{len(kept)}/{len(requests())} decoded", file=sys.stderr)
        if time.monotonic() > until:
            return False
    return True


def records(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Read a file of records; a last line that was cut off is left out."""
    if path.exists():
        with path.open() as lines:
            yield from (json.loads(line) for line in lines if line.endswith("\n"))


def as_decoded(kept: Mapping[str, dict[str, Any]]) -> list[Asked]:
    """Return the requests of `kept` records, with the texts that were decoded: those of
    passages change with the repository.
    """
    return [replace(each, text=kept[each.key]["text"]) for each in requests() if each.key in kept]


def decoded(
    model: LoadedModel, wanted: Iterable[Asked], answers: dict[str, tuple[str, str]], until: float
) -> Iterator[dict[str, Any]]:
    """Decode `wanted` together, beginning none after `until` (monotonic seconds)."""
    decoder = engine(model, Limits(max_running=_TOGETHER, max_waiting=1000, stretch=1000.0))
    left, running = iter(wanted), 0
    with torch.inference_mode():
        while True:
            while running < _TOGETHER and time.monotonic() < until and (asked := next(left, None)):
                submit(decoder, model, asked, answers, CAP)
                running += 1
            result = decoder.step()
            for line, event in result.events:
                if isinstance(event, Token):
                    line.texts.append(event.text)
                    line.taken += 1
                if isinstance(event, Ended):
                    running -= 1
                    yield line.record(event.usage.completion_tokens)
            if not running:
                return


def engine(model: LoadedModel, limits: Limits) -> Decoder:
    """Return the engine's decoder on one thread."""
    decoder = Decoder(model.network, model.tokenizer, limits, _PAGES, SystemClock())
    decoder.use_threads(1)
    return decoder


def submit(
    decoder: Decoder,
    model: LoadedModel,
    asked: Asked,
    answers: dict[str, tuple[str, str]],
    max_tokens: int,
) -> Line:
    """Hand `asked` to the decoder at its task's static temperature."""
    ids = tuple(model.tokenizer.encode_chat(asked.conversation(answers)))
    line = Line(asked, len(ids))
    temperature = envelope_of("", asked.task).static_temperature
    request = Request(
        context=Context(request_id=asked.key),
        prompt_ids=ids,
        sampling=Sampling(Fixed(temperature), Guard(top_n_sigma=1.0)),
        seed=zlib.crc32(asked.key.encode()),
        max_tokens=max_tokens,
    )
    size = model.config.vocabulary_size
    limit = model.config.context_length - len(ids)
    decoder.submit(Sequence(request, line, size, limit, time.monotonic()))
    return line
