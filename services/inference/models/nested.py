"""Networks within a network: the first neurons and heads of every layer.

Where neurons and heads lie in the order of their importance (`thermesh distil`
brings them into it), each beginning of them is a network of its own, smaller and
faster: a light path (matryoshka: Kusupati et al., 2022, https://arxiv.org/abs/2205.13147;
slimmable networks: Yu et al., 2018, https://arxiv.org/abs/1812.08928). Of heads,
each key-value head keeps its first query heads, and all key-value heads stay, so
that both networks read and write one cache.

A file tells its light path in one metadata key, as JSON:

    thermesh.path.light    {"version": 1, "heads_per_group": 2, "neurons": 768}

A path may have weights of its own instead of a beginning of the whole's: tensors whose
name begins with `light.`, each in place of the one without it.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.inference.kernels import Blocks
from services.inference.kernels.cpu.packing import Tensors
from services.inference.models.config import ModelConfig
from services.inference.models.group_codes import BLOCK
from services.inference.models.refusal import malformed, unsupported

KEY = "thermesh.path.light"
OWN = "light."
"""What the names of tensors begin with that the path alone has."""
VERSION = 1


@dataclass(frozen=True)
class Prefix:
    """How much of each layer a path runs through."""

    heads_per_group: int
    """Query heads of each key-value head."""
    neurons: int
    """Of the feed-forward part; a multiple of `BLOCK`."""

    def problem(self, config: ModelConfig) -> str | None:
        """Return why it is no prefix of a network, None where it is one."""
        most = config.heads // config.kv_heads
        if not 1 <= self.heads_per_group <= most:
            return f"heads_per_group is {self.heads_per_group}, expected 1 to {most}"
        if self.neurons % BLOCK or not BLOCK <= self.neurons <= config.intermediate_size:
            highest = config.intermediate_size
            return f"neurons is {self.neurons}, expected a multiple of {BLOCK} up to {highest}"
        return None

    def metadata(self) -> dict[str, str]:
        """Return what a file says of it."""
        return {KEY: json.dumps({"version": VERSION, **dataclasses.asdict(self)})}

    def config(self, whole: ModelConfig) -> ModelConfig:
        """Return the sizes of the network that it is of `whole`."""
        heads = whole.kv_heads * self.heads_per_group
        return dataclasses.replace(whole, heads=heads, intermediate_size=self.neurons)


def of_share(config: ModelConfig, share: float) -> Prefix:
    """Return the prefix of about `share` of the neurons and of the heads, at least one block."""
    heads = config.heads // config.kv_heads
    blocks = config.intermediate_size // BLOCK
    return Prefix(max(1, round(heads * share)), BLOCK * max(1, round(blocks * share)))


def read(path: pathlib.Path, metadata: Mapping[str, Any], config: ModelConfig) -> Prefix | None:
    """Return the light path that a file tells, None where it tells none."""
    if KEY not in metadata:
        return None
    try:
        told = json.loads(metadata[KEY])
        version, prefix = told.pop("version"), Prefix(**told)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise malformed(path, f"{KEY} does not describe a path") from error
    if version != VERSION:
        raise unsupported(path, f"{KEY} has version {version}, this engine reads {VERSION}")
    if not all(type(size) is int for size in (prefix.heads_per_group, prefix.neurons)):
        raise malformed(path, f"{KEY} does not describe a path")
    problem = prefix.problem(config)
    if problem:
        raise malformed(path, f"{KEY}: {problem}")
    return prefix


def kept_heads(config: ModelConfig, prefix: Prefix) -> list[int]:
    """Return which query heads of the whole network the path has, in order."""
    each = config.heads // config.kv_heads
    return [
        group * each + place
        for group in range(config.kv_heads)
        for place in range(prefix.heads_per_group)
    ]


class PrefixTensors:
    """The tensors of a file, as those of its light path; blocks stay as they are.

    `own` has those that are the path's own, by the names of the whole's.
    """

    def __init__(
        self, whole: Tensors, config: ModelConfig, prefix: Prefix, own: Tensors | None = None
    ) -> None:
        self._whole = whole
        self._own = own
        self._own_kinds = own.kinds() if own else {}
        self._config = config
        self._prefix = prefix
        size = config.head_size
        heads = np.array(kept_heads(config, prefix))
        self._queries = (heads[:, None] * size + np.arange(size)).ravel()

    def kinds(self) -> Mapping[str, str]:
        """See `Tensors`."""
        return {**self._whole.kinds(), **self._own_kinds}

    def matrix(self, name: str) -> Blocks:
        """See `Tensors`."""
        if self._own and name in self._own_kinds:
            return self._own.matrix(name)
        whole, part = self._whole.matrix(name), name.split(".")[-2]
        if part == "attn_q":
            return dataclasses.replace(whole, rows=whole.rows[self._queries])
        if part in {"ffn_gate", "ffn_up"}:
            return dataclasses.replace(whole, rows=whole.rows[: self._prefix.neurons])
        if part == "attn_output":
            return _columns(whole, self._queries)
        if part == "ffn_down":
            return _columns(whole, np.arange(self._prefix.neurons))
        return whole

    def vector(self, name: str) -> npt.NDArray[np.float32] | None:
        """See `Tensors`."""
        own = self._own.vector(name) if self._own else None
        if own is not None:
            return own
        whole = self._whole.vector(name)
        is_cut = whole is not None and name.endswith("attn_q.bias")
        return whole[self._queries] if is_cut and whole is not None else whole

    def inverse_frequencies(self) -> npt.NDArray[np.float32]:
        """See `Tensors`."""
        return self._whole.inverse_frequencies()


def _columns(blocks: Blocks, kept: npt.NDArray[np.int64]) -> Blocks:
    """Return whole blocks of columns; `kept` is made of such."""
    count, places = blocks.columns // BLOCK, kept[::BLOCK] // BLOCK
    rows = blocks.rows.reshape(len(blocks.rows), count, -1)[:, places]
    return Blocks(blocks.kind, rows.reshape(len(blocks.rows), -1), columns=len(kept))
