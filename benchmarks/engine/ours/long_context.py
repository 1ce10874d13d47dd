"""Contexts of thousands of tokens: each kind of cache, read in whole or by choice."""

from __future__ import annotations

import functools
import os
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import long_context
from benchmarks.engine.ours.thermesh import Thermesh
from benchmarks.long_context import CONTENDERS, Context
from services.inference.cores import physical_cores
from services.inference.kernels import CpuNetwork
from services.inference.kernels.sparsity import Sparsity
from services.inference.models import LoadedModel, load

ROOM = 32
"""Tokens that are decoded behind a context."""


def decode(contender: Thermesh, kinds: list[str], length: int, steps: int) -> dict[str, float]:
    """Return tokens per second behind `length` tokens, of each kind in a new order."""
    contexts = {kind: _filled(contender, kind, length) for kind in kinds}
    order = contender.draw.sample(kinds, len(kinds))
    return {kind: long_context.decode(contexts[kind], length, steps) for kind in order}


def prefill(contender: Thermesh, kinds: list[str], length: int) -> dict[str, float]:
    """Return tokens per second of a prompt, of each kind in a new order."""
    text = _text(contender)[:length]
    order = contender.draw.sample(kinds, len(kinds))
    return {kind: long_context.prefill(_context(contender, kind, length), text) for kind in order}


def quality(
    contender: Thermesh, kinds: list[str], length: int, last: int, text: int
) -> dict[str, float]:
    """Return what the distributions of the last tokens of a text differ by from those
    of the first kind: mean KL divergence and the share of equal likeliest tokens.
    """
    ids = _text(contender)[text * length : (text + 1) * length]
    first, *others = kinds
    expected = _scored(contender, first, ids, last)
    found: dict[str, float] = {}
    for kind in others:
        differs = long_context.compared(expected, _scored(contender, kind, ids, last))
        found |= {f"{kind} {name}": value for name, value in differs.items()}
    return found


def passkeys(contender: Thermesh, kind: str, length: int) -> float:
    """Return the share of depths at which a number hidden in a text is found."""
    model, text = _model(contender, "f16"), long_context.manual()
    context = _context(contender, kind, length)
    return long_context.found_passkeys(model, context, text, length)


def bytes_per_token(contender: Thermesh) -> dict[str, float]:
    """Return what a token takes in each kind of cache, and means of keys beside it."""
    caches = {kind: _network(contender, kind).new_cache(1) for kind in ("f16", "int8")}
    return {
        **{kind: cache.bytes_per_token for kind, cache in caches.items()},
        "means": caches["int8"].mean_bytes_per_token,
    }


def _scored(contender: Thermesh, kind: str, ids: npt.NDArray[np.int64], last: int) -> torch.Tensor:
    context = _context(contender, kind, len(ids))
    _filled.cache_clear()  # the text takes the place of what was there
    return long_context.scored(context, ids, last)


@functools.cache
def _filled(contender: Thermesh, kind: str, length: int) -> Context:
    context = _context(contender, kind, length)
    context.read(_text(contender)[:length])
    return context


@functools.cache
def _context(contender: Thermesh, kind: str, length: int) -> Context:
    cache, choice = CONTENDERS[kind]
    network = _network(contender, cache)
    sparsity = choice if isinstance(choice, Sparsity) else network.light
    return Context(network, length + ROOM, sparsity if choice else None)


def _network(contender: Thermesh, cache: str) -> CpuNetwork:
    network = _model(contender, cache).network
    assert isinstance(network, CpuNetwork)
    network.use_threads(physical_cores())
    return network


@functools.cache
def _model(contender: Thermesh, cache: str) -> LoadedModel:
    wanted = {"THERMESH_KERNELS": "cpu", "THERMESH_KV_CACHE": cache}
    with mock.patch.dict(os.environ, wanted):
        return load(contender.path, cache)


@functools.cache
def _text(contender: Thermesh) -> npt.NDArray[np.int64]:
    ids = contender.model.tokenizer.encode(long_context.manual())
    return np.array(ids)
