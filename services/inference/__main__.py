"""Start the inference service: `python -m services.inference`."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import pathlib
import socket

from services.inference.bridge.config import BridgeConfig
from services.inference.config import Config
from thermesh import process
from thermesh.models import locate
from thermesh.settings import from_env


async def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    behind = from_env(BridgeConfig)
    await (serve_bridge(config, behind) if behind.is_there else serve_engine(config))


async def serve_bridge(config: Config, behind: BridgeConfig) -> None:
    """Serve what an engine behind decodes; needs no model of its own."""
    # Not at the top: an engine of our own runs where httpx is not installed.
    from services.inference.bridge.service import Service  # noqa: PLC0415

    service = Service(config, behind)
    await service.start()
    await service.run_until_signal()


async def serve_engine(config: Config) -> None:
    """Load the model and decode here."""
    # Not at the top: a bridge needs nothing of all this.
    from services.inference import models  # noqa: PLC0415
    from services.inference.cores import physical_cores  # noqa: PLC0415
    from services.inference.kernels import follow  # noqa: PLC0415
    from services.inference.service import Service  # noqa: PLC0415

    threads = config.threads or physical_cores()
    name = config.model_name or pathlib.PurePath(config.model).stem.lower()
    model = models.load(locate(config.model), name)
    if await asyncio.to_thread(follow, model.network):
        return  # one of several GPUs, whose first process serves
    service = Service(config, model, f"{socket.gethostname()}-{os.getpid()}", threads)
    await service.start()
    settle()
    await service.run_until_signal()


def settle() -> None:
    """Exempt what is here now from garbage collection, and give back what loading needed.

    What is here stays until the process ends. A full collection walks hundreds of thousands
    of objects, modules and the vocabulary above all, while it holds the interpreter's lock:
    streams would wait for it.
    """
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)


def main() -> None:
    """Run the inference service."""
    process.run("inference", Config, serve)


if __name__ == "__main__":
    main()
