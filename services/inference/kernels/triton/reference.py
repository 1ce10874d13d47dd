"""What the Triton kernels mean, in plain torch.

Same names and arguments as the fast paths. Everything is computed in float32
from the very numbers that a kernel reads; only what it stores is rounded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it

from services.inference.kernels.triton.cache import INT8_HIGHEST, PAGE, LayerCache
from services.inference.kernels.triton.matrix import FP8_HIGHEST, Matrix, dequantise
from services.inference.kernels.triton.parts import DecodeMemory
from services.inference.kernels.triton.places import Heads, Places, Tiles

name = "reference"


def linear(
    hidden: torch.Tensor,
    matrix: Matrix,
    *,
    norm: torch.Tensor | None = None,
    epsilon: float = 0.0,
    bias: torch.Tensor | None = None,
    residual: torch.Tensor | None = None,
    is_gated: bool = False,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Return `norm(hidden) @ matrix.T + bias + residual`: [rows, outputs] of `dtype`.

    `norm` is the weight of an RMS norm over each row. Gated, the matrix is
    [gate | up] and the result `silu(gate) * up`, half as wide.
    """
    product = rms_norm(hidden, norm, epsilon) @ dequantise(matrix).T
    if bias is not None:
        product = product + bias
    if is_gated:
        gate, up = product.chunk(2, dim=-1)
        product = F.silu(gate) * up
    if residual is not None:
        product = product + residual.float()
    return product.to(dtype)


def rms_norm(hidden: torch.Tensor, norm: torch.Tensor | None, epsilon: float) -> torch.Tensor:
    """Return the RMS norm of each row in float32; the rows themselves without `norm`."""
    rows = hidden.float()
    return rows if norm is None else F.rms_norm(rows, (rows.shape[-1],), norm, epsilon)


def normed_codes(
    hidden: torch.Tensor,
    dtype: torch.dtype,
    norm: torch.Tensor | None = None,
    epsilon: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalise and quantise each row: codes of `dtype` and [rows] float32 scales.

    `dtype` is int8 (rounded half to even) or float8_e4m3fn.
    """
    rows = rms_norm(hidden, norm, epsilon)
    highest = INT8_HIGHEST if dtype == torch.int8 else FP8_HIGHEST
    scales = (rows.abs().amax(-1) / highest).clamp(min=1e-12)
    codes = (rows / scales[:, None]).clamp(-highest, highest)
    return (codes.round() if dtype == torch.int8 else codes).to(dtype), scales


def scaled_linear(
    codes: torch.Tensor, scales: torch.Tensor, matrix: Matrix, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Return the product of quantised rows with an int8 or FP8 matrix scaled by rows."""
    assert matrix.scales is not None
    product = codes.float() @ matrix.codes.float().T
    return (product * scales[:, None] * matrix.scales.float().view(1, -1)).to(dtype)


def rotate_and_store(
    joined: torch.Tensor, cache: LayerCache, places: Places, heads: Heads
) -> torch.Tensor:
    """Rotate queries and keys, write keys and values to the cache.

    `joined` is [rows, queries | keys | values]; returns the queries, [rows,
    heads, head_size] of its dtype.
    """
    vectors = joined.float().view(joined.shape[0], -1, heads.head_size)
    counts = (heads.heads, heads.kv_heads, heads.kv_heads)
    queries, keys, values = vectors.split_with_sizes(counts, 1)
    queries = _rotated(rms_norm(queries, heads.query_norm, heads.epsilon), places, heads)
    keys = _rotated(rms_norm(keys, heads.key_norm, heads.epsilon), places, heads)
    real = (places.sequences >= 0).nonzero().flatten()
    positions, sequences = places.positions[real].long(), places.sequences[real].long()
    pages = places.tables[sequences, positions // PAGE].long()
    _store(cache.keys, cache.key_scales, pages, positions % PAGE, keys[real])
    _store(cache.values, cache.value_scales, pages, positions % PAGE, values[real])
    return queries.to(joined.dtype)


def attend(
    queries: torch.Tensor,
    cache: LayerCache,
    places: Places,
    selected: torch.Tensor | None = None,
    memory: DecodeMemory | None = None,  # noqa: ARG001  # there are no parts to merge
) -> torch.Tensor:
    """Attend for rows that are each the last token of a sequence: [rows, heads * head_size].

    `selected` ([rows, kv_heads, n] int32) lists the pages to read by their
    place in the sequence, -1 being none; all without it.
    """
    output = torch.zeros(queries.shape[0], queries.shape[1] * queries.shape[2]).to(queries.device)
    for row in (places.sequences >= 0).nonzero().flatten().tolist():
        chosen = None if selected is None else selected[row]
        output[row] = _attended(queries, cache, places, row, chosen)
    return output.to(queries.dtype)


def attend_tiles(
    queries: torch.Tensor,
    cache: LayerCache,
    places: Places,
    tiles: Tiles,
    selected: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attend causally for every row of `tiles`; other rows are left zero.

    `selected` ([tiles, kv_heads, n] int32) lists blocks of four pages.
    """
    output = torch.zeros(queries.shape[0], queries.shape[1] * queries.shape[2]).to(queries.device)
    for tile, (first, count) in enumerate(
        zip(tiles.rows.tolist(), tiles.counts.tolist(), strict=True)
    ):
        pages = None
        if selected is not None:
            blocks = selected[tile]
            four = blocks[..., None] * 4 + torch.arange(4, device=blocks.device)
            pages = torch.where(blocks[..., None] >= 0, four, -1).flatten(1)
        for row in range(first, first + count):
            output[row] = _attended(queries, cache, places, row, pages)
    return output.to(queries.dtype)


def summarise(cache: LayerCache, places: Places) -> None:
    """Keep the mean keys of the pages that rows fill, of all layers (`DeviceCache.all_layers`).

    A row whose position is the last of its page has written it, or another row of the
    step has. Of both halves of the page the means are codes of one scale.
    """
    is_last = (places.sequences >= 0) & (places.positions % PAGE == PAGE - 1)
    rows = is_last.nonzero().flatten()
    tables = places.tables[places.sequences[rows].long()].long()
    pages = tables.gather(1, (places.positions[rows] // PAGE).long()[:, None]).flatten()
    scales = cache.key_scales[:, pages] if cache.is_int8 else cache.key_scales
    keys = _numbers(cache.keys[:, pages], scales)
    means = keys.unflatten(3, (2, PAGE // 2)).mean(4).transpose(2, 3)
    largest = means.abs().amax((2, 4))
    inverse = torch.where(largest > 0, INT8_HIGHEST / largest, 0.0)
    cache.means[:, pages] = (means * inverse[:, :, None, :, None]).round().to(torch.int8)
    cache.mean_scales[:, pages] = largest / INT8_HIGHEST


def mean_scores(
    queries: torch.Tensor, cache: LayerCache, places: Places, candidates: torch.Tensor
) -> torch.Tensor:
    """Return the scores of the means of half pages, queries and means as codes.

    `queries` is [rows, heads, head_size]; the result is [rows, kv_heads, group, 2 * pages]
    float32, -inf for page 0 and from page `candidates` ([rows]) of a row on.
    """
    kv_heads, size = cache.keys.shape[1], cache.keys.shape[3]
    grouped = queries.float().view(len(queries), kv_heads, -1, size) * size**-0.5
    largest = grouped.abs().amax(-1)
    inverse = torch.where(largest > 0, INT8_HIGHEST / largest, 0.0)
    codes = (grouped * inverse[..., None]).round()
    table = places.tables[places.sequences.long()].long()
    products = torch.einsum("rhgc,rpthc->rhgpt", codes, cache.means[table].float())
    worth = cache.mean_scales[table].transpose(1, 2)[:, :, None, :, None]
    scores = products * (largest / INT8_HIGHEST)[..., None, None] * worth
    page = torch.arange(table.shape[1], device=queries.device)
    beyond = (page == 0) | (page >= candidates[:, None])
    hidden: torch.Tensor = scores.masked_fill(beyond[:, None, None, :, None], float("-inf"))
    return hidden.flatten(-2)


def page_bounds(cache: LayerCache) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the least and greatest of each channel over a page's keys.

    Both are [pages, kv_heads, head_size] float32; only full pages have
    bounds that mean something.
    """
    keys = _numbers(cache.keys, cache.key_scales)
    return keys.amin(2), keys.amax(2)


def page_scores(
    queries: torch.Tensor,
    lower: torch.Tensor,
    upper: torch.Tensor,
    tables: torch.Tensor,
    counts: torch.Tensor,
) -> torch.Tensor:
    """Return an upper bound of any key's score in each page, as Quest does.

    `queries` is [rows, heads, head_size] and `counts` [rows] how many pages of
    `tables` [rows, pages] to score; the result is [rows, kv_heads, pages]
    float32, the highest of the query heads that share a key-value head, -inf
    beyond the count. Tang et al., 2024, https://arxiv.org/abs/2406.10774.
    """
    kv_heads = lower.shape[1]
    grouped = queries.float().view(queries.shape[0], kv_heads, -1, queries.shape[2])
    table = tables.long().clamp(min=0)
    low, high = lower[table].transpose(1, 2), upper[table].transpose(1, 2)
    query = grouped[:, :, :, None]
    bounds = torch.maximum(query * low[:, :, None], query * high[:, :, None]).sum(-1).amax(2)
    beyond = torch.arange(tables.shape[1], device=tables.device) >= counts[:, None]
    return bounds.masked_fill(beyond[:, None], float("-inf"))


def chosen(scores: torch.Tensor, counts: torch.Tensor, budget: int, recent: int) -> torch.Tensor:
    """Return the best `budget` pages of each row and head, first and `recent` last always.

    [rows, kv_heads, budget] int32, ascending, -1 where a row has fewer. Of equal
    scores the earlier page wins.
    """
    pages = torch.arange(scores.shape[-1], device=scores.device)
    is_kept = (pages == 0) | (pages >= counts[:, None] - recent)
    is_there = pages < counts[:, None]
    forced = scores.masked_fill((is_kept & is_there)[:, None], float("inf"))
    best, order = forced.sort(dim=-1, descending=True, stable=True)
    taken = torch.where(best > float("-inf"), order, scores.shape[-1])[..., :budget]
    ascending = taken.sort(dim=-1).values
    return torch.where(ascending < scores.shape[-1], ascending, -1).int()


def _rotated(vectors: torch.Tensor, places: Places, heads: Heads) -> torch.Tensor:
    angles = places.positions[:, None].float() * heads.inverse_frequencies
    cosine, sine = angles.cos()[:, None], angles.sin()[:, None]
    first, second = vectors.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def _store(
    target: torch.Tensor,
    scales: torch.Tensor,
    pages: torch.Tensor,
    offsets: torch.Tensor,
    vectors: torch.Tensor,
) -> None:
    if target.dtype != torch.int8:
        target[pages, :, offsets] = vectors.to(target.dtype)
        return
    scale = (vectors.abs().amax(-1) / INT8_HIGHEST).clamp(min=1e-12)
    target[pages, :, offsets] = (vectors / scale[..., None]).round().to(torch.int8)
    scales[pages, :, offsets] = scale


def _numbers(codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    return codes.float() * scales[..., None] if codes.dtype == torch.int8 else codes.float()


def _attended(
    queries: torch.Tensor,
    cache: LayerCache,
    places: Places,
    row: int,
    selected: torch.Tensor | None,
) -> torch.Tensor:
    """Attend for one row over the pages `selected` ([kv_heads, n]), or all."""
    length = int(places.positions[row]) + 1
    table = places.tables[int(places.sequences[row])].long()
    pages = table[: -(-length // PAGE)]
    kv_heads, head_size = cache.keys.shape[1], cache.keys.shape[3]
    keys = _numbers(cache.keys[pages], cache.key_scales[pages] if cache.is_int8 else pages)
    values = _numbers(cache.values[pages], cache.value_scales[pages] if cache.is_int8 else pages)
    keys, values = (part.transpose(0, 1).flatten(1, 2) for part in (keys, values))
    grouped = queries[row].float().view(kv_heads, -1, head_size)
    scores = grouped @ keys.transpose(1, 2) * head_size**-0.5
    token = torch.arange(keys.shape[1], device=keys.device)
    hidden = (token >= length).expand(kv_heads, -1)
    if selected is not None:
        hidden = hidden | ~(token[None, None] // PAGE == selected[..., None]).any(1)
    weights = scores.masked_fill(hidden[:, None], float("-inf")).softmax(-1)
    attended: torch.Tensor = weights @ values
    return attended.flatten()
