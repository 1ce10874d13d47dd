"""The operations in plain torch: their meaning, and the oracle of every other path.

Attention groups the sequences of a step: those that decode (one new token
each) run together, padded to the longest of their group, and each one that
prefills, or chooses what it reads (`sparsity`), runs alone. Padding reads page
0 and weighs 0. What depends on the step alone (rotary table, slots, page lists,
masks) is made once in `begin`, so that a layer is a handful of torch calls whatever the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it

from services.inference.kernels.page_choice import pages_read

if TYPE_CHECKING:
    from services.inference.kernels import Span, StepBatch
    from services.inference.kernels.operations import PagedCache

name = "reference"

_PAGE_SIZE = 16


@dataclass(frozen=True)
class Group:
    """Sequences with equally many new tokens that attend in one call."""

    rows: torch.Tensor | slice
    """Rows of the step, sequence by sequence: [sequences * count]."""
    sequences: int
    count: int
    pages: torch.Tensor
    """[sequences * pages of each] int64: pages to read, padded with page 0."""
    context_length: int
    """Tokens to read of each sequence: the longest of the group."""
    mask: torch.Tensor | None
    """Added to the scores, 0 or -inf: [sequences, 1, 1 or count * query heads per
    key-value head, context_length]; None where every token may be read."""
    choosing: Span | None = None
    """The only sequence of the group, where its queries choose what they read."""


@dataclass(frozen=True)
class Step:
    """What all layers of a step share."""

    cosine: torch.Tensor
    """[tokens, 1, head_size] float32."""
    sine: torch.Tensor
    """[tokens, 1, head_size] float32, negative in the first half."""
    slots: torch.Tensor
    """[tokens] int64: where each new token goes, `page * page_size + offset`."""
    groups: tuple[Group, ...]


def begin(
    batch: StepBatch, cache: PagedCache, inverse_frequencies: torch.Tensor, heads: int
) -> Step:
    """See `Kernels.begin`."""
    page_size, kv_heads = cache.keys.shape[2:4]
    positions = torch.as_tensor(batch.positions, dtype=torch.float32)
    angles = positions[:, None] * inverse_frequencies
    cosine, sine = angles.cos(), angles.sin()
    slots = [slot for span in batch.spans for slot in _slots(span, page_size)]
    return Step(
        cosine=torch.cat((cosine, cosine), dim=-1)[:, None],
        sine=torch.cat((-sine, sine), dim=-1)[:, None],
        slots=torch.tensor(slots),
        groups=_groups(batch, page_size, heads // kv_heads),
    )


def rms_norm(hidden: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """See `Kernels.rms_norm`."""
    return F.rms_norm(hidden, (hidden.shape[-1],), weight, epsilon)


def linear(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """See `Kernels.linear`."""
    if bias is None:
        return torch.mm(hidden, weight)
    return torch.addmm(bias, hidden, weight)


def rotary(vectors: torch.Tensor, step: Step) -> torch.Tensor:
    """See `Kernels.rotary`."""
    half = vectors.shape[-1] // 2
    return vectors * step.cosine + vectors.roll(half, dims=-1) * step.sine


def paged_attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    cache: PagedCache,
    layer: int,
    *,
    step: Step,
) -> torch.Tensor:
    """See `Kernels.paged_attention`."""
    if cache.key_scales is not None:
        queries, keys = hadamard(queries), hadamard(keys)
    if cache.kind == "int10":
        values = hadamard(values)
    _write(cache.keys, cache.key_scales, layer, step.slots, keys)
    _write(cache.values, cache.value_scales, layer, step.slots, values)
    output = _attend_all(queries, cache, layer, step)
    if cache.kind == "int10":
        return hadamard(output.view(queries.shape)).view(output.shape)
    return output


def silu_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """See `Kernels.silu_mul`."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)


def hadamard(vectors: torch.Tensor) -> torch.Tensor:
    """Return the Walsh-Hadamard transform of each part of [..., head_size].

    A part is of the greatest power of two that divides head_size. The transform is
    orthogonal, so scores stay what they are; what lies in few channels of a key is
    spread over all, so that fewer bits keep it as well (QuaRot, Ashkboos et al., 2024,
    https://arxiv.org/abs/2404.00456).
    """
    part = vectors.shape[-1] & -vectors.shape[-1]
    parts = vectors.reshape(*vectors.shape[:-1], -1, part)
    return torch.matmul(parts, _hadamard_matrix(part)).reshape(vectors.shape)


@functools.cache
def _hadamard_matrix(size: int) -> torch.Tensor:
    """Return Sylvester's matrix of a power of two, orthonormal."""
    matrix, pair = torch.ones(1, 1), torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    for _ in range(size.bit_length() - 1):
        matrix = torch.kron(matrix, pair)
    return matrix.mul_(size**-0.5)


def _attend_all(queries: torch.Tensor, cache: PagedCache, layer: int, step: Step) -> torch.Tensor:
    if len(step.groups) == 1:
        return _attend(queries, cache, layer, step.groups[0])
    output = queries.new_empty(queries.shape[0], queries.shape[1] * queries.shape[2])
    for group in step.groups:
        output[group.rows] = _attend(queries[group.rows], cache, layer, group)
    return output


def _attend(queries: torch.Tensor, cache: PagedCache, layer: int, group: Group) -> torch.Tensor:
    """Attend for one group: queries [rows, heads, head_size] -> [rows, heads * head_size].

    The query heads that share a key-value head become further query rows of
    it, so that keys and values are never repeated.
    """
    kv_heads, head_size = cache.keys.shape[3:]
    per_head = queries.shape[1] // kv_heads
    folded = queries.reshape(group.sequences, group.count, kv_heads, per_head, head_size)
    folded = folded.transpose(1, 2).reshape(group.sequences, kv_heads, -1, head_size)
    keys = _gather(cache.keys, cache.key_scales, layer, group)
    values = _gather(cache.values, cache.value_scales, layer, group)
    mask = _mask(queries, keys, layer, group)
    attended = F.scaled_dot_product_attention(folded, keys, values, attn_mask=mask)
    attended = attended.view(group.sequences, kv_heads, group.count, per_head, head_size)
    return attended.transpose(1, 2).reshape(queries.shape[0], -1)


def _mask(
    queries: torch.Tensor, keys: torch.Tensor, layer: int, group: Group
) -> torch.Tensor | None:
    """Return the group's mask, with what its queries chose not to read."""
    span = group.choosing
    if span is None or span.sparsity is None:
        return group.mask
    positions = range(span.context_length - span.count, span.context_length)
    read = pages_read(span.sparsity, queries, keys[0].transpose(0, 1), positions, layer)
    tokens = read.repeat_interleave(_PAGE_SIZE, dim=2)[:, :, : span.context_length]
    per_head = queries.shape[1] // keys.shape[1]
    unread = _additive(~tokens.transpose(0, 1).repeat_interleave(per_head, dim=1))[None]
    return unread if group.mask is None else group.mask + unread


_CODES = {torch.int8: (127, 1), torch.int16: (511, 4)}
"""The greatest code, and how many parts of what a scale tells it counts."""


def _write(
    pages: torch.Tensor,
    scales: torch.Tensor | None,
    layer: int,
    slots: torch.Tensor,
    vectors: torch.Tensor,
) -> None:
    """Write [tokens, kv_heads, head_size] to the slots of a layer."""
    if scales is not None:
        most, parts = _CODES[pages.dtype]
        kept = (vectors.abs().amax(-1) / (most / parts)).clamp_(max=65504).to(torch.float16)
        scales[layer].flatten(0, 1).index_copy_(0, slots, kept)
        worth = kept.to(torch.float32)
        inverse = torch.where(worth > 0, parts / worth, 0.0)
        vectors = (vectors * inverse[..., None]).round().clamp_(-most, most).to(pages.dtype)
    pages[layer].flatten(0, 1).index_copy_(0, slots, vectors)


def _gather(
    pages: torch.Tensor, scales: torch.Tensor | None, layer: int, group: Group
) -> torch.Tensor:
    """Read a group's pages: -> [sequences, kv_heads, context_length, head_size]."""
    kv_heads, head_size = pages.shape[3:]
    gathered = pages[layer].flatten(1).index_select(0, group.pages)
    gathered = gathered.view(group.sequences, -1, kv_heads, head_size)
    if scales is not None:
        _, parts = _CODES[pages.dtype]
        worth = scales[layer].flatten(1).index_select(0, group.pages).to(torch.float32) / parts
        gathered = gathered * worth.view(group.sequences, -1, kv_heads, 1)
    return gathered[:, : group.context_length].transpose(1, 2)


def _slots(span: Span, page_size: int) -> list[int]:
    return [
        span.page_table[index // page_size] * page_size + index % page_size
        for index in range(span.context_length - span.count, span.context_length)
    ]


def _groups(batch: StepBatch, page_size: int, queries_per_head: int) -> tuple[Group, ...]:
    decoding: dict[int, list[Span]] = {}
    groups: list[Group] = []
    for span in batch.spans:
        if span.count == 1 and span.sparsity is None:
            # Within a bucket, padding at most doubles what is read (from 256
            # tokens on; below, a call costs more than the padding).
            decoding.setdefault((span.context_length // 256).bit_length(), []).append(span)
        else:
            groups.append(_prefill_group(span, page_size, queries_per_head))
    groups.extend(_decode_group(spans, page_size) for spans in decoding.values())
    return tuple(groups)


def _prefill_group(span: Span, page_size: int, queries_per_head: int) -> Group:
    queries = torch.arange(span.context_length - span.count, span.context_length)
    hidden = torch.arange(span.context_length)[None, :] > queries[:, None]
    mask = _additive(hidden).repeat_interleave(queries_per_head, dim=0)
    return Group(
        rows=slice(span.start, span.start + span.count),
        sequences=1,
        count=span.count,
        pages=_pages([span], page_size),
        context_length=span.context_length,
        mask=mask[None, None],
        choosing=span if span.sparsity is not None else None,
    )


def _decode_group(spans: Sequence[Span], page_size: int) -> Group:
    lengths = torch.tensor([span.context_length for span in spans])
    longest = int(lengths.max())
    hidden = torch.arange(longest)[None, :] >= lengths[:, None]
    return Group(
        rows=torch.tensor([span.start for span in spans]),
        sequences=len(spans),
        count=1,
        pages=_pages(spans, page_size),
        context_length=longest,
        mask=_additive(hidden)[:, None, None] if bool(hidden.any()) else None,
    )


def _pages(spans: Sequence[Span], page_size: int) -> torch.Tensor:
    needed = [-(-span.context_length // page_size) for span in spans]
    longest = max(needed)
    tables = [
        [*span.page_table[:count], *[0] * (longest - count)]
        for span, count in zip(spans, needed, strict=True)
    ]
    return torch.tensor(tables).flatten()


def _additive(hidden: torch.Tensor) -> torch.Tensor:
    return torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))
