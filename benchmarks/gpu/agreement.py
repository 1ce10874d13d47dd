"""Row 8: the same model on the CPU and on the GPU."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.rows import Figures, NotMeasured
from services.inference.kernels import Span, StepBatch
from services.inference.kernels.triton.cache import PAGE

MODEL = "smollm2-135m-instruct"
_TOKENS = 64
_PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):",
    "Once upon a time, a small robot",
    "Water boils at a temperature of",
    "The three primary colours are",
    "In 1969, astronauts",
    "To bake bread you need",
    "The opposite of hot is",
    "A triangle has three",
    "Dear Sir or Madam,",
    "SELECT name FROM",
    "The largest planet of our solar system",
    "She opened the door and",
    "Photosynthesis is the process",
    "import numpy as np\n",
    "My favourite season is",
    "The quick brown fox",
    "In conclusion, the results show",
    "How do I learn to play the piano?",
    "One, two, three, four,",
)


def measure(figures: Figures) -> None:
    """Compare greedy tokens of 20 prompts, and the divergence of every distribution."""
    on_cpu, on_gpu = _networks()
    same, divergences = 0, []
    for prompt in _PROMPTS:
        ids = on_cpu.tokenizer.encode(prompt)
        texts = [_greedy(model.network, ids) for model in (on_cpu, on_gpu)]
        same += texts[0] == texts[1]
        scores = [
            torch.as_tensor(model.network.score(np.array(texts[0]))) for model in (on_cpu, on_gpu)
        ]
        expected, actual = (one.double().log_softmax(-1) for one in scores)
        divergences.append(float((expected.exp() * (expected - actual)).sum(-1).mean()))
    share, divergence = same / len(_PROMPTS), sum(divergences) / len(divergences)
    figures.values |= {"prompts with equal tokens": share, "mean KL, nats": divergence}
    figures.bar(">= 95 % of prompts", reached=share >= 0.95)
    figures.bar("mean KL <= 1e-3", reached=divergence <= 1e-3)


def _networks() -> tuple[Any, Any]:
    try:
        models = importlib.import_module("services.inference.models")
        locate = importlib.import_module("thermesh.models").locate
        path = locate(MODEL)
    except Exception as error:
        raise NotMeasured(f"the packaged model cannot be read here: {error}") from error
    loaded = []
    for device in ("cpu", "cuda"):
        with environment(THERMESH_DEVICE=device):
            loaded.append(models.load(path, MODEL))
    return loaded[0], loaded[1]


def _greedy(network: Any, ids: list[int]) -> list[int]:
    """Return `ids` and 64 tokens after them."""
    tokens = list(ids)
    table = tuple(range(-(-(len(ids) + _TOKENS) // PAGE)))
    cache = network.new_cache(len(table))
    done = 0
    for _ in range(_TOKENS):
        span = Span(0, len(tokens) - done, len(tokens), table)
        batch = StepBatch(np.array(tokens[done:]), np.arange(done, len(tokens)), (span,))
        done = len(tokens)
        tokens.append(int(network.step(batch, cache)[0].argmax()))
    return tokens


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set variables of the environment for the body."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
