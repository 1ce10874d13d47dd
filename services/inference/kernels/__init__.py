"""The only door to the arithmetic of a network.

A step runs the new tokens of several sequences at once, laid end to end
(`StepBatch`). Their keys and values live in a `PagedCache`, whose pages any
sequence may own in any order, as in PagedAttention (Kwon et al., 2023,
https://arxiv.org/abs/2309.06180). When a model is loaded, `whole_network` offers an
implementation that runs a step in one call, where there is one that fits;
else the network is composed of `operations` in plain torch.

Rules:

1. Nobody imports an implementation but this module and `operations`.
2. What goes in are numpy arrays. Logits come out as what the network computes with:
   numpy arrays from the C++ kernels, tensors from torch. Who draws takes them as they
   are; nobody between looks into them.
3. Importing this module imports no torch, and neither does serving on the C++ kernels:
   torch takes 180 MB and a second. What needs it is imported where it is chosen.
"""

from __future__ import annotations

import importlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from services.inference.config import KernelsConfig
from services.inference.kernels.cpu.native import NotAvailable, status
from services.inference.kernels.cpu.network import CpuNetwork
from services.inference.kernels.cpu.packing import Blocks, Tensors, Unsuitable
from services.inference.kernels.sparsity import FINAL_TOKENS, LIGHT, HeadWindows, Sparsity
from services.inference.kernels.triton import status as device_status
from thermesh.errors import FailedPrecondition
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
    "Span",
    "Sparsity",
    "StepBatch",
    "device_status",
    "follow",
    "on_device",
    "prefers_device",
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

    token_ids: npt.NDArray[np.int64]
    """[tokens]."""
    positions: npt.NDArray[np.int64]
    """[tokens]: position of each token in its sequence, from 0."""
    spans: tuple[Span, ...]


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
    if not prefers_device(wanted):
        return None
    found, insists = device_status(), wanted.device == "cuda"
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
