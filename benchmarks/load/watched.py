"""The gateway as it is, which tells what is alive in it when it gets SIGUSR1.

THERMESH_WATCH_FILE=alive.json python -m benchmarks.load.watched
"""

from __future__ import annotations

import asyncio
import collections
import gc
import json
import os
import pathlib
import signal

from opentelemetry.sdk.trace import Span

from services.gateway import __main__ as gateway
from services.gateway.config import Config
from services.gateway.mesh.inference import OpenGeneration
from services.gateway.pipeline import Turn
from thermesh import process

WATCHED = (Turn, OpenGeneration, Span)


def alive() -> dict[str, int]:
    """Return how many tasks, turns, calls and spans live in this process."""
    gc.collect()
    found = collections.Counter(type(each) for each in gc.get_objects())
    counts = {
        kind.__name__: sum(found[t] for t in found if issubclass(t, kind)) for kind in WATCHED
    }
    return {"tasks": len(asyncio.all_tasks()), **counts}


def _tell() -> None:
    path = pathlib.Path(os.environ["THERMESH_WATCH_FILE"])
    partial = path.with_suffix(".new")
    partial.write_text(json.dumps(alive()))
    partial.replace(path)


async def serve(config: Config) -> None:
    """Serve as the gateway does."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _tell)
    await gateway.serve(config)


if __name__ == "__main__":
    process.run("gateway", Config, serve)
