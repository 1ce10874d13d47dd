"""Measure what serving takes of memory, and how long loading takes, each in a fresh process.

    python -m benchmarks.residence --rounds 5

The engine loads the packaged model, warms up, and answers prompts until its prefix cache
is full. Resident memory is what the system counts, interpreter and torch included; the
KV cache's part is the pages that were ever touched.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pathlib
import random
import subprocess
import sys
import time

from benchmarks import machine
from benchmarks.spread import summary

PROMPTS = 60
PROMPT_TOKENS = 400
SHARES = (1.0, 0.5)


def resident_bytes() -> int:
    """Return this process's resident memory, as Linux counts it."""
    fields = pathlib.Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


async def fill(model: object, share: float) -> dict[str, float]:
    """Serve prompts that have nothing in common; return the memory taken before and after."""
    from benchmarks import streams  # noqa: PLC0415  # torch comes with it, which is measured

    async with streams.serving(model, prefix_share=share, kv_pages=1024) as bench:
        warm = resident_bytes()
        for _ in range(PROMPTS):
            await streams.arrivals(bench.open(bench.noise(PROMPT_TOKENS), 1, 0.7))
        load = bench.engine.load()
        cache = bench.engine.decoder._cache  # noqa: SLF001  # its size is what is measured
        token_bytes = cache.bytes_per_token
        used = load.kv_pages_cached + -(-PROMPT_TOKENS // 16) + 1
        return {
            "warm": warm,
            "full": resident_bytes(),
            "kv": min(used, 1024) * 16 * token_bytes,
        }


def child(share: float) -> None:
    """Load, serve, print what was measured as JSON."""
    from services.inference.models import load  # noqa: PLC0415  # see `fill`
    from thermesh import models  # noqa: PLC0415  # see `fill`

    path = models.locate("smollm2-135m-instruct")
    imported = resident_bytes()
    started = time.perf_counter()
    model = load(path, "bench")
    seconds = time.perf_counter() - started
    loaded = resident_bytes()
    random.seed(1)
    taken = asyncio.run(fill(model, share))
    figures = {"file": path.stat().st_size, "imported": imported, "load_s": seconds}
    print(json.dumps({**figures, "loaded": loaded, **taken}))


def main() -> None:
    """Measure in turns, print, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.child is not None:
        child(arguments.child)
        return
    samples: dict[str, list[dict[str, float]]] = {}
    for _ in range(arguments.rounds):
        for share in SHARES:
            command = [sys.executable, "-m", "benchmarks.residence", "--child", str(share)]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            samples.setdefault(f"share {share}", []).append(json.loads(told))
    for name, measured in samples.items():
        for key in measured[0]:
            unit = 1.0 if key == "load_s" else 1e6
            found = summary([one[key] / unit for one in measured])
            print(f"{name:>10}  {key:9} {found.median:8.2f} ({found.low:.2f} to {found.high:.2f})")
    if arguments.json:
        result = {"machine": machine.describe(), "samples": samples}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
