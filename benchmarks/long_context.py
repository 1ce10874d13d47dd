"""Measure long contexts: keys and values in eight bits, and queries that choose what they read.

    python -m benchmarks.long_context
    python -m benchmarks.long_context --context 8192 --json benchmarks/results/long-context.json

Speed is that of one stream, every contender once a round in a new order.
Quality is that of the last tokens of texts as long as the context, teacher
forced, against reading everything in half precision: mean KL divergence, share
of equal likeliest tokens, and how often a passkey at five depths is found. The
texts are the topics that Python's own `help()` prints (`pydoc_data.topics`, PSF
licence): reference documentation, dense and full of repetition.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pydoc_data import topics
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import machine
from benchmarks.spread import interleaved, summary
from services.inference.kernels import PAGE_SIZE, CpuNetwork, Span, Sparsity, StepBatch
from services.inference.models import LoadedModel, load
from thermesh import models

DENSE = "f16 dense"
LIGHT_PATH = "light"
"""What the network itself offers for the light path."""
CONTENDERS: dict[str, tuple[str, Sparsity | str | None]] = {
    DENSE: ("f16", None),
    "int8 dense": ("int8", None),
    "int8 light": ("int8", LIGHT_PATH),
    "int8 pages, 2048": ("int8", Sparsity()),
    "int8 pages, 1024": ("int8", Sparsity(budget_tokens=1024, dense_below=1536)),
}
CHUNK = 512
DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
QUESTION = "\n\nThe secret passkey mentioned above is number"

Ids = npt.NDArray[np.int64]


class Context:
    """One network with room for one context; steps are teacher forced."""

    def __init__(self, network: CpuNetwork, length: int, sparsity: Sparsity | None) -> None:
        self.sparsity = sparsity
        self._network = network
        pages = -(-length // PAGE_SIZE) + 8
        self._table = tuple(range(pages))
        self._cache = network.new_cache(pages)

    def read(self, token_ids: Ids, first: int = 0, *, is_light: bool = True) -> None:
        """Take tokens in from position `first` on, as those of a prompt are."""
        end = first + len(token_ids)
        for start in range(0, len(token_ids), CHUNK):
            part = token_ids[start : start + CHUNK]
            self.step(part, first + start, is_light=is_light, prompt_end=end)

    def step(
        self, token_ids: Ids, first: int, *, is_light: bool = True, prompt_end: int = 0
    ) -> torch.Tensor:
        """Return the logits after the last of some tokens; those below `prompt_end` are
        only read.
        """
        count = len(token_ids)
        sparsity = self.sparsity if is_light else None
        end = first + count
        span = Span(0, count, end, self._table, sparsity=sparsity, prompt_end=prompt_end)
        positions = np.arange(first, end)
        logits = self._network.step(StepBatch(token_ids, positions, (span,)), self._cache)
        return torch.from_numpy(logits[0])


def manual() -> str:
    """Return the reference documentation as one text."""
    return "\n\n".join(text for _, text in sorted(topics.topics.items()))


def decode(context: Context, first: int, steps: int) -> float:
    """Return tokens per second of one stream behind `first` tokens."""
    token = np.array([1])
    started = time.perf_counter()
    for step in range(steps):
        context.step(token, first + step)
    return steps / (time.perf_counter() - started)


def prefill(context: Context, token_ids: Ids) -> float:
    """Return tokens per second of a prompt."""
    started = time.perf_counter()
    context.read(token_ids)
    return len(token_ids) / (time.perf_counter() - started)


def scored(context: Context, token_ids: Ids, last: int) -> torch.Tensor:
    """Return log-probabilities after each of the last tokens of a text."""
    first = len(token_ids) - last
    context.read(token_ids[:first])
    rows = [
        context.step(token_ids[place : place + 1], place) for place in range(first, first + last)
    ]
    return torch.stack(rows).log_softmax(-1)


def compared(expected: torch.Tensor, actual: torch.Tensor) -> dict[str, float]:
    """Return mean and 99 % KL divergence in nats, and the share of equal likeliest tokens."""
    divergence = (expected.exp() * (expected - actual)).sum(-1)
    same = (expected.argmax(-1) == actual.argmax(-1)).float()
    return {
        "mean_kl": divergence.mean().item(),
        "kl_99": divergence.quantile(0.99).item(),
        "top_1_agreement": same.mean().item(),
    }


def found_passkeys(
    model: LoadedModel, context: Context, text: str, length: int, keys: int = 1
) -> float:
    """Return the share of numbers that are repeated, hidden at each depth of a text in turn."""
    found = 0
    filler = model.tokenizer.encode(text)
    for index, depth in enumerate(DEPTHS * keys):
        key = str(71_839 + 4_321 * index)
        needle = model.tokenizer.encode(f"\n\nThe secret passkey is number {key}.\n\n")
        question = model.tokenizer.encode(QUESTION)
        room = length - len(needle) - len(question) - 8
        place = int(room * depth)
        ids = [*filler[:place], *needle, *filler[place:room], *question]
        context.read(np.array(ids[:-1]))
        answer = [ids[-1]]
        for step in range(8):
            logits = context.step(np.array(answer[-1:]), len(ids) - 1 + step)
            answer.append(int(logits.argmax()))
        said = b"".join(model.tokenizer.token_bytes(token) for token in answer[1:])
        found += key in said.decode("utf-8", errors="replace")
    return found / (len(DEPTHS) * keys)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Take all figures; return them with the machine."""
    path = models.locate(arguments.model)
    os.environ["THERMESH_KERNELS"] = "cpu"
    loaded: dict[str, LoadedModel] = {}
    for kind in ("f16", "int8"):
        os.environ["THERMESH_KV_CACHE"] = kind
        loaded[kind] = load(path, path.stem)
    length = arguments.context
    contexts: dict[str, Context] = {}
    for name in arguments.contenders:
        kind, choice = CONTENDERS[name]
        network = loaded[kind].network
        assert isinstance(network, CpuNetwork)
        network.use_threads(arguments.threads)
        sparsity = choice if isinstance(choice, Sparsity) else network.light
        contexts[name] = Context(network, length, sparsity if choice else None)
    text = manual()
    ids = np.array(loaded["f16"].tokenizer.encode(text))
    result: dict[str, Any] = {"machine": machine.describe(), "context": length}
    if "speed" in arguments.figures:
        result["tokens_per_second"] = speeds(contexts, ids[:length], arguments)
    if "quality" in arguments.figures:
        result["against_dense"] = qualities(contexts, ids, arguments)
    if "passkey" in arguments.figures:
        result["passkeys_found"] = {
            name: found_passkeys(loaded["f16"], context, text, length, arguments.keys)
            for name, context in contexts.items()
        }
        print(result["passkeys_found"], file=sys.stderr)
    return result


def speeds(contexts: dict[str, Context], ids: Ids, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return medians and spread of prefill and decoding."""
    figures: dict[str, tuple[int, Callable[[Context], float]]] = {
        "prefill": (arguments.prompts, lambda context: prefill(context, ids)),
        "decode": (arguments.rounds, lambda context: decode(context, len(ids), arguments.steps)),
    }
    for context in contexts.values():
        context.read(ids)
    result: dict[str, Any] = {}
    for figure, (rounds, measured) in figures.items():
        samples: dict[str, list[float]] = defaultdict(list)
        for name in interleaved(list(contexts), rounds):
            samples[name].append(measured(contexts[name]))
        result[figure] = {
            name: dataclasses.asdict(summary(values)) for name, values in samples.items()
        }
        cells = [f"{name} {values['median']:.1f}" for name, values in result[figure].items()]
        print(figure, *cells, sep="   ", file=sys.stderr)
    return result


def qualities(
    contexts: dict[str, Context], ids: Ids, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return what every contender but the first differs by from it."""
    rows: dict[str, list[torch.Tensor]] = defaultdict(list)
    for index in range(arguments.texts):
        text = ids[index * arguments.context : (index + 1) * arguments.context]
        for name, context in contexts.items():
            rows[name].append(scored(context, text, arguments.last))
    first, *others = contexts
    result = {name: compared(torch.cat(rows[first]), torch.cat(rows[name])) for name in others}
    for name, figures in result.items():
        print(name, figures, file=sys.stderr)
    return result


def main() -> None:
    """Measure, print, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct", help="packaged name or file")
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--context", type=int, default=8000, help="tokens of a context")
    parser.add_argument(
        "--figures", nargs="+", default=["speed", "quality", "passkey"], help="what to measure"
    )
    parser.add_argument("--rounds", type=int, default=5, help="samples of decoding")
    parser.add_argument("--prompts", type=int, default=1, help="samples of prefill")
    parser.add_argument("--steps", type=int, default=16, help="steps of a decoding sample")
    parser.add_argument("--texts", type=int, default=3, help="texts to compare on")
    parser.add_argument("--keys", type=int, default=1, help="passkeys at each depth")
    parser.add_argument("--last", type=int, default=512, help="last tokens to compare")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of a step")
    parser.add_argument("--json", type=pathlib.Path, help="file to write everything to")
    arguments = parser.parse_args()
    result = measure(arguments)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
