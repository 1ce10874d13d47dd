"""A Llama-family network: tokens in, logits out.

It knows tokens, positions and pages, and nothing of text, requests or
sampling. Everything is float32 and runs in inference mode. The weights are
read only; the cache belongs to the caller.

    embed -> [ norm -> QKV -> rotate -> attend -> project -> add
               norm -> gate and up -> silu(gate) * up -> down -> add ] x layers -> norm -> head
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it

from services.inference.config import KernelsConfig
from services.inference.kernels import LIGHT, PAGE_SIZE, Span, Sparsity, StepBatch
from services.inference.kernels.operations import Kernels, PagedCache, select
from services.inference.models.config import ModelConfig
from services.inference.models.weights import Layer, Weights
from thermesh.settings import from_env

_SCORE_CHUNK = 256
"""Tokens that `score` runs at once; bounds the attention mask at 256 rows."""


class Network:
    """The network of one model on one implementation of the kernels.

    `kv_cache` is a kind of `PagedCache`; empty: the environment's.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: Weights,
        kernels: Kernels | None = None,
        kv_cache: str = "",
    ) -> None:
        self.config = config
        self._kv_cache = kv_cache or from_env(KernelsConfig).kv_cache
        self._weights = weights
        self._kernels = kernels or select()

    @property
    def kernels_name(self) -> str:
        """Name of the kernels in use, e.g. `reference`."""
        return self._kernels.name

    light_network: Network | None = None
    """The model's light path, on the same cache."""

    @property
    def light(self) -> Sparsity | None:
        """What a sequence on the light path reads; None where contexts are too short for it."""
        return LIGHT if self.config.context_length > LIGHT.dense_below else None

    def use_threads(self, count: int) -> None:
        """Compute with `count` cores when called from this thread."""
        torch.set_num_threads(count)

    def fitting_pages(self, step_tokens: int) -> int:  # noqa: ARG002  # a GPU's concern
        """Return how many pages a cache should have: memory is taken as they are used."""
        return 1024

    def new_cache(self, pages: int) -> PagedCache:
        """Return an empty cache of `pages` pages; memory is taken as pages are written."""
        config = self.config
        return PagedCache(config.layers, pages, config.kv_heads, config.head_size, self._kv_cache)

    @torch.inference_mode()
    def step(self, batch: StepBatch, cache: PagedCache) -> torch.Tensor:
        """Run the new tokens of several sequences and extend the cache by them.

        Returns [rows, vocabulary] float32: the logits after the last `logits`
        new tokens of each span, in the order of the spans.
        """
        rows = torch.tensor([row for span in batch.spans for row in span.output_rows])
        return self._logits(self._hidden(batch, cache).index_select(0, rows))

    @torch.inference_mode()
    def score(self, token_ids: npt.NDArray[np.int64]) -> torch.Tensor:
        """Run one text in a cache of its own, freed at once.

        `token_ids` is [tokens]; returns [tokens, vocabulary] float32, row
        i the logits after token i. The result alone takes 4 * vocabulary bytes
        a token (200 kB at a vocabulary of 49,152): bound the text.
        """
        tokens = len(token_ids)
        pages = -(-tokens // PAGE_SIZE)
        cache = self.new_cache(pages)
        logits = torch.empty(tokens, self.config.vocabulary_size)
        for start in range(0, tokens, _SCORE_CHUNK):
            stop = min(start + _SCORE_CHUNK, tokens)
            span = Span(0, stop - start, stop, tuple(range(pages)))
            batch = StepBatch(token_ids[start:stop], np.arange(start, stop), (span,))
            logits[start:stop] = self._logits(self._hidden(batch, cache))
        return logits

    def _hidden(self, batch: StepBatch, cache: PagedCache) -> torch.Tensor:
        weights, config = self._weights, self.config
        shared = self._kernels.begin(batch, cache, weights.inverse_frequencies, config.heads)
        hidden = F.embedding(torch.as_tensor(batch.token_ids), weights.embedding)
        for index, layer in enumerate(weights.layers):
            hidden = hidden.add(self._attention(hidden, layer, index, cache, shared))
            hidden = hidden.add_(self._feed_forward(hidden, layer))
        return hidden

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        normed = self._kernels.rms_norm(hidden, self._weights.norm, self.config.rms_epsilon)
        return self._kernels.linear(normed, self._weights.head, None)

    def _attention(
        self, hidden: torch.Tensor, layer: Layer, index: int, cache: PagedCache, shared: Any
    ) -> torch.Tensor:
        kernels, config = self._kernels, self.config
        normed = kernels.rms_norm(hidden, layer.attention_norm, config.rms_epsilon)
        joined = kernels.linear(normed, layer.query_key_value, layer.query_key_value_bias)
        joined = joined.view(hidden.shape[0], -1, config.head_size)
        rotating = config.heads + config.kv_heads
        queries_keys = self._normed_heads(joined[:, :rotating], layer)
        queries_keys = kernels.rotary(queries_keys, shared)
        queries, keys = queries_keys.split_with_sizes((config.heads, config.kv_heads), 1)
        attended = kernels.paged_attention(
            queries, keys, joined[:, rotating:], cache, index, step=shared
        )
        return kernels.linear(attended, layer.attention_output, layer.attention_output_bias)

    def _normed_heads(self, queries_keys: torch.Tensor, layer: Layer) -> torch.Tensor:
        """Normalise each head alone, where the model does (Qwen3)."""
        if layer.query_norm is None or layer.key_norm is None:
            return queries_keys
        heads, epsilon = self.config.heads, self.config.rms_epsilon
        queries = self._kernels.rms_norm(queries_keys[:, :heads], layer.query_norm, epsilon)
        keys = self._kernels.rms_norm(queries_keys[:, heads:], layer.key_norm, epsilon)
        return torch.cat((queries, keys), dim=1)

    def _feed_forward(self, hidden: torch.Tensor, layer: Layer) -> torch.Tensor:
        kernels = self._kernels
        normed = kernels.rms_norm(hidden, layer.feed_forward_norm, self.config.rms_epsilon)
        gate_up = kernels.linear(normed, layer.gate_up, None)
        return kernels.linear(kernels.silu_mul(gate_up), layer.down, None)
