"""llama.cpp, through llama-cpp-python built for this machine."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp

from benchmarks.engine.contender import serve
from benchmarks.engine.peers.ggml import Ggml


class Library:
    """llama.cpp with one model. A cache of several sequences is split, which
    is faster than a unified one.
    """

    api = llama_cpp

    def __init__(self, model: str, threads: int, *, flash_attention: bool) -> None:
        llama_cpp.llama_backend_init()
        llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
        wanted = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(model.encode(), wanted)
        if not self._model:
            raise RuntimeError(f"llama.cpp does not load {model}")
        self._threads = threads
        self._flash_attention = flash_attention
        vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self.vocabulary_size = llama_cpp.llama_vocab_n_tokens(vocabulary)

    def context(self, tokens: int, sequences: int) -> Any:
        """Return a context with a cache of its own for each sequence."""
        wanted = llama_cpp.llama_context_default_params()
        wanted.n_ctx, wanted.n_seq_max = tokens, sequences
        wanted.n_batch, wanted.n_ubatch = 2048, 512
        wanted.n_threads = wanted.n_threads_batch = self._threads
        wanted.flash_attn_type = int(self._flash_attention)
        wanted.kv_unified = False
        context = llama_cpp.llama_init_from_model(self._model, wanted)
        if not context:
            raise RuntimeError(f"llama.cpp makes no context of {tokens} tokens")
        return context

    def forget(self, context: Any, sequence: int, first: int) -> None:
        """Drop the tokens of a sequence from position `first` on."""
        llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(context), sequence, first, -1)

    def clear(self, context: Any) -> None:
        """Drop all tokens."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), False)


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(_level: int, _text: bytes, _data: Any) -> None:
    pass


def load(options: dict[str, Any]) -> Ggml:
    """Load the model at its best settings, or at those that `options` name."""
    threads, flash = options["threads"], options.get("flash_attention", True)
    library = Library(options["model"], threads, flash_attention=flash)
    described = {"engine": f"llama-cpp-python {llama_cpp.__version__}", "threads": str(threads)}
    described["built_for"] = llama_cpp.llama_print_system_info().decode().strip()
    return Ggml(library, library.vocabulary_size, described)


if __name__ == "__main__":
    serve(load)
