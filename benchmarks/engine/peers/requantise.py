"""Write a model in another of llama.cpp's types: requantise SOURCE TARGET TYPE."""

from __future__ import annotations

import ctypes
import pathlib
import sys

import llama_cpp

TYPES = {"Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0}


def main() -> None:
    """Write beside the target first, so that half a file never bears its name."""
    source, target, name = sys.argv[1:]
    wanted = llama_cpp.llama_model_quantize_default_params()
    wanted.ftype = TYPES[name]
    wanted.allow_requantize = True
    partial = pathlib.Path(target + ".new")
    status = llama_cpp.llama_model_quantize(
        source.encode(), str(partial).encode(), ctypes.byref(wanted)
    )
    if status:
        sys.exit(f"llama.cpp's quantiser failed with status {status}")
    partial.rename(target)


if __name__ == "__main__":
    main()
