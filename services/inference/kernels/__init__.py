"""The only door to the arithmetic of a network.

A step runs the new tokens of several sequences at once, laid end to end
(`StepBatch`). Their keys and values live in a `PagedCache`, whose pages any
sequence may own in any order, as in PagedAttention (Kwon et al., 2023,
https://arxiv.org/abs/2309.06180). When a model is loaded, `whole_network` offers an
implementation that runs a step in one call, where there is one that fits;
else the network is composed of the operations that `select` gives. `reference`
defines what they mean, every other one is tested against it.

Rules:

1. Nobody imports an implementation but this module.
2. Weights of linear layers are stored [input, output]. On CPUs this is up to
   twice as fast as [output, input] for batches of 4 to 32 rows.
3. An operation never keeps a tensor it was given, but for the cache.
"""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from services.inference.config import KernelsConfig
from services.inference.kernels import reference
from services.inference.kernels.cpu.native import NotAvailable, status
from services.inference.kernels.cpu.network import CpuNetwork
from services.inference.kernels.cpu.packing import Blocks, Tensors, Unsuitable
from services.inference.kernels.sparsity import FINAL_TOKENS, LIGHT, HeadWindows, Sparsity
from services.inference.kernels.triton import status as device_status
from thermesh.errors import FailedPrecondition, InvalidArgument
from thermesh.settings import from_env

if TYPE_CHECKING:
    from services.inference.kernels.triton.network import GpuNetwork
    from services.inference.models.config import ModelConfig
    from services.inference.models.weights import Weights

__all__ = [
    "FINAL_TOKENS",
    "LIGHT",
    "PAGE_SIZE",
    "Blocks",
    "CpuNetwork",
    "HeadWindows",
    "Kernels",
    "PagedCache",
    "Span",
    "Sparsity",
    "StepBatch",
    "device_status",
    "follow",
    "on_device",
    "prefers_device",
    "select",
    "whole_network",
]

log = logging.getLogger(__name__)

PAGE_SIZE = 16
"""Tokens of a page. Small enough to waste little at the end of a sequence (7.5
tokens on average), large enough that gathering pages copies whole cache lines."""


@dataclass(frozen=True)
class Span:
    """One sequence's part of a step."""

    start: int
    """First row of the sequence in the step's `token_ids`."""
    count: int
    """New tokens of the sequence in this step, at least 1."""
    context_length: int
    """Tokens of the sequence in the cache after this step, the new ones included."""
    page_table: tuple[int, ...]
    """Pages of the sequence in order, enough for `context_length`; more are ignored."""
    logits: int = 1
    """How many of the last new tokens logits are wanted after, from 1 to `count`."""
    sparsity: Sparsity | None = None
    """How its queries choose what they read; None: they read everything."""
    prompt_end: int = 0
    """Tokens at positions below are only read, as those of a prompt but the last. An
    implementation may compute them in another arithmetic than tokens whose logits
    are wanted: a token's kind decides its bits, never the company it has."""

    @property
    def output_rows(self) -> range:
        """Rows of the step that logits are wanted after."""
        end = self.start + self.count
        return range(end - self.logits, end)


@dataclass(frozen=True)
class StepBatch:
    """The new tokens of several sequences, laid end to end in the order of `spans`."""

    token_ids: torch.Tensor
    """[tokens] int64."""
    positions: torch.Tensor
    """[tokens] int64: position of each token in its sequence, from 0."""
    spans: tuple[Span, ...]


class PagedCache:
    """Keys and values of all sequences in pages of `PAGE_SIZE` tokens.

    `keys` and `values` are [layers, pages, PAGE_SIZE, kv_heads, head_size]: the
    vector of one token is contiguous (one copy per token on write) and so is a
    page (one copy per page on gather). Of kind `f16` they are float32, which
    other implementations round to half precision. Of kind `int8` they are codes
    in [-127, 127], and `key_scales` and `value_scales`, [layers, pages,
    PAGE_SIZE, kv_heads] float16, tell what a code of each token and head is worth.
    """

    def __init__(
        self, layers: int, pages: int, kv_heads: int, head_size: int, kind: str = "f16"
    ) -> None:
        shape = (layers, pages, PAGE_SIZE, kv_heads, head_size)
        numbers = np.int8 if kind == "int8" else np.float32
        self.keys, self.values = _zeros(shape, numbers), _zeros(shape, numbers)
        self.key_scales = _zeros(shape[:-1], np.float16) if kind == "int8" else None
        self.value_scales = _zeros(shape[:-1], np.float16) if kind == "int8" else None
        self.pages = pages

    def copy_page(self, source: int, target: int) -> None:
        """Copy all layers of a page."""
        for numbers in (self.keys, self.values, self.key_scales, self.value_scales):
            if numbers is not None:
                numbers[:, target] = numbers[:, source]

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one token takes over all layers, keys and values together."""
        tensors = (self.keys, self.values, self.key_scales, self.value_scales)
        taken = sum(tensor.nbytes for tensor in tensors if tensor is not None)
        return taken // (self.pages * PAGE_SIZE)


def _zeros(shape: tuple[int, ...], kind: Any) -> torch.Tensor:
    # numpy asks the kernel for zeroed memory, which costs nothing before it
    # is touched; torch.zeros would make the whole cache resident at once.
    # It must be zeros: a masked position weighs 0, and 0 * NaN is NaN.
    return torch.from_numpy(np.zeros(shape, dtype=kind))


class Kernels(Protocol):
    """What an implementation offers. Activations are float32, rows are tokens."""

    name: str
    """The name that `select` knows and DescribeModel tells."""

    def begin(
        self, batch: StepBatch, cache: PagedCache, inverse_frequencies: torch.Tensor, heads: int
    ) -> Any:
        """Compute once what all layers of a step share; opaque to the caller.

        `inverse_frequencies` is [head_size / 2] float32, `heads` the number of
        query heads.
        """
        ...

    def rms_norm(self, hidden: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        """Return `hidden / rms(hidden) * weight` over the last dimension.

        Zhang and Sennrich, 2019, https://arxiv.org/abs/1910.07467.
        """
        ...

    def linear(
        self, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """Return `hidden @ weight + bias`: [rows, input] x [input, output]."""
        ...

    def rotary(self, vectors: torch.Tensor, step: Any) -> torch.Tensor:
        """Rotate [tokens, heads, head_size] by each token's position.

        Member i turns with member i + head_size / 2, as Hugging Face lays heads
        out. Su et al., 2021, https://arxiv.org/abs/2104.09864.
        """
        ...

    def paged_attention(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        cache: PagedCache,
        layer: int,
        *,
        step: Any,
    ) -> torch.Tensor:
        """Write the new keys and values to the cache, then attend causally.

        `queries` is [tokens, heads, head_size], `keys` and `values` [tokens,
        kv_heads, head_size]; the result is [tokens, heads * head_size]. Query
        head h reads key-value head `h // (heads / kv_heads)`.
        """
        ...

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """Return `silu(gate) * up` of [rows, gate | up]: half as wide.

        SwiGLU, Shazeer, 2020, https://arxiv.org/abs/2002.05202.
        """
        ...


IMPLEMENTATIONS: dict[str, Kernels] = {reference.name: reference}
"""Every implementation that this machine can run, by its name."""


def select(name: str = "reference") -> Kernels:
    """Return the implementation `name`; raise InvalidArgument for an unknown one."""
    if name not in IMPLEMENTATIONS:
        allowed = ", ".join(IMPLEMENTATIONS)
        raise InvalidArgument(f"kernels must be one of {allowed}, got {name!r}", field="kernels")
    return IMPLEMENTATIONS[name]


def whole_network(
    config: ModelConfig, tensors: Tensors, wanted: KernelsConfig | None = None
) -> CpuNetwork | None:
    """Return a network that runs a step in one call; None where none fits or pays,
    or the network is to run on a GPU.

    `wanted` is the environment's by default. Raises FailedPrecondition where it
    asks for the C++ kernels and they are not built or do not fit the model.
    """
    wanted = wanted or from_env(KernelsConfig)
    is_open = wanted.kernels == "auto" and not wanted.tier
    if wanted.kernels == "reference" or wanted.device == "cuda" or (is_open and _is_slow()):
        return None
    try:
        return CpuNetwork(config, tensors, wanted.tier, wanted.precision, wanted.kv_cache)
    except (NotAvailable, Unsuitable) as error:
        if wanted.kernels == "cpu":
            raise FailedPrecondition(f"THERMESH_KERNELS=cpu: {error}") from error
        log.info("plain torch serves: %s", error)
        return None


def _is_slow() -> bool:
    """Whether the C++ kernels have no vectors for this processor: torch has."""
    return status().tiers == ("generic",)


def prefers_device(wanted: KernelsConfig | None = None) -> bool:
    """Whether a network is to run on a GPU if it can: one is there, or somebody insists."""
    wanted = wanted or from_env(KernelsConfig)
    # The interpreter is for tests: it serves only where somebody insists.
    is_open = wanted.device == "auto" and wanted.kernels == "auto" and not wanted.tier
    return wanted.device == "cuda" or (is_open and device_status().device == "cuda")


def on_device(
    config: ModelConfig, source: Tensors | Weights, wanted: KernelsConfig | None = None
) -> GpuNetwork | None:
    """Return the network on a GPU; None where there is none, or it does not fit.

    `source` is a file's tensors, packed as they are, or float32 weights, rounded to
    bfloat16. `wanted` is the environment's by default. Raises FailedPrecondition
    where it insists on a GPU and there is none, or float32 weights do not fit one
    either.
    """
    wanted = wanted or from_env(KernelsConfig)
    found, insists = device_status(), wanted.device == "cuda"
    if not prefers_device(wanted):
        return None
    if not found.available:
        raise FailedPrecondition(f"THERMESH_DEVICE=cuda: {found.reason}")
    # Only here, as it imports Triton.
    build = importlib.import_module("services.inference.kernels.triton.build")
    try:
        network: GpuNetwork = build.network(config, source, wanted)
    except Unsuitable as error:
        if insists and not hasattr(source, "kinds"):
            raise FailedPrecondition(f"THERMESH_DEVICE=cuda: {error}") from error
        log.info("the packed weights do not fit the GPU's kernels: %s", error)
        return None
    return network


def follow(network: object) -> bool:
    """Repeat the steps of the process that serves, until it ends.

    Returns False at once where this process is the one that serves. Blocks.
    """
    share = getattr(network, "share", None)
    if share is None or share.rank == 0:
        return False
    importlib.import_module("services.inference.kernels.triton.parallel").follow(network)
    return True
