"""Start the inference service: `python -m services.inference`."""

from __future__ import annotations

import asyncio
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
    """Serve what an engine behind decodes; needs neither torch nor a model of its own."""
    # Not at the top: an engine of our own runs where httpx is not installed.
    from services.inference.bridge.service import Service  # noqa: PLC0415

    service = Service(config, behind)
    await service.start()
    await service.run_until_signal()


async def serve_engine(config: Config) -> None:
    """Load the model and decode here."""
    # Not at the top: a bridge runs where torch is not installed.
    import torch  # noqa: PLC0415

    from services.inference import models  # noqa: PLC0415
    from services.inference.cores import physical_cores  # noqa: PLC0415
    from services.inference.kernels import follow  # noqa: PLC0415
    from services.inference.service import Service  # noqa: PLC0415

    threads = config.threads or physical_cores()
    torch.set_num_threads(threads)
    name = config.model_name or pathlib.PurePath(config.model).stem.lower()
    model = models.load(locate(config.model), name)
    if await asyncio.to_thread(follow, model.network):
        return  # one of several GPUs, whose first process serves
    service = Service(config, model, f"{socket.gethostname()}-{os.getpid()}", threads)
    await service.start()
    settle()
    await service.run_until_signal()


def settle() -> None:
    """Exempt what is here now from garbage collection: it stays until the process ends.

    A full collection walks hundreds of thousands of objects, torch's modules and the
    vocabulary, while it holds the interpreter's lock: streams would wait for it.
    """
    gc.collect()
    gc.freeze()


def main() -> None:
    """Run the inference service."""
    process.run("inference", Config, serve)


if __name__ == "__main__":
    main()
