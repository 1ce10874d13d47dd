"""Compile launches of kernels for a GPU on a machine that has none.

Reads launches as JSON lines: module, kernel, types of arguments, constants. Run in a
process of its own, as a process that interprets kernels cannot compile them.
"""

import importlib
import json
import sys

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

HOPPER = GPUTarget("cuda", 90, 32)


def main():
    """Compile each line; the first that fails ends the process with its error."""
    for line in sys.stdin:
        launch = json.loads(line)
        kernel = getattr(importlib.import_module(launch["module"]), launch["kernel"])
        # The interpreter computes in float32; a device does not.
        constants = {
            (kernel.arg_names.index(name),): tl.bfloat16 if name == "TYPE" else value
            for name, value in launch["constants"].items()
        }
        source = ASTSource(kernel, launch["types"], constants, {})
        triton.compile(source, target=HOPPER, options=launch["options"])
        print(launch["kernel"])  # noqa: T201  # for whoever started it


if __name__ == "__main__":
    main()
