"""The gateway as it is, which tells what is alive in it when it gets SIGUSR1.

THERMESH_WATCH_FILE=alive.json python -m benchmarks.load.watched
"""

from __future__ import annotations

import asyncio
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
    """Return how many tasks, turns, calls and open spans live in this process."""
    gc.collect()
    counts = {"tasks": len(asyncio.all_tasks()), **{kind.__name__: 0 for kind in WATCHED}}
    for each in gc.get_objects():
        for kind in WATCHED:
            counts[kind.__name__] += isinstance(each, kind) and _is_open(each)
    return counts


def _is_open(each: object) -> bool:
    """Whether it is not over; an ended span may be the context of a connection that is kept."""
    return not isinstance(each, Span) or each.is_recording()


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
