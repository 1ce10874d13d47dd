"""ik_llama.cpp, a fork of llama.cpp, from its published wheel."""

from __future__ import annotations

import ctypes
import importlib.metadata
from typing import Any

import ik_llama_cpp._ctypes_api as ik

from benchmarks.engine.contender import serve
from benchmarks.engine.peers.ggml import Ggml

LIBRARY = ik._lib  # noqa: SLF001  # the wheel's binding leaves functions out
_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_silent = _LOG(lambda *_: None)


class Library:
    """ik_llama.cpp with one model."""

    api = ik

    def __init__(self, model: str, threads: int) -> None:
        remove = LIBRARY.llama_kv_cache_seq_rm
        remove.argtypes = [ctypes.c_void_p, ctypes.c_int32, ctypes.c_int32, ctypes.c_int32]
        remove.restype = ctypes.c_bool
        LIBRARY.llama_log_set(_silent, None)
        ik.llama_backend_init()
        wanted = ik.llama_model_default_params()
        wanted.n_gpu_layers = 0
        wanted.flash_attn = True
        self._model = ik.llama_model_load_from_file(model.encode(), wanted)
        if not self._model:
            raise RuntimeError(f"ik_llama.cpp does not load {model}")
        self._threads = threads
        vocabulary = ik.llama_model_get_vocab(self._model)
        self.vocabulary_size = ik.llama_vocab_n_tokens(vocabulary)

    def context(self, tokens: int, sequences: int) -> Any:
        """Return a context for several sequences."""
        wanted = ik.llama_context_default_params()
        wanted.n_ctx, wanted.n_seq_max = tokens, sequences
        wanted.n_batch, wanted.n_ubatch = 2048, 512
        wanted.n_threads = wanted.n_threads_batch = self._threads
        wanted.flash_attn = True
        context = ik.llama_init_from_model(self._model, wanted)
        if not context:
            raise RuntimeError(f"ik_llama.cpp makes no context of {tokens} tokens")
        return context

    def forget(self, context: Any, sequence: int, first: int) -> None:
        """Drop the tokens of a sequence from position `first` on."""
        LIBRARY.llama_kv_cache_seq_rm(context, sequence, first, -1)

    def clear(self, context: Any) -> None:
        """Drop all tokens."""
        ik.llama_kv_cache_clear(context)


def load(options: dict[str, Any]) -> Ggml:
    """Load the model."""
    threads = options["threads"]
    library = Library(options["model"], threads)
    version = importlib.metadata.version("ik-llama-cpp-python")
    described = {"engine": f"ik-llama-cpp-python {version}", "threads": str(threads)}
    return Ggml(library, library.vocabulary_size, described)


if __name__ == "__main__":
    serve(load)
