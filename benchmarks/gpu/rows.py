"""The rows of the table: what is measured, against whom, and what it must reach.

Weights are random numbers in real shapes. Each row gives its figures and, by its
bar, whether they suffice; a peer that is not installed is named with the reason.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.gpu import peers, worlds
from benchmarks.gpu.timing import OutOfTime, bandwidth, compared, spread, wall_milliseconds
from services.inference.kernels.triton.matrix import quantise_fp8

_STEPS = 32
_STREAMS, _CONTEXT = 128, 512
"""Of row 2."""
_FP8_ROWS, _FP8_WIDTH = (512, 2048, 8192), 4096
"""Sizes of the products of row 4."""


class NotMeasured(Exception):
    """A row, or a peer of one, cannot be measured here; the message says why."""


@dataclass
class Figures:
    """What one row found."""

    values: dict[str, Any] = field(default_factory=dict)
    bars: dict[str, bool] = field(default_factory=dict)
    """Each part of the bar in words, and whether it was reached."""
    missing: dict[str, str] = field(default_factory=dict)
    """Peers that could not be measured, and why."""

    def bar(self, words: str, *, reached: bool) -> None:
        """Note a part of the bar."""
        self.bars[words] = bool(reached)

    def peer(self, name: str, measure: Callable[[], list[float]]) -> float | None:
        """Return a peer's median, None where it cannot be measured."""
        try:
            found = spread(measure())
        except OutOfTime:
            raise
        except Exception as reason:
            # Whatever another engine runs into is a reason to report, not to end.
            self.missing[name] = f"{type(reason).__name__}: {reason}".splitlines()[0][:200]
            return None
        finally:
            free()
        self.values[name] = found
        return found["median"]


def operations() -> Any:
    """Return the fast paths."""
    return importlib.import_module("services.inference.kernels.triton.operations")


def scaled() -> Any:
    """Return products of eight bits with eight bits: the path that serves, and the kernel."""
    return importlib.import_module("services.inference.kernels.triton.scaled")


def free() -> None:
    """Give the memory of the last contender back."""
    gc.collect()
    torch.cuda.empty_cache()


def decode_ms(network: Any, streams: int, context: int) -> list[float]:
    """Return milliseconds of a step of `streams` sequences behind `context` tokens."""
    sequences = worlds.Streams(network, streams, context)
    return wall_milliseconds(sequences.step, _STEPS)


def plain_network(shape: worlds.Shape) -> Any:
    """Return a network in bfloat16."""
    make = worlds.dense("cuda")
    weights = worlds.random_weights(shape, make, make, make)
    return worlds.network(shape, weights, operations(), torch.bfloat16)


def single_stream(figures: Figures) -> None:
    """Row 1: 135M in bfloat16, one stream."""
    network = plain_network(worlds.SMALL)
    own = spread(decode_ms(network, 1, 128))
    figures.values["own, ms a token"] = own
    network._graphs.run = lambda _key, body: body()  # noqa: SLF001  # the same without graphs
    eager = spread(decode_ms(network, 1, 128))
    figures.values["own without graphs, ms a token"] = eager
    rate = 1000 / own["median"]
    figures.values["own, tokens a second"] = rate
    figures.bar(">= 2,000 tok/s", reached=rate >= 2000)
    figures.bar(">= 10x own eager", reached=eager["median"] >= 10 * own["median"])
    name = "transformers, static cache and compile, ms a token"
    peer = figures.peer(name, lambda: peers.transformers_decode(worlds.SMALL, 1, is_compiled=True))
    if peer is not None:
        figures.bar(">= 1.5x transformers compiled", reached=peer >= 1.5 * own["median"])


def many_streams(figures: Figures) -> None:
    """Row 2: 135M, 128 streams behind 512 tokens."""
    own = spread(decode_ms(plain_network(worlds.SMALL), _STREAMS, _CONTEXT))
    figures.values["own, ms a step"] = own
    figures.values["own, tokens a second"] = 1000 * _STREAMS / own["median"]
    name = "transformers continuous batching, ms a step"
    peer = figures.peer(
        name, lambda: peers.transformers_continuous(worlds.SMALL, _STREAMS, _CONTEXT)
    )
    if peer is not None:
        figures.bar(">= 3x continuous batching", reached=peer >= 3 * own["median"])


def four_bits(figures: Figures) -> None:
    """Row 3: 8B shape, four-bit weights, one stream."""
    read = bandwidth()
    figures.values["bandwidth, GB/s"] = read / 1e9
    four, head = worlds.four_bits("cuda"), worlds.dense("cuda")
    weights = worlds.random_weights(worlds.LARGE, four, four, head)
    network = worlds.network(worlds.LARGE, weights, operations(), torch.bfloat16)
    own = spread(decode_ms(network, 1, 128))
    figures.values["own, ms a token"] = own
    share = network.weight_bytes / (own["median"] / 1000) / read
    figures.values["share of bandwidth"] = share
    del network, weights
    free()
    plain = spread(decode_ms(plain_network(worlds.LARGE), 1, 128))
    figures.values["own bfloat16 graph, ms a token"] = plain
    figures.bar(">= 2.6x own bfloat16", reached=plain["median"] >= 2.6 * own["median"])
    figures.bar(">= 65 % of bandwidth", reached=share >= 0.65)
    free()
    peer = figures.peer(
        "torchao int4 in a compiled transformers, ms a token",
        lambda: peers.transformers_decode(
            worlds.LARGE, 1, is_compiled=True, prepare=peers.in_four_bits
        ),
    )
    if peer is not None:
        figures.bar(">= 1.2x torchao int4", reached=peer >= 1.2 * own["median"])


def fp8_products(figures: Figures) -> None:
    """Row 4: FP8 products, 4096 wide."""
    ours, width = scaled(), _FP8_WIDTH
    for rows in _FP8_ROWS:
        weights = torch.randn(width, width, device="cuda", dtype=torch.bfloat16)
        hidden = torch.randn(rows, width, device="cuda", dtype=torch.bfloat16)
        matrix = quantise_fp8(weights)
        codes, scales = ours.normed_codes(hidden, torch.float8_e4m3fn)
        contenders = {
            "own path": _bound(ours.scaled_linear, codes, scales, matrix, torch.bfloat16),
            "own kernel": _bound(ours.scaled_product, codes, scales, matrix, torch.bfloat16),
            "torch._scaled_mm": _bound(peers.scaled_mm, codes, scales, matrix),
            "bfloat16": _bound(torch.matmul, hidden, weights.t()),
        }
        found = {name: spread(one) for name, one in compared(contenders, 20).items()}
        figures.values[f"{rows} rows, ms"] = found
        own, peer = found["own path"]["median"], found["torch._scaled_mm"]["median"]
        figures.bar(f"{rows} rows: >= 0.95x _scaled_mm", reached=own <= peer / 0.95)
        plain = found["bfloat16"]["median"]
        figures.bar(f"{rows} rows: >= 1.5x bfloat16", reached=plain >= 1.5 * own)


def mixed(figures: Figures) -> None:
    """Row 5: FP8 attention and INT4 feed-forward, 8B shape, behind 1,024 tokens."""
    eager = "transformers eager, 32 streams, ms a step"
    peer = figures.peer(
        eager, lambda: peers.transformers_decode(worlds.LARGE, 32, context=1024, is_compiled=False)
    )
    free()
    makers = worlds.fp8("cuda"), worlds.four_bits("cuda"), worlds.dense("cuda")
    weights = worlds.random_weights(worlds.LARGE, *makers)
    network = worlds.network(worlds.LARGE, weights, operations(), torch.int8)
    own = {streams: spread(decode_ms(network, streams, 1024)) for streams in (32, 64)}
    del network, weights
    free()
    plain_one = plain_network(worlds.LARGE)
    plain = {streams: spread(decode_ms(plain_one, streams, 1024)) for streams in (32, 64)}
    for streams, found in own.items():
        figures.values[f"own, {streams} streams, ms a step"] = found
        figures.values[f"own bfloat16, {streams} streams, ms a step"] = plain[streams]
        reached = plain[streams]["median"] >= 1.6 * found["median"]
        figures.bar(f"{streams} streams: >= 1.6x own bfloat16", reached=reached)
    if peer is not None:
        figures.bar(">= 4.1x transformers eager", reached=peer >= 4.1 * own[32]["median"])


def _bound(function: Callable[..., object], *arguments: Any) -> Callable[[], object]:
    return lambda: function(*arguments)
