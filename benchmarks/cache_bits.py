"""Measure how true keys and values in few bits are, and which way to keep them is truest.

    python -m benchmarks.cache_bits
    python -m benchmarks.cache_bits --context 512 --last 448 --texts 6 --ways "kernels int8"

Everything is compared with float32 on the same weights in plain torch: mean KL divergence
and share of equal likeliest tokens, of the last tokens of texts as long as the context.
Ways to keep keys and values are simulated there; `kernels f16`, `kernels int10` and `kernels
int8` are the C++ kernels as they serve. Texts are those of `long_context`, Python's manual, and
code of its library, in turn (PSF licence).
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import machine
from benchmarks.long_context import compared, manual
from services.inference.kernels import PAGE_SIZE, CpuNetwork, Span, StepBatch, reference
from services.inference.kernels.operations import PagedCache
from services.inference.models import LoadedModel, load
from services.inference.models.network import Network
from services.inference.routing.texts import gathered
from thermesh import models

CHUNK = 512
SCALE_BYTES = 2

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Coding:
    """How vectors of a head, [tokens, kv_heads, head_size], are kept."""

    bits: int = 8
    group: int = 0
    """Channels that share a scale; 0: all of a head."""
    is_turned: bool = False

    def kept(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return what is read of vectors that are kept so."""
        turned = reference.hadamard(vectors) if self.is_turned else vectors
        groups = turned.unflatten(-1, (-1, self.group or turned.shape[-1]))
        most = 2 ** (self.bits - 1) - 1
        scales = (groups.abs().amax(-1, keepdim=True) / most).half().float()
        codes = (groups / scales.clamp_min(1e-30)).round().clamp(-most, most)
        found = (codes * scales).flatten(-2)
        return reference.hadamard(found) if self.is_turned else found

    def bytes(self, head_size: int) -> float:
        """Bytes of one vector."""
        return head_size * self.bits / 8 + SCALE_BYTES * head_size / (self.group or head_size)


@dataclass(frozen=True)
class Way:
    """How keys and values are kept; None: in float32."""

    keys: Coding | None = None
    values: Coding | None = None
    layers: range = range(4096)
    """Where keys are kept so."""
    exact_tokens: int = 0
    """First tokens that are kept in float32."""
    is_shifted: bool = False
    """Whether the mean key of the first page is taken off, which no softmax notices."""


PLAIN, TURNED = Coding(), Coding(is_turned=True)
WAYS = {
    "keys and values plain": Way(PLAIN, PLAIN),
    "keys alone, plain": Way(PLAIN),
    "values alone, plain": Way(values=PLAIN),
    "values alone, turned": Way(values=TURNED),
    "a scale for 32 channels": Way(Coding(group=32), Coding(group=32)),
    "keys less the first page's mean": Way(PLAIN, PLAIN, is_shifted=True),
    "keys turned": Way(TURNED, PLAIN),
    "keys turned, first page exact": Way(TURNED, PLAIN, exact_tokens=PAGE_SIZE),
    "keys and values turned": Way(TURNED, TURNED),
    "keys turned, 9 bits": Way(Coding(9, is_turned=True), TURNED),
    "keys turned, 10 bits": Way(Coding(10, is_turned=True), TURNED),
    "keys turned, 12 bits": Way(Coding(12, is_turned=True), TURNED),
    **{
        f"keys alone, turned, layers {first} to {first + 9}": Way(
            TURNED, layers=range(first, first + 10)
        )
        for first in (0, 10, 20)
    },
}
SERVED = {f"kernels {kind}": kind for kind in ("f16", "int10", "int8")}


class Simulated:
    """The operations in plain torch, with keys and values rounded on their way to the cache."""

    name = "simulated"
    begin = staticmethod(reference.begin)
    rms_norm = staticmethod(reference.rms_norm)
    linear = staticmethod(reference.linear)
    rotary = staticmethod(reference.rotary)
    silu_mul = staticmethod(reference.silu_mul)

    def __init__(self, way: Way) -> None:
        self._way = way
        self._shifts: dict[int, torch.Tensor] = {}

    def paged_attention(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        cache: PagedCache,
        layer: int,
        *,
        step: reference.Step,
    ) -> torch.Tensor:
        """See `Kernels.paged_attention`."""
        exact = (step.slots < self._way.exact_tokens)[:, None, None]
        kept_keys = torch.where(exact, keys, self._kept_keys(keys, layer))
        coding = self._way.values
        kept_values = torch.where(exact, values, coding.kept(values)) if coding else values
        return reference.paged_attention(queries, kept_keys, kept_values, cache, layer, step=step)

    def _kept_keys(self, keys: torch.Tensor, layer: int) -> torch.Tensor:
        coding = self._way.keys
        if coding is None or layer not in self._way.layers:
            return keys
        shift = torch.zeros(())
        if self._way.is_shifted:
            shift = self._shifts.setdefault(layer, keys[:PAGE_SIZE].mean(0))
        return coding.kept(keys - shift) + shift


def scored(network: Network | CpuNetwork, ids: Ids, last: int) -> torch.Tensor:
    """Return log-probabilities after each of the last tokens of a text: [last, vocabulary]."""
    table = tuple(range(-(-len(ids) // PAGE_SIZE)))
    cache: Any = network.new_cache(len(table))
    first, found = len(ids) - last, []
    for start in range(0, len(ids), CHUNK):
        stop = min(start + CHUNK, len(ids))
        wanted = max(stop - max(start, first), 0)
        span = Span(0, stop - start, stop, table, logits=max(wanted, 1), prompt_end=first)
        step = StepBatch(ids[start:stop], np.arange(start, stop), (span,))
        logits = torch.as_tensor(network.step(step, cache))
        if wanted:
            found.append(logits.log_softmax(-1))
    return torch.cat(found)


def texts(model: LoadedModel, length: int, count: int) -> list[Ids]:
    """Return texts of `length` tokens: of code and of the manual, in turn."""
    encode = model.tokenizer.encode
    code, prose = gathered(encode, length * count)[-1], encode(manual())
    found = []
    for index in range(count):
        source, place = (prose if index % 2 else code), index // 2 * length
        found.append(np.array(source[place : place + length]))
    return found


def bytes_per_token(model: LoadedModel, way: Way) -> float | None:
    """Return what a token takes over all layers, where keys and values are kept alike in all."""
    if way.keys is None or way.values is None or way.exact_tokens:
        return None
    vectors = model.config.layers * model.config.kv_heads
    size = model.config.head_size
    return vectors * (way.keys.bytes(size) + way.values.bytes(size))


def loaded(path: pathlib.Path, kernels: str, cache: str) -> LoadedModel:
    """Return the model on some kernels with some cache."""
    wanted = {"THERMESH_KERNELS": kernels, "THERMESH_KV_CACHE": cache}
    with mock.patch.dict(os.environ, wanted):
        model = load(path, path.stem)
    model.network.use_threads(os.cpu_count() or 1)
    return model


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare every way on every text; return the figures with the machine."""
    path = models.locate(arguments.model)
    exact = loaded(path, "reference", "f16")
    assert isinstance(exact.network, Network)
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    for ids in texts(exact, arguments.context, arguments.texts):
        expected = scored(exact.network, ids, arguments.last)
        for name in arguments.ways:
            network = network_of(name, path, exact)
            rows[name].append(compared(expected, scored(network, ids, arguments.last)))
            print(name, rows[name][-1], file=sys.stderr, flush=True)
    return {
        "machine": machine.describe(),
        "context": arguments.context,
        "judged_tokens": arguments.last * arguments.texts,
        "ways": {name: _row(exact, name, figures) for name, figures in rows.items()},
    }


def network_of(name: str, path: pathlib.Path, exact: LoadedModel) -> Network | CpuNetwork:
    """Return a network that keeps keys and values that way, and has seen nothing yet."""
    if name in SERVED:
        network = loaded(path, "cpu", SERVED[name]).network
        assert isinstance(network, CpuNetwork)
        return network
    assert isinstance(exact.network, Network)
    weights = exact.network._weights  # noqa: SLF001  # the same, under other operations
    return Network(exact.config, weights, Simulated(WAYS[name]), "f16")


def _row(model: LoadedModel, name: str, figures: list[dict[str, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {key: fmean(each[key] for each in figures) for key in figures[0]}
    if name in WAYS:
        row["bytes_per_token"] = bytes_per_token(model, WAYS[name])
    return row


def main() -> None:
    """Measure, print a table, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = [*SERVED, *WAYS]
    parser.add_argument("--model", default="smollm2-135m-instruct", help="packaged name or file")
    parser.add_argument("--context", type=int, default=4096, help="tokens of a text")
    parser.add_argument("--last", type=int, default=1024, help="last tokens that are judged")
    parser.add_argument("--texts", type=int, default=2, help="texts, of code and prose in turn")
    parser.add_argument("--ways", nargs="+", default=every, choices=every, metavar="WAY")
    parser.add_argument("--json", type=pathlib.Path, help="file to write everything to")
    arguments = parser.parse_args()
    result = measure(arguments)
    print("| way | bytes a token | mean KL (nats) | same likeliest token |\n|---|---|---|---|")
    for name, row in result["ways"].items():
        taken = row.get("bytes_per_token")
        cells = (f"{taken:,.0f}" if taken else "", f"{row['mean_kl']:.1e}")
        print("|", " | ".join([name, *cells, f"{row['top_1_agreement']:.2%}"]), "|")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
