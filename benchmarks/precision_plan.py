"""What a precision plan costs the model it was made for, on held-out texts.

    thermesh quantize smollm2-135m-instruct plan.json --bits 5.3
    python -m benchmarks.precision_plan plan.json FOLDER

Loads the packaged model by the plan as a GPU would, but computes with the reference of
the kernels in plain torch, so that no GPU is needed; prints a line for
docs/architecture/kernels-gpu.md. Texts are those that `quantize` judges on.
"""

from __future__ import annotations

import collections
import pathlib
import sys

import torch

from benchmarks import machine
from services.inference.kernels import precision
from services.inference.kernels.precision import PRODUCTS, PrecisionPlan
from services.inference.kernels.triton import reference
from services.inference.kernels.triton.network import GpuNetwork
from services.inference.kernels.triton.planned import from_plan
from services.inference.kernels.triton.weights import Share
from services.inference.models.gguf_tensors import GgufTensors
from services.inference.quantise.divergence import Yardstick
from services.inference.quantise.search import Options, texts_of
from services.inference.quantise.source import Source
from services.inference.quantise.workplace import Workplace
from thermesh.models import locate

MODEL = "smollm2-135m-instruct"


def divergence(plan: PrecisionPlan, folder: pathlib.Path) -> tuple[float, float, int]:
    """Return the mean KL in nats a token, the share of same top tokens, and the texts' tokens."""
    source, options = Source(locate(MODEL)), Options()
    texts = texts_of(source, options, Workplace(folder, vars(options)), lambda *_: None).held_out
    tensors, cpu = GgufTensors(source.file, source.config), torch.device("cpu")
    weights = from_plan(source.config, tensors, plan, cpu, Share(), torch.float32)
    network = GpuNetwork(source.config, weights, reference, cpu, kv_dtype=torch.float16)
    yardstick = Yardstick(source.config, source.weights(), texts)
    kls, same = [], []
    for text, original in zip(texts, yardstick.original, strict=True):
        found = network.score(text).log_softmax(-1)
        kls.append((original.exp() * (original - found)).sum(-1).mean())
        same.append((found.argmax(-1) == original.argmax(-1)).float().mean())
    return float(torch.stack(kls).mean()), float(torch.stack(same).mean()), texts.numel()


def line(plan: PrecisionPlan, folder: pathlib.Path) -> str:
    """Return what a plan is and costs, in a sentence or two."""
    mean, same, tokens = divergence(plan, folder)
    parts = [
        f"{name.replace('_', ' ')} "
        + ", ".join(
            f"{count}x {kind}"
            for kind, count in collections.Counter(str(one[name]) for one in plan.layers).items()
        )
        for name in PRODUCTS
    ]
    return (
        f"{plan.bytes / 1e6:.1f} MB, expected KL {plan.expected_kl:.4f}, measured {mean:.4f} nats"
        f" on {tokens:,} held-out tokens, same top {same:.1%}; embedding {plan.embedding};"
        f" {'; '.join(parts)}; commit `{machine.describe()['commit']}`"
    )


if __name__ == "__main__":
    told = line(precision.read(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]))
    sys.stdout.write(f"{told}\n")
