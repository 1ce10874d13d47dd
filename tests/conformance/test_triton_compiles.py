"""What the interpreter accepts, the compiler accepts too."""

import importlib
import json
import os
import pathlib
import subprocess
import sys

import pytest
import torch

from benchmarks.gpu.conformance import cases
from services.inference.kernels.triton import status

STATUS = status()
TYPES = {
    torch.float32: "*fp32",
    torch.float16: "*bf16",  # the cache of a device
    torch.bfloat16: "*bf16",
    torch.int8: "*i8",
    torch.uint8: "*u8",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.float8_e4m3fn: "*fp8e4nv",
}
CASES = (  # together they launch every kernel, four-bit and eight-bit ones both
    "linear: q4 with minimums, normed, gated, 1 rows",
    "linear: q4 of 32, normed, gated, 3 rows",
    "linear: inputs cut in parts, 1 row",
    "linear: inputs cut in parts, 5 rows",
    "normed codes: torch.float8_e4m3fn",
    "scaled product: torch.int8",
    "scaled product: torch.float8_e4m3fn",
    "rotate and store: int8, head norms True",
    "decode: sparse, int8",
    "decode: dense, 16 bits",
    "prefill: sparse, int8",
    "page scores and choice: int8",
    "page bounds: int8",
    "means of pages and their scores: int8",
    "gates: int8",
    "draw: EDT, top n sigma",
)


def described(kernel, arguments, options):
    """A launch as JSON: types of arguments as the compiler names them, and constants."""
    types, constants = {}, {}
    for name, value in arguments.items():
        if name.isupper():
            types[name] = "constexpr"
            constants[name] = str(value) if name == "TYPE" else value
        elif isinstance(value, torch.Tensor):
            types[name] = TYPES[value.dtype]
        else:
            types[name] = "fp32" if isinstance(value, float) else "i32"
    names = {"module": kernel.__module__, "kernel": kernel.__name__}
    return json.dumps({**names, "types": types, "constants": constants, "options": options})


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.available, reason=STATUS.reason)
def test_every_kernel_compiles_for_a_gpu(monkeypatch, tmp_path):
    """Launches of each kernel are compiled for compute capability 9.0, down to machine code."""
    operations = importlib.import_module("services.inference.kernels.triton.operations")
    interpreted = importlib.import_module("triton.runtime.interpreter").InterpretedFunction
    launches, run = {}, interpreted.run

    def recorded(self, *args, grid, warmup, **options):
        arguments = dict(zip(self.arg_names, args, strict=False))
        arguments |= {key: options[key] for key in options if key in self.arg_names}
        others = {key: options[key] for key in options if key.startswith("num_")}
        launches[described(self.fn, arguments, others)] = self.fn.__name__
        return run(self, *args, grid=grid, warmup=warmup, **options)

    monkeypatch.setattr(interpreted, "run", recorded)
    for case in cases():
        if case.name in CASES:
            case.run(operations, "cpu")

    environ = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    root = pathlib.Path(__file__).resolve().parents[2]
    script = root / "tests" / "fakes" / "compiled_kernels.py"
    environ["PYTHONPATH"] = str(root)
    result = subprocess.run(
        [sys.executable, str(script)],
        input="\n".join(launches),
        env=environ,
        check=False,
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stderr[-3000:]
    assert set(result.stdout.split()) == set(launches.values())
    assert len(set(launches.values())) == 14
