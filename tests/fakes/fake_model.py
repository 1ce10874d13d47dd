"""A model for tests: tiny, deterministic, and it notices misused pages.

Its cache holds token ids instead of keys and values, and the logits are a hash
of everything a sequence's page table shows. A token whose query chose what it read
leaves something else there. A page of another content, a token
computed twice or a chunk out of place therefore changes the output. Writing to
a page that another sequence reads in the same step is an error. Token ids below
256 are bytes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import torch

from services.inference.kernels import PAGE_SIZE, Span, Sparsity, StepBatch

END_ID = 256
_ROLE_IDS = {"system": 257, "user": 258, "assistant": 259}
VOCABULARY_SIZE = 260
_MODULUS = 2**31 - 1
_LIGHT_MARK = 1 << 20


class FakeCache:
    """Token ids by page: [pages, PAGE_SIZE] int64, -1 where nothing was written."""

    def __init__(self, pages: int) -> None:
        self.token_ids = torch.full((pages, PAGE_SIZE), -1)

    def copy_page(self, source: int, target: int) -> None:
        """Copy the content of a page."""
        self.token_ids[target] = self.token_ids[source]


class FakeNetwork:
    """Logits drawn from a generator seeded by the context.

    `gate` pauses steps while it is cleared; a context that ends in
    `failing_id` makes the step fail; one that ends in `broken_id` gives NaN.
    With `repeats` what followed the last token before is likely to follow again.
    """

    def __init__(self, end_logit: float = -20.0) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.failing_id: int | None = None
        self.broken_id: int | None = None
        self.repeats = False
        self.steps = 0
        self.rows = 0
        self._end_logit = end_logit

    kernels_name = "fake"
    light_network: FakeLightNetwork | None = None
    light: Sparsity | None = Sparsity(dense_below=48)

    def use_threads(self, count: int) -> None:
        """Nothing to share among cores."""

    def fitting_pages(self, step_tokens: int) -> int:  # as networks on a CPU
        """Return how many pages there is room for."""
        return 1024

    def new_cache(self, pages: int) -> FakeCache:
        """Return an empty cache."""
        return FakeCache(pages)

    def step(self, batch: StepBatch, cache: FakeCache) -> torch.Tensor:
        """Write the new tokens, then return logits after the last `logits` of each span."""
        self.gate.wait()
        self.steps += 1
        self.rows += len(batch.token_ids)
        _refuse_shared_writes(batch)
        rows = []
        for span in batch.spans:
            new = slice(span.start, span.start + span.count)
            positions = torch.as_tensor(batch.positions[new])
            pages = torch.tensor(span.page_table)[positions // PAGE_SIZE]
            written = torch.as_tensor(batch.token_ids[new]) + _chosen(span, positions)
            cache.token_ids[pages, positions % PAGE_SIZE] = written
            content = cache.token_ids[list(span.page_table)].flatten().tolist()
            for row in span.output_rows:
                end = span.context_length - span.count + row - span.start + 1
                rows.append(self._logits(content[:end]))
        return torch.stack(rows)

    def score(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Return [tokens, vocabulary] logits after each token."""
        ids = token_ids.tolist()
        return torch.stack([self._logits(ids[: end + 1]) for end in range(len(ids))])

    def _logits(self, context: list[int]) -> torch.Tensor:
        assert -1 not in context, "a token was read before it was written"
        if context[-1] == self.failing_id:
            raise RuntimeError("the fake network was told to fail")
        if context[-1] == self.broken_id:
            return torch.full((VOCABULARY_SIZE,), float("nan"))
        seed = 17
        for token_id in context:
            seed = (seed * 1_000_003 + token_id + 1) % _MODULUS
        logits = 3 * torch.randn(VOCABULARY_SIZE, generator=torch.Generator().manual_seed(seed))
        earlier = [end for end in range(1, len(context)) if context[end - 1] == context[-1]]
        if self.repeats and earlier:
            logits[context[earlier[-1]]] += 9.0
        logits[list(_ROLE_IDS.values())] = -20.0
        logits[END_ID] = self._end_logit
        return logits


class FakeLightNetwork:
    """The light path of a fake network: mostly right, and what it writes differs.

    Whatever it wrote must be written again by the whole network before that reads it.
    """

    def __init__(self, whole: FakeNetwork, noise: float = 2.0) -> None:
        self._whole = whole
        self._noise = noise
        self.steps = 0

    def step(self, batch: StepBatch, cache: FakeCache) -> torch.Tensor:
        """See `FakeNetwork.step`."""
        self.steps += 1
        rows = []
        for span in batch.spans:
            new = slice(span.start, span.start + span.count)
            positions = torch.as_tensor(batch.positions[new])
            pages = torch.tensor(span.page_table)[positions // PAGE_SIZE]
            written = torch.as_tensor(batch.token_ids[new]) + _LIGHT_MARK
            cache.token_ids[pages, positions % PAGE_SIZE] = written
            content = cache.token_ids[list(span.page_table)].flatten() % _LIGHT_MARK
            for row in span.output_rows:
                end = span.context_length - span.count + row - span.start + 1
                rows.append(self._logits(content[:end].tolist()))
        return torch.stack(rows)

    def _logits(self, context: list[int]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(sum(context))
        noise = torch.randn(VOCABULARY_SIZE, generator=generator)
        return self._whole._logits(context) + self._noise * noise


def _chosen(span: Span, positions: torch.Tensor) -> torch.Tensor:
    """What a sparse query's token differs by from the same one's of another."""
    if span.sparsity is None:
        return torch.zeros_like(positions)
    return 1000 * (positions >= span.sparsity.sparse_from)


def _refuse_shared_writes(batch: StepBatch) -> None:
    tables = [span.page_table[: -(-span.context_length // PAGE_SIZE)] for span in batch.spans]
    for span, table in zip(batch.spans, tables, strict=True):
        written = table[(span.context_length - span.count) // PAGE_SIZE :]
        readers = [other for other in tables if set(other) & set(written)]
        assert len(readers) == 1, "a page is written that another sequence reads"


class FakeTokenizer:
    """Bytes and a few marks; a chat is `<role> content <end>` for each message."""

    end_ids = frozenset({END_ID})
    vocabulary_size = VOCABULARY_SIZE

    def encode(self, text: str) -> list[int]:
        """Return the bytes of `text`."""
        return list(text.encode())

    def encode_literal(self, text: str) -> list[int]:
        """Return the bytes of `text`."""
        return self.encode(text)

    def encode_chat(self, messages: list[tuple[str, str]]) -> list[int]:
        """Return the ids of a conversation, the assistant's turn opened."""
        token_ids = []
        for role, content in messages:
            token_ids += [_ROLE_IDS[role], *content.encode(), END_ID]
        return [*token_ids, _ROLE_IDS["assistant"]]

    def token_bytes(self, token_id: int) -> bytes:
        """Return the byte, or nothing for a mark."""
        return bytes([token_id]) if token_id < END_ID else b""


@dataclass(frozen=True)
class FakeConfig:
    """The sizes that the service reads."""

    context_length: int = 512
    vocabulary_size: int = VOCABULARY_SIZE
    architecture: str = "fake"


@dataclass(frozen=True)
class FakeModel:
    """What `models.load` returns, for tests."""

    name: str = "fake"
    config: FakeConfig = field(default_factory=FakeConfig)
    network: FakeNetwork = field(default_factory=FakeNetwork)
    tokenizer: FakeTokenizer = field(default_factory=FakeTokenizer)
    weight_format: str = "F32"
    parameter_count: int = 1
    created_unix_s: int = 0
