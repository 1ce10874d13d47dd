"""One network on several devices: each process has a share of every layer.

The first process serves; the others `follow` it. What it computes it tells them
first, as plain numbers, and then all compute the same step and add up what the
layers give (NCCL between GPUs, gloo between processes on CPUs). Every process
holds the cache of its own heads, at the same pages.
"""

from __future__ import annotations

import atexit
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from services.inference.kernels.triton.cache import DeviceCache
from services.inference.kernels.triton.checks import check_batch
from services.inference.kernels.triton.network import GpuNetwork
from services.inference.kernels.triton.weights import Share

if TYPE_CHECKING:
    from services.inference.kernels import StepBatch


def join(device: str) -> Share:
    """Return this process's share, as `torchrun` started it; all of it where nobody did."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Share()
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    return Share(dist.get_rank(), world)


def add_up(partial: torch.Tensor) -> torch.Tensor:
    """Return the sum of `partial` over all processes of the default group."""
    dist.all_reduce(partial)
    return partial


@dataclass(frozen=True)
class Told:
    """One call that the first process makes and all others repeat."""

    method: str
    arguments: tuple[Any, ...]


class Leader:
    """The network of the first process, with the interface of the others."""

    def __init__(self, network: GpuNetwork) -> None:
        self._network = network
        # Scoring comes from another thread: the others must hear one call at a time.
        self._lock = threading.Lock()
        atexit.register(self.close)
        self.config = network.config
        self.kernels_name = network.kernels_name
        self.weight_bytes = network.weight_bytes * dist.get_world_size()
        self.light = network.light

    def use_threads(self, count: int) -> None:
        """See `GpuNetwork.use_threads`."""
        self._network.use_threads(count)

    def new_cache(self, pages: int) -> DeviceCache:
        """Return a cache of the first device's heads; the others make theirs."""
        with self._lock:
            _tell(Told("new_cache", (pages,)))
            cache = self._network.new_cache(pages)
        cache.before_copy = self._tell_copy
        return cache

    def fitting_pages(self, step_tokens: int) -> int:
        """Return how many pages fit on the device with the least room."""
        with self._lock:
            _tell(Told("fitting_pages", (step_tokens,)))
            return _least(self._network.fitting_pages(step_tokens), self._network.device)

    def step(self, batch: StepBatch, cache: DeviceCache) -> torch.Tensor:
        """See `GpuNetwork.step`; the logits are on the CPU, where the host draws.

        A bad batch is refused before anybody else hears of it.
        """
        check_batch(batch, cache, self.config.vocabulary_size)
        with self._lock:
            _tell(Told("step", (batch,)))
            return self._network.step(batch, cache).cpu()

    def score(self, token_ids: npt.NDArray[np.int64]) -> torch.Tensor:
        """See `GpuNetwork.score`."""
        with self._lock:
            _tell(Told("score", (token_ids,)))
            return self._network.score(token_ids)

    def _tell_copy(self, source: int, target: int) -> None:
        with self._lock:
            _tell(Told("copy_page", (source, target)))

    def close(self) -> None:
        """Let the others end."""
        atexit.unregister(self.close)
        with self._lock:
            _tell(Told("close", ()))


def follow(network: GpuNetwork) -> None:
    """Repeat what the first process does, until it closes."""
    if network.device.type == "cuda":
        torch.cuda.set_device(network.device)  # it holds for one thread, and this is another
    cache: DeviceCache | None = None
    while (told := _hear()).method != "close":
        match told.method:
            case "new_cache":
                cache = network.new_cache(*told.arguments)
            case "step":
                assert cache is not None
                network.step(told.arguments[0], cache)
            case "copy_page":
                assert cache is not None
                cache.copy_page(*told.arguments)
            case "score":
                network.score(*told.arguments)
            case "fitting_pages":
                _least(network.fitting_pages(*told.arguments), network.device)


def _tell(told: Told) -> None:
    dist.broadcast_object_list([told], src=0)


def _hear() -> Told:
    box: list[Any] = [None]
    dist.broadcast_object_list(box, src=0)
    told = box[0]
    assert isinstance(told, Told)
    return told


def _least(pages: int, device: torch.device) -> int:
    found = torch.tensor(pages, device=device)
    dist.all_reduce(found, op=dist.ReduceOp.MIN)
    return int(found)
