"""The C++ library as Python sees it: structures, functions, and whether it is there.

The structures mirror `csrc/network.h` field by field; the library tells their
sizes and the sources it was built from, so that a stale one is never called.
Calls go through `ctypes.CDLL`, which lets go of the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import functools
import pathlib
from dataclasses import dataclass
from typing import Any, ClassVar

TIERS = ("avx512-amx", "avx512-bf16", "avx512-vnni", "avx2", "generic")

_i32, _i64, _u64, _pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_uint64, ctypes.c_void_p
_f64 = ctypes.c_double


class Matrix(ctypes.Structure):
    """`ThermeshMatrix`."""

    _fields_: ClassVar[Any] = [
        ("tiles", _pointer),
        ("kind", _i32),
        ("rows", _i32),
        ("columns", _i32),
        ("reserved", _i32),
    ]


class Layer(ctypes.Structure):
    """`ThermeshLayer`."""

    _fields_: ClassVar[Any] = [
        ("attention_norm", _pointer),
        ("query", Matrix),
        ("key", Matrix),
        ("value", Matrix),
        ("query_key_value_bias", _pointer),
        ("query_norm", _pointer),
        ("key_norm", _pointer),
        ("attention_output", Matrix),
        ("attention_output_bias", _pointer),
        ("feed_forward_norm", _pointer),
        ("gate", Matrix),
        ("up", Matrix),
        ("down", Matrix),
    ]


class Network(ctypes.Structure):
    """`ThermeshNetwork`."""

    _fields_: ClassVar[Any] = [
        ("layers", _i32),
        ("hidden_size", _i32),
        ("heads", _i32),
        ("kv_heads", _i32),
        ("head_size", _i32),
        ("intermediate_size", _i32),
        ("vocabulary_size", _i32),
        ("rms_epsilon", ctypes.c_float),
        ("normed_outlier", ctypes.c_float),
        ("attended_outlier", ctypes.c_float),
        ("gated_outlier", ctypes.c_float),
        ("head_outlier", ctypes.c_float),
        ("inverse_frequencies", _pointer),
        ("embedding", Matrix),
        ("head", Matrix),
        ("norm", _pointer),
        ("layer", ctypes.POINTER(Layer)),
    ]


class Span(ctypes.Structure):
    """`ThermeshSpan`."""

    _fields_: ClassVar[Any] = [
        ("start", _i32),
        ("count", _i32),
        ("context_length", _i32),
        ("first_page", _i32),
        ("page_count", _i32),
        ("prompt_end", _i32),
        ("sparse_from", _i32),
        ("dense_layers", _i32),
        ("budget", _i32),
        ("share", _i32),
        ("window", _i32),
        ("head_windows", _i32),
    ]


class Batch(ctypes.Structure):
    """`ThermeshBatch`."""

    _fields_: ClassVar[Any] = [
        ("token_ids", _pointer),
        ("positions", _pointer),
        ("spans", _pointer),
        ("pages", _pointer),
        ("output_rows", _pointer),
        ("head_windows", _pointer),
        ("logits", _pointer),
        ("cache", _pointer),
        ("means", _pointer),
        ("mean_scales", _pointer),
        ("tokens", _i32),
        ("span_count", _i32),
        ("page_entries", _i32),
        ("outputs", _i32),
        ("cache_pages", _i32),
        ("threads", _i32),
        ("cache_kind", _i32),
        ("head_window_entries", _i32),
    ]


class Row(ctypes.Structure):
    """`ThermeshRow`."""

    _fields_: ClassVar[Any] = [
        ("logits", _pointer),
        ("seed", _u64),
        ("token_index", _u64),
        ("top_n_sigma", _f64),
        ("below", _f64),
        ("top_p", _f64),
        ("top_k", _i32),
        ("wants_spread", _i32),
        ("entropy", _f64),
        ("log_total", _f64),
        ("spread", _f64),
        ("highest", ctypes.c_float),
        ("floor", ctypes.c_float),
        ("ties", _i32),
        ("kept", _i32),
        ("temperature", ctypes.c_float),
        ("token", _i32),
        ("log_probability", _f64),
        ("model_log_probability", _f64),
    ]


_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "thermesh_sources": (ctypes.c_char_p, ()),
    "thermesh_layout": (None, (ctypes.POINTER(_i32),)),
    "thermesh_tier": (ctypes.c_char_p, (ctypes.c_char_p,)),
    "thermesh_tells_prompts": (_i32, (ctypes.c_char_p,)),
    "thermesh_engine_new": (_pointer, (ctypes.c_char_p,)),
    "thermesh_engine_free": (None, (_pointer,)),
    "thermesh_packed_bytes": (_u64, (_i32, _i64, _i64)),
    "thermesh_pack": (ctypes.c_char_p, (_i32, _pointer, _u64, _i64, _i64, _pointer, _u64)),
    "thermesh_take": (None, (_pointer, _u64)),
    "thermesh_check": (ctypes.c_char_p, (ctypes.POINTER(Network),)),
    "thermesh_step": (
        ctypes.c_char_p,
        (_pointer, ctypes.POINTER(Network), ctypes.POINTER(Batch)),
    ),
    "thermesh_survey": (ctypes.c_char_p, (_pointer, ctypes.POINTER(Row), _i32, _i32, _i32)),
    "thermesh_draw": (ctypes.c_char_p, (_pointer, ctypes.POINTER(Row), _i32, _i32, _i32)),
    "thermesh_linear": (
        ctypes.c_char_p,
        (_pointer, ctypes.POINTER(Matrix), _pointer, _i32, ctypes.c_float, _i32, _pointer),
    ),
    "thermesh_row": (ctypes.c_char_p, (ctypes.POINTER(Matrix), _i64, _pointer)),
}


@dataclass(frozen=True)
class Status:
    """Whether the C++ kernels can be used here."""

    available: bool
    tiers: tuple[str, ...]
    """The tiers of this processor, best first; empty where not available."""
    reason: str
    """Why not, and what to do about it; empty where available."""


class NotAvailable(Exception):
    """The library is not built, stale or not loadable; the message says which."""


@functools.cache
def library(path: pathlib.Path | None = None) -> Any:
    """Load the library once and return it; raise NotAvailable."""
    # Here and not above, so that `python -m` finds it not yet imported.
    from services.inference.kernels.cpu import build  # noqa: PLC0415

    path = path or build.LIBRARY
    rebuild = "run `python -m services.inference.kernels.cpu.build`"
    if not path.is_file():
        raise NotAvailable(f"the C++ kernels are not built: {rebuild}")
    try:
        loaded = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise NotAvailable(f"the C++ kernels cannot be loaded ({error}): {rebuild}") from error
    if loaded.thermesh_sources().decode() != build.source_hash() or not _agrees(loaded):
        raise NotAvailable(f"the C++ kernels are older than their sources: {rebuild}")
    return loaded


def status() -> Status:
    """Tell whether the C++ kernels can be used, and with which tiers."""
    try:
        loaded = library()
    except NotAvailable as error:
        return Status(available=False, tiers=(), reason=str(error))
    tiers = tuple(name for name in TIERS if loaded.thermesh_tier(name.encode()))
    return Status(available=True, tiers=tiers, reason="")


def _agrees(loaded: Any) -> bool:
    structures = (Matrix, Layer, Network, Span, Batch, Row)
    sizes = (_i32 * len(structures))()
    loaded.thermesh_layout(sizes)
    return list(sizes) == [ctypes.sizeof(structure) for structure in structures]
