"""A network whose step is one call into the C++ library.

It has the interface of the network in torch. Weights are exactly the file's,
activations are quantised in blocks of 32, keys and values are kept as half
precision or in codes. The bits of a row depend on its own sequence
alone: not on the batch, the pages, the chunks of its prompt or the number of
threads.
"""

from __future__ import annotations

import array
import ctypes
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from services.inference.kernels.cpu import drawing, memory, native
from services.inference.kernels.cpu.cache import KINDS, CpuCache
from services.inference.kernels.cpu.forthcoming import PAGE_TOKENS
from services.inference.kernels.cpu.packing import Packed, Tensors, Unsuitable
from services.inference.kernels.sparsity import LIGHT, HeadWindows, Sparsity, routed
from thermesh.errors import Internal, InvalidArgument

if TYPE_CHECKING:
    from services.inference.kernels import StepBatch
    from services.inference.models.config import ModelConfig
    from services.inference.sampling.sampler import Drawn, Row

Floats = npt.NDArray[np.float32]

_SCORE_CHUNK = 128
"""Tokens that `score` runs at once."""


class Engine:
    """The library's threads and scratch memory; computes one step at a time."""

    def __init__(self, library: Any, tier: str = "") -> None:
        name = library.thermesh_tier(tier.encode())
        if name is None:
            raise Unsuitable(f"this processor has no tier {tier}")
        self.tier: str = name.decode()
        self.handle = library.thermesh_engine_new(tier.encode())
        if not self.handle:
            raise MemoryError
        # Not at exit: a thread may be in the middle of a step then.
        weakref.finalize(self, library.thermesh_engine_free, self.handle).atexit = False


class CpuNetwork:
    """A network on the C++ kernels. Raises `native.NotAvailable` and `Unsuitable`.

    A step uses one thread until `use_threads` says otherwise. `tier` names the
    instruction set, "" stands for the best there is; `precision` is one of
    `packing.PRECISIONS`, `kv_cache` one of `cache.KINDS`.
    """

    def __init__(
        self,
        config: ModelConfig,
        tensors: Tensors,
        tier: str = "",
        precision: str = "full",
        kv_cache: str = "f16",
    ) -> None:
        self._library = native.library()
        self._packed = Packed(self._library, config, tensors, precision)
        self._sizes = (config.layers, config.kv_heads, config.head_size)
        self._vocabulary_size = config.vocabulary_size
        self._engine = Engine(self._library, tier)
        # Scoring has threads and memory of its own: it never makes a step wait.
        self._scoring_engine = Engine(self._library, tier)
        self._kv_cache = kv_cache
        self._threads = 1
        self._drawing = self._drawing_parts()
        self._context_length = config.context_length
        self.head_windows: HeadWindows | None = None
        self.kernels_name = f"cpu-{self._engine.tier}"
        self.weight_bytes = self._packed.byte_count

    light_network: CpuNetwork | None = None
    """The model's light path, on the same cache."""

    @property
    def tells_prompts(self) -> bool:
        """Whether tokens of a prompt are computed otherwise than generated ones."""
        return bool(self._library.thermesh_tells_prompts(self._engine.tier.encode()))

    @property
    def light(self) -> Sparsity | None:
        """What a sequence on the light path reads; None where contexts are too short for it."""
        light = LIGHT if self.head_windows is None else routed(self.head_windows)
        return light if self._context_length > light.dense_below else None

    def use_threads(self, count: int) -> None:
        """Compute steps with `count` cores, those of the light path too."""
        self._threads = count
        self._drawing = self._drawing_parts()
        if self.light_network is not None:
            self.light_network.use_threads(count)

    def fitting_pages(self, step_tokens: int) -> int:  # noqa: ARG002  # a GPU's concern
        """Return how many pages a cache should have: memory is taken as they are used."""
        return 1024

    def new_cache(self, pages: int) -> CpuCache:
        """Return an empty cache of `pages` pages; memory is taken as pages are written."""
        layers, kv_heads, head_size = self._sizes
        return CpuCache(layers, pages, kv_heads, head_size, self._kv_cache)

    def step(self, batch: StepBatch, cache: CpuCache) -> Floats:
        """Run the new tokens of several sequences and extend the cache by them.

        Returns [rows, vocabulary] float32: the logits after the last `logits`
        new tokens of each span, in the order of the spans. Raises
        InvalidArgument for a batch that does not fit the cache, and changes
        nothing then.
        """
        rows: list[int] = []
        for span in batch.spans:
            if not 1 <= span.logits <= span.count:
                raise InvalidArgument("logits must be in [1, count] in every span", field="batch")
            rows += span.output_rows
        logits = memory.lines(len(rows), self._vocabulary_size)
        self._run(self._engine, batch, cache, rows, logits)
        cache.expect(batch.spans)
        return logits

    def sample(self, logits: Sequence[Floats], rows: Sequence[Row]) -> list[Drawn | None]:
        """Draw as `sampler.sample` does, from a [vocabulary] float32 vector for each row."""
        return drawing.draw(*self._drawing, logits, rows)

    def _drawing_parts(self) -> tuple[drawing.Part, drawing.Part]:
        library, size = self._library, self._vocabulary_size
        survey, finish = (
            drawing.part_of(function, self._engine.handle, size, self._threads)
            for function in (library.thermesh_survey, library.thermesh_draw)
        )
        return survey, finish

    def score(self, token_ids: npt.NDArray[np.int64]) -> Floats:
        """Run one text on one thread, in a cache of its own, freed at once.

        `token_ids` is [tokens] int64; returns [tokens, vocabulary] float32, row
        i the logits after token i. The result alone takes 4 * vocabulary bytes
        a token (200 kB at a vocabulary of 49,152): bound the text.
        """
        from services.inference.kernels import Span, StepBatch  # noqa: PLC0415  # it imports us

        tokens = len(token_ids)
        pages = tuple(range(-(-tokens // PAGE_TOKENS)))
        cache = self.new_cache(max(len(pages), 1))
        logits = np.empty((tokens, self._vocabulary_size), np.float32)
        for start in range(0, tokens, _SCORE_CHUNK):
            stop = min(start + _SCORE_CHUNK, tokens)
            span = Span(0, stop - start, stop, pages)
            batch = StepBatch(token_ids[start:stop], np.arange(start, stop), (span,))
            rows = range(stop - start)
            self._run(self._scoring_engine, batch, cache, rows, logits[start:stop])
        return logits

    def _run(
        self,
        engine: Engine,
        batch: StepBatch,
        cache: CpuCache,
        rows: Sequence[int],
        logits: Floats,
    ) -> None:
        """Run a step and write the logits after each of `rows`."""
        if not isinstance(cache, CpuCache) or cache.sizes != self._sizes:
            raise InvalidArgument("the cache is not of this network", field="cache")
        token_ids = _checked(batch.token_ids, "token_ids")
        positions = _checked(batch.positions, "positions")
        if len(token_ids) != len(positions):
            raise InvalidArgument("as many positions as token_ids are needed", field="positions")
        spans, pages, output_rows = _flattened(batch, rows)
        head_windows = _place_head_windows(batch, spans, self._sizes[0] * self._sizes[1])
        content, means, mean_scales = cache.addresses
        described = native.Batch(
            token_ids=token_ids.buffer_info()[0],
            positions=positions.buffer_info()[0],
            spans=spans.buffer_info()[0],
            pages=pages.buffer_info()[0],
            output_rows=output_rows.buffer_info()[0],
            head_windows=head_windows.buffer_info()[0],
            logits=logits.ctypes.data,
            cache=content,
            means=means,
            mean_scales=mean_scales,
            cache_kind=KINDS[cache.kind],
            tokens=len(token_ids),
            span_count=len(batch.spans),
            page_entries=len(pages),
            outputs=len(rows),
            cache_pages=cache.pages,
            threads=self._threads_of(engine),
            head_window_entries=len(head_windows),
        )
        self._call(engine, described)

    def _threads_of(self, engine: Engine) -> int:
        return 1 if engine is self._scoring_engine else self._threads

    def _call(self, engine: Engine, batch: native.Batch) -> None:
        network = ctypes.byref(self._packed.network)
        problem = self._library.thermesh_step(engine.handle, network, ctypes.byref(batch))
        if problem:
            if problem.startswith(b"not enough memory"):
                raise Internal(problem.decode())
            raise InvalidArgument(problem.decode(), field="batch")


def _checked(given: npt.ArrayLike, field: str) -> array.array[int]:
    """Return a vector of int64 as the library reads it."""
    vector = np.asarray(given)
    if vector.ndim != 1 or vector.dtype != np.int64:
        raise InvalidArgument(f"{field} must be a vector of int64 on the CPU", field=field)
    return array.array("q", vector.tobytes())


def _flattened(
    batch: StepBatch, rows: Sequence[int]
) -> tuple[array.array[int], array.array[int], array.array[int]]:
    """Return spans, page tables and output rows as arrays of int32."""
    spans, pages = array.array("i"), array.array("i")
    try:
        for span in batch.spans:
            table = span.page_table
            spans.extend((span.start, span.count, span.context_length, len(pages), len(table)))
            spans.extend((span.prompt_end, *_sparsity(span.sparsity)))
            pages.extend(table)
        return spans, pages, array.array("i", rows)
    except (OverflowError, TypeError) as error:
        message = "spans and pages must be integers of 32 bits"
        raise InvalidArgument(message, field="batch") from error


def _place_head_windows(batch: StepBatch, spans: array.array[int], heads: int) -> array.array[int]:
    """Return the windows of heads that the spans have, and tell `spans` where theirs are."""
    windows, places = array.array("i"), dict[HeadWindows, int]()
    if all(span.sparsity is None for span in batch.spans):
        return windows
    members = len(spans) // len(batch.spans)
    for index, span in enumerate(batch.spans):
        own = span.sparsity.head_windows if span.sparsity else None
        if own is None:
            continue
        if own not in places:
            places[own] = len(windows)
            windows.extend(window for layer in own for window in layer)
            if len(windows) - places[own] != heads:
                message = "head_windows must have one window for each key-value head"
                raise InvalidArgument(message, field="head_windows")
        spans[(index + 1) * members - 1] = places[own]
    return windows


_DENSE = (2**31 - 1, 0, 1, 0, 1 << 16, -1)


def _sparsity(sparsity: Sparsity | None) -> tuple[int, int, int, int, int, int]:
    """Return the last members of `ThermeshSpan`, without the place of head windows."""
    if sparsity is None:
        return _DENSE
    return (
        sparsity.sparse_from,
        sparsity.dense_layers,
        sparsity.budget_tokens,
        sparsity.share_in_65536ths,
        sparsity.window_tokens,
        -1,
    )
