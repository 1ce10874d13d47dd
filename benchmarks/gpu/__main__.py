"""`python -m benchmarks.gpu`: conformance on the device, then the table.

Exits with 0 when every kernel conforms, 1 when one does not, and 3 where there is
no GPU to ask. Whether the bars are reached changes nothing about the status: they
are for the report.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import machine
from benchmarks.gpu import agreement, learned, report, rows, sparse
from benchmarks.gpu.conformance import TOLERANCE, cases
from benchmarks.gpu.timing import OutOfTime, limit
from services.inference.kernels.triton import Status, status

FAILED, NO_GPU = 1, 3
WHOLE_SECONDS = 460.0
CONFORMANCE_SECONDS = 150.0
"""Most of it is compiling, once for each of some fifty variants."""

TABLE: tuple[tuple[int, str, Callable[[rows.Figures], None] | str, float], ...] = (
    (1, "135M bf16, one stream, decode", rows.single_stream, 90),
    (2, "135M, 128 streams, context 512", rows.many_streams, 60),
    (3, "8B shape, W4A16, one stream", rows.four_bits, 90),
    (4, "FP8 GEMM", rows.fp8_products, 30),
    (5, "FP8 + INT4 serving, 8B shape", rows.mixed, 80),
    (6, "block-sparse paged decode, 32K", sparse.decode, 40),
    (7, "block-sparse prefill", sparse.prefill, 40),
    (8, "CPU and GPU agree", agreement.measure, 60),
    (10, "light path", learned.light, 40),
    (11, "135M by a precision plan", learned.planned, 40),
    (9, "135M trained at an eighth of float32", learned.trained, 300),
)
"""Number, name, what measures it (or why nothing does), seconds at most. Training comes
last: where the others took the time, `--rows 9` gives it all."""


def main(arguments: list[str] | None = None) -> int:
    """Run the check; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--rows", help="numbers of the rows to measure, as 1,3; all by default")
    parser.add_argument("--out", type=pathlib.Path, default=_folder(), help="where results go")
    options = parser.parse_args(arguments)
    found = status()
    if found.device != "cuda":
        reason = found.reason or "TRITON_INTERPRET is set, which leaves the GPU alone"
        print(f"gpu-check: nothing to check here: {reason}", file=sys.stderr)
        return NO_GPU
    started = time.monotonic()
    wanted = {int(number) for number in options.rows.split(",")} if options.rows else None
    result = {
        "machine": machine.describe(),
        "device": _device(found),
        "conformance": conformance(),
        "rows": [
            measured(*row, deadline=started + WHOLE_SECONDS)
            for row in TABLE
            if wanted is None or row[0] in wanted
        ],
    }
    result["seconds"] = round(time.monotonic() - started, 1)
    report.write(result, options.out)
    return FAILED if result["conformance"]["failed"] else 0


def conformance() -> dict[str, Any]:
    """Return the deviation of every case from its reference, on the device."""
    fast = importlib.import_module("services.inference.kernels.triton.operations")
    found: dict[str, Any] = {"passed": 0, "failed": {}, "left_out": []}
    end = time.monotonic() + CONFORMANCE_SECONDS
    for case in cases():
        if time.monotonic() > end:
            found["left_out"].append(case.name)
            continue
        try:
            deviation = case.deviation(fast, "cuda")
        except Exception as error:
            # One kernel that does not compile must not hide what the others do.
            found["failed"][case.name] = f"{type(error).__name__}: {error}"[:500]
            continue
        if deviation <= TOLERANCE["cuda"]:
            found["passed"] += 1
        else:
            found["failed"][case.name] = f"deviates by {deviation:.2e}"
    print(f"conformance: {found['passed']} passed, {len(found['failed'])} failed", flush=True)
    return found


def measured(
    number: int,
    name: str,
    measure: Callable[[rows.Figures], None] | str,
    seconds: float,
    deadline: float,
) -> dict[str, Any]:
    """Return one row: its figures, or why there are none."""
    row: dict[str, Any] = {"number": number, "name": name}
    if isinstance(measure, str):
        return row | {"not_measured": measure}
    figures = rows.Figures()
    left = min(seconds, deadline - time.monotonic())
    if left < 5:
        return row | {"not_measured": "no time was left"}
    try:
        with limit(left):
            measure(figures)
    except (rows.NotMeasured, OutOfTime) as reason:
        row["not_measured"] = str(reason)
    except Exception as error:
        row["not_measured"] = f"{type(error).__name__}: {error}"[:500]
    rows.free()
    print(f"row {number}: {row.get('not_measured', figures.bars)}", flush=True)
    return row | vars(figures)


def _device(found: Status) -> dict[str, Any]:
    triton = importlib.import_module("triton")
    return {
        "name": found.name,
        "memory_gib": round(found.memory_bytes / 2**30, 1),
        "fp8": found.has_fp8,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": triton.__version__,
    }


def _folder() -> pathlib.Path:
    """Return $OUT, or build/gpu below this source tree."""
    chosen = os.environ.get("OUT")
    return pathlib.Path(chosen) if chosen else machine.ROOT / "build" / "gpu"


if __name__ == "__main__":
    sys.exit(main())
