"""Rows 6 and 7: attention over chosen pages against dense attention, in 8B heads."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it

from benchmarks.gpu.rows import Figures, free, operations
from benchmarks.gpu.timing import bandwidth, compared, spread
from benchmarks.gpu.worlds import LARGE
from services.inference.kernels.triton.cache import PAGE, DeviceCache
from services.inference.kernels.triton.parts import DecodeMemory
from services.inference.kernels.triton.places import QUERIES, Places, Tiles

_BLOCK = 4 * PAGE
"""Tokens of a block that prefill chooses."""
_BUDGET = 0.12
_RECENT_PAGES = 8
_DECODED = 32_768
"""Tokens behind which row 6 decodes."""
_PROMPTS = ((10_240, 1.2), (32_768, 2.0))
"""Lengths of row 7, and how many times as fast as SDPA they should be."""


def _cache(pages: int) -> DeviceCache:
    cache = DeviceCache(1, pages, LARGE.kv_heads, LARGE.head_size, torch.bfloat16, "cuda")
    layer = cache.layers[0]
    layer.keys.normal_()
    layer.values.normal_()
    return cache


def decode(figures: Figures) -> None:
    """Row 6: 16 streams behind 32K tokens, an eighth of the pages."""
    streams, context = 16, _DECODED
    fast, pages = operations(), context // PAGE
    layer = _cache(streams * pages).layers[0]
    order = torch.randperm(streams * pages, device="cuda", dtype=torch.int32)
    rows = torch.arange(streams, device="cuda", dtype=torch.int32)
    places = Places(torch.full_like(rows, context - 1), rows, order.view(streams, pages))
    queries = torch.randn(streams, LARGE.heads, LARGE.head_size, device="cuda")
    queries = queries.bfloat16()
    counts, budget = torch.full_like(rows, pages), int(pages * _BUDGET)
    lower, upper = fast.page_bounds(layer)

    def choose() -> torch.Tensor:
        scores = fast.page_scores(queries, lower, upper, places.tables, counts)
        chosen: torch.Tensor = fast.chosen(scores, counts, budget, _RECENT_PAGES)
        return chosen

    selected = choose()
    sizes = (streams, LARGE.heads, LARGE.kv_heads, LARGE.head_size)
    memories = [DecodeMemory(*sizes, width, queries.device) for width in (budget, pages)]
    dense = torch.randn(2, streams, LARGE.kv_heads, context, LARGE.head_size, device="cuda")
    keys, values = dense.bfloat16()
    del dense
    query = queries[:, :, None]
    contenders = {
        "sparse": lambda: fast.attend(queries, layer, places, selected, memories[0]),
        "choice": choose,
        "own dense": lambda: fast.attend(queries, layer, places, None, memories[1]),
        "SDPA dense": lambda: F.scaled_dot_product_attention(query, keys, values, enable_gqa=True),
    }
    found = {name: spread(samples) for name, samples in compared(contenders, 20).items()}
    figures.values["ms"] = found
    byte_count = 2 * streams * LARGE.kv_heads * budget * PAGE * LARGE.head_size * 2
    ideal = byte_count / bandwidth() * 1000
    own = found["sparse"]["median"]
    figures.values["share of the byte-ideal"] = ideal / own
    fastest = min(found["own dense"]["median"], found["SDPA dense"]["median"])
    figures.bar(">= 5x the faster dense", reached=fastest >= 5 * own)
    figures.bar(">= 70 % of the byte-ideal", reached=ideal >= 0.7 * own)


def prefill(figures: Figures) -> None:
    """Row 7: a prompt of 10K and of 32K tokens, a quarter of the blocks, choice included."""
    for context, bar in _PROMPTS:
        found = _prefill(context)
        figures.values[f"{context} tokens, ms"] = found
        reached = found["SDPA"]["median"] >= bar * found["sparse, choice included"]["median"]
        figures.bar(f"{context} tokens: >= {bar}x SDPA", reached=reached)
        free()


def _prefill(context: int) -> dict[str, dict[str, float]]:
    fast, pages = operations(), context // PAGE
    layer = _cache(pages).layers[0]
    positions = torch.arange(context, device="cuda", dtype=torch.int32)
    table = torch.randperm(pages, device="cuda", dtype=torch.int32)[None]
    places = Places(positions, torch.zeros_like(positions), table)
    starts = torch.arange(0, context, QUERIES, device="cuda", dtype=torch.int32)
    tiles = Tiles(starts, torch.full_like(starts, QUERIES))
    queries = torch.randn(context, LARGE.heads, LARGE.head_size, device="cuda").bfloat16()
    blocks = context // _BLOCK
    counts = starts // _BLOCK + 1
    budget = max(blocks // 4, 16)

    def choose() -> torch.Tensor:
        # A tile's mean query stands for it, a block's bounds are those of its pages.
        lower, upper = fast.page_bounds(layer)
        ordered = table[0].long()
        low = lower[ordered].view(blocks, 4, LARGE.kv_heads, -1).amin(1)
        high = upper[ordered].view(blocks, 4, LARGE.kv_heads, -1).amax(1)
        means = queries.view(len(starts), QUERIES, LARGE.heads, -1).float().mean(1)
        lists = torch.arange(blocks, device="cuda", dtype=torch.int32).expand(len(starts), -1)
        scores = fast.page_scores(means, low, high, lists.contiguous(), counts)
        chosen: torch.Tensor = fast.chosen(scores, counts, budget, 2)
        return chosen

    heads = queries.transpose(0, 1)[None]
    shape = (2, 1, LARGE.kv_heads, context, LARGE.head_size)
    keys, values = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
    contenders = {
        "sparse, choice included": lambda: fast.attend_tiles(
            queries, layer, places, tiles, choose()
        ),
        "own dense": lambda: fast.attend_tiles(queries, layer, places, tiles),
        "SDPA": lambda: F.scaled_dot_product_attention(
            heads, keys, values, is_causal=True, enable_gqa=True
        ),
    }
    return {name: spread(samples) for name, samples in compared(contenders, 3).items()}
