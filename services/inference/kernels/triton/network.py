"""A Llama-family network on a GPU, with the interface of the others.

Weights and cache stay on the device. Sequences that decode are one launch of a
captured graph (`graphs`); prompts run as they come. A layer is six kernels:

    norm, QKV -> rotate, store -> attend, merge -> project, add
    norm, gate and up, silu -> down, add

Drawing is part of the network here: tokens are drawn where the logits are, and
the next step of the same sequences is launched with them before the host has
read one (`ahead`). When the engine asks for that step, it is there already; when
it asks for something else, what was launched is dropped. Nothing is lost then:
it wrote to places that the sequences own and that only the same tokens would
make final.

Under Triton's interpreter the same code runs on the CPU, in float32.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from services.inference.kernels.sparsity import LIGHT
from services.inference.kernels.triton import drawing
from services.inference.kernels.triton.ahead import Ahead
from services.inference.kernels.triton.cache import PAGE, DeviceCache, LayerCache, bytes_per_page
from services.inference.kernels.triton.checks import check_batch
from services.inference.kernels.triton.choosing import choice_of, selected
from services.inference.kernels.triton.graphs import (
    Graphs,
    Inputs,
    Next,
    Shape,
    listed_of,
    shape_of,
)
from services.inference.kernels.triton.layers import Layers, Sum
from services.inference.kernels.triton.parts import DecodeMemory
from services.inference.kernels.triton.prompts import (
    Prompt,
    chooses,
    ends_of,
    grouped,
    next_of,
    prompt_of,
    wanted,
)
from services.inference.kernels.triton.weights import DeviceWeights, Share
from services.inference.sampling.sampler import Drawn, Row

if TYPE_CHECKING:
    from services.inference.kernels import Span, StepBatch
    from services.inference.models.config import ModelConfig

_SCORE_CHUNK = 256
"""Tokens that `score` runs at once."""


class GpuNetwork:
    """A network on one device, or on its share of several.

    `kv_dtype` is what keys and values are kept as: int8, float16 or bfloat16.
    `add_up` sums a tensor over all devices of a layer; one device needs none.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: DeviceWeights,
        operations: ModuleType,
        device: torch.device,
        *,
        kv_dtype: torch.dtype,
        share: Share | None = None,
        add_up: Sum | None = None,
    ) -> None:
        self.config = config
        self.device = device
        self.weight_bytes = weights.byte_count
        self.kernels_name = f"{operations.name}-{'cuda' if device.type == 'cuda' else 'cpu'}"
        self.share = share or Share()
        self._operations = operations
        self._kv_dtype = kv_dtype
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self._layers = Layers(config, weights, operations, dtype, self.share, add_up)
        self._graphs = Graphs(device)
        self._inputs: dict[Shape, Inputs] = {}
        self._memory: dict[Shape, DecodeMemory] = {}
        self._ahead = Ahead()
        self._is_choosing = False
        # Scoring comes from another thread; both use the device's one stream.
        self._lock = threading.Lock()
        self.light = LIGHT if config.context_length > LIGHT.dense_below else None

    light_network: GpuNetwork | None = None
    """The model's light path, on the same cache."""

    def use_threads(self, count: int) -> None:  # noqa: ARG002  # the device computes
        """Leave the host's cores to others: a step needs one, to launch it."""
        torch.set_num_threads(1)

    def new_cache(self, pages: int) -> DeviceCache:
        """Return an empty cache of `pages` pages; all its memory is taken at once."""
        sizes = (self.config.layers, pages, self._layers.kv_heads, self.config.head_size)
        return DeviceCache(*sizes, self._kv_dtype, self.device)

    def fitting_pages(self, step_tokens: int, share: float = 0.9) -> int:
        """Return how many pages fit beside a step of `step_tokens`, in `share` of what is free.

        Runs such a step to see what it takes. Without a GPU there is nothing to
        measure, and 1024 is the answer.
        """
        if self.device.type != "cuda":
            return 1024
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self.largest_step(min(step_tokens, self.config.context_length))
        needed = torch.cuda.max_memory_allocated(self.device) - before
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(self.device)
        sizes = (self.config.layers, self._layers.kv_heads, self.config.head_size)
        return max(int((free * share - needed) // bytes_per_page(*sizes, self._kv_dtype)), 1)

    def largest_step(self, tokens: int) -> torch.Tensor:
        """Run a prompt of `tokens` in one step, in a cache of its own; return its logits."""
        from services.inference.kernels import Span, StepBatch  # noqa: PLC0415  # it imports us

        table = tuple(range(-(-tokens // PAGE)))
        ids = np.zeros(tokens, np.int64)
        batch = StepBatch(ids, np.arange(tokens), (Span(0, tokens, tokens, table),))
        return self.step(batch, self.new_cache(len(table)))

    @torch.inference_mode()
    def step(self, batch: StepBatch, cache: DeviceCache) -> torch.Tensor:
        """Run the new tokens of several sequences and extend the cache by them.

        Returns [sequences, vocabulary] float32 on the device: the logits after
        the last new token of each span. Raises InvalidArgument for a batch that
        does not fit the cache, and changes nothing then.
        """
        check_batch(batch, cache, self.config.vocabulary_size)
        with self._lock:
            tokens = batch.token_ids.tolist()
            self._is_choosing = any(chooses(span) for span in batch.spans)
            parts, order = [], []
            for indices in grouped(batch.spans):
                spans = [batch.spans[index] for index in indices]
                parts.append(self._part(spans, tokens, cache))
                order += [index for index in indices for _ in range(wanted(batch.spans[index]))]
            if order == sorted(order) and len(parts) == 1:
                return parts[0]
            return torch.cat(parts)[torch.tensor(order).argsort(stable=True).to(self.device)]

    def _part(self, spans: Sequence[Span], tokens: list[int], cache: DeviceCache) -> torch.Tensor:
        """Return the logits of spans that go together, as `grouped` says."""
        if spans[0].count == 1:
            return self._decode([next_of(span, tokens) for span in spans], cache)
        hidden = self._prefill(spans, tokens, cache)
        return self._layers.logits(hidden[ends_of(spans, self.device)])

    @torch.inference_mode()
    def draw(
        self,
        logits: Sequence[torch.Tensor],
        rows: Sequence[Row],
        ends: Sequence[tuple[int, Sequence[int]]],
        cache: DeviceCache,
    ) -> list[Drawn | None]:
        """Draw a token from each vector of `logits` and launch the step that follows.

        `ends` tells for each row where its token will stand, and the pages of its
        sequence; without them nothing is launched, nor where a sequence chooses
        pages. None stands for a row whose logits are no distribution.
        """
        with self._lock:
            pending = drawing.launch(self._operations.sample, torch.stack(list(logits)), rows)
            may_follow = bool(ends) and not self._is_choosing
            may_follow = may_follow and all(
                position // PAGE < len(pages) for position, pages in ends
            )
            if may_follow and all(drawing.is_plain(row) for row in rows):
                following = [Next(0, position, pages) for position, pages in ends]
                launched = self._launch(following, cache, pending.tokens)
                drawn = pending.read()
                self._ahead.keep(following, drawn, launched)
                return drawn
            return pending.read()

    @torch.inference_mode()
    def score(self, token_ids: npt.NDArray[np.int64]) -> torch.Tensor:
        """Run one text in a cache of its own, freed at once.

        `token_ids` is [tokens]; returns [tokens, vocabulary] float32 on
        the CPU, row i the logits after token i.
        """
        from services.inference.kernels import Span  # noqa: PLC0415  # it imports us

        count = len(token_ids)
        table = tuple(range(-(-count // PAGE)))
        cache = self.new_cache(max(len(table), 1))
        logits = torch.empty(count, self.config.vocabulary_size)
        tokens = token_ids.tolist()
        for start in range(0, count, _SCORE_CHUNK):
            stop = min(start + _SCORE_CHUNK, count)
            with self._lock:
                span = Span(0, stop - start, stop, table)
                hidden = self._prefill([span], tokens[start:stop], cache)
                logits[start:stop] = self._layers.logits(hidden)
        return logits

    def _decode(self, rows: list[Next], cache: DeviceCache) -> torch.Tensor:
        """Return the logits of rows that decode: [rows, vocabulary], of the caller's own."""
        found = self._ahead.take(rows)
        # What is launched ahead reads everything.
        if found is not None and not any(row.reading.candidates for row in rows):
            return found
        return self._launch(rows, cache)

    def _launch(
        self, rows: list[Next], cache: DeviceCache, drawn: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Launch one step; `drawn` are its tokens where the host does not know them."""
        pages = max(row.position // PAGE + 1 for row in rows)
        shape = shape_of(len(rows), pages, *listed_of(rows))
        if shape not in self._inputs:
            self._inputs[shape] = Inputs(shape, self.device)
            sizes = (self._layers.heads, self._layers.kv_heads, self.config.head_size, shape.width)
            self._memory[shape] = DecodeMemory(shape.batch, *sizes, self.device)
        inputs, memory = self._inputs[shape], self._memory[shape]
        inputs.fill(rows)
        if drawn is not None:
            inputs.tokens[: len(rows)].copy_(drawn)
        operations = self._operations

        def attend(queries: torch.Tensor, layer: LayerCache) -> torch.Tensor:
            pages = None
            if shape.listed:
                pages = selected(operations, queries, layer, inputs.places, inputs.choice)
            attended: torch.Tensor = operations.attend(queries, layer, inputs.places, pages, memory)
            return attended

        def body() -> torch.Tensor:
            hidden = self._layers.hidden(inputs.tokens, inputs.places, cache, attend)
            # One launch for all layers: no query chooses among pages as young as these.
            operations.summarise(cache.all_layers, inputs.places)
            return self._layers.logits(hidden)

        # The next launch writes over what this one returns.
        return self._graphs.run((shape, id(cache)), body)[: len(rows)].clone()

    def _prefill(
        self, spans: Sequence[Span], tokens: list[int], cache: DeviceCache
    ) -> torch.Tensor:
        """Return [rows of all spans, hidden] after the last layer."""
        prompt = prompt_of(spans, tokens, self.device)
        operations = self._operations

        if chooses(spans[0]):
            return self._choosing_prefill(spans, prompt, cache)

        def attend(queries: torch.Tensor, layer: LayerCache) -> torch.Tensor:
            attended: torch.Tensor = operations.attend_tiles(
                queries, layer, prompt.places, prompt.tiles
            )
            return attended

        hidden = self._layers.hidden(prompt.tokens, prompt.places, cache, attend)
        operations.summarise(cache.all_layers, prompt.places)
        return hidden

    def _choosing_prefill(
        self, spans: Sequence[Span], prompt: Prompt, cache: DeviceCache
    ) -> torch.Tensor:
        """Return `_prefill` of spans that choose: each row its own pages, as it decodes."""
        operations, choice = self._operations, choice_of(spans, self.device)

        def attend(queries: torch.Tensor, layer: LayerCache) -> torch.Tensor:
            # Here, as later rows may choose pages that earlier ones have just filled.
            operations.summarise(layer.alone, prompt.places)
            pages = selected(operations, queries, layer, prompt.places, choice)
            attended: torch.Tensor = operations.attend(queries, layer, prompt.places, pages)
            return attended

        return self._layers.hidden(prompt.tokens, prompt.places, cache, attend)
