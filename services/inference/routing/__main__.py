"""Measure a model's heads and choose their windows: `python -m services.inference.routing`."""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np

from services.inference.config import KernelsConfig
from services.inference.kernels import CpuNetwork, whole_network
from services.inference.models.gguf_file import GgufFile
from services.inference.models.gguf_model import read_config
from services.inference.models.gguf_tensors import GgufTensors
from services.inference.models.gguf_tokenizer import read_tokenizer
from services.inference.models.head_windows import TABLES, fingerprint
from services.inference.routing import choosing, measuring, texts
from thermesh import models
from thermesh.errors import MeshError


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    found = argparse.ArgumentParser("services.inference.routing", description=__doc__)
    found.add_argument("model", help="packaged name, or a GGUF file")
    found.add_argument("--bound", type=float, default=1e-3, help="nats, of all heads together")
    found.add_argument("--context", type=int, default=8192, help="tokens of a text")
    found.add_argument("--last", type=int, default=128, help="of them answered")
    found.add_argument("--threads", type=int, default=1, help="cores to compute on")
    return found


def main(argv: list[str] | None = None) -> int:
    """Measure, and add the table to `head_windows.json`; return the exit status."""
    arguments = parser().parse_args(argv)
    try:
        _run(arguments)
    except MeshError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return 1
    return 0


def _run(arguments: argparse.Namespace) -> None:
    file = GgufFile(models.locate(arguments.model))
    config, tokenizer = read_config(file), read_tokenizer(file)
    tensors = GgufTensors(file, config)
    network = whole_network(config, tensors, KernelsConfig(kernels="cpu", kv_cache="int8"))
    assert isinstance(network, CpuNetwork), "what insists on the C++ kernels gets them"
    network.use_threads(arguments.threads)
    measured = [
        measuring.Text(network, np.array(ids), arguments.last)
        for ids in texts.gathered(tokenizer.encode, arguments.context)
    ]
    found = measuring.divergences(measured, config, _show)
    windows = choosing.chosen(found, measuring.SIZES, arguments.context, arguments.bound)
    table = measuring.as_table(windows, config)
    nats, same = zip(*(text.divergence(table) for text in measured), strict=True)
    last_norm = tensors.vector("output_norm.weight")
    assert last_norm is not None, "checked when the model was read"
    tables = json.loads(TABLES.read_text(encoding="utf-8"))
    tables[fingerprint(last_norm)] = {
        "model": file.path.name,
        "bound": arguments.bound,
        "divergence": max(nats),
        "windows": table,
    }
    TABLES.write_text(json.dumps(tables, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(
        f"{(windows > 0).mean():.0%} of heads have a window; together KL {max(nats):.2e} nats, "
        f"same likeliest token {min(same):.1%}\n"
    )


def _show(done: int, of: int) -> None:
    if done % 10 == 0 or done == of:
        sys.stdout.write(f"  heads {done}/{of}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
