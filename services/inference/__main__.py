"""Start the inference service: `python -m services.inference`."""

from __future__ import annotations

import asyncio
import os
import pathlib
import socket

import torch

from services.inference import models
from services.inference.config import Config
from services.inference.cores import physical_cores
from services.inference.kernels import follow
from services.inference.service import Service
from thermesh import process
from thermesh.models import locate


async def serve(config: Config) -> None:
    """Load the model, serve until SIGTERM or SIGINT, then drain."""
    threads = config.threads or physical_cores()
    torch.set_num_threads(threads)
    name = config.model_name or pathlib.PurePath(config.model).stem.lower()
    model = models.load(locate(config.model), name)
    if await asyncio.to_thread(follow, model.network):
        return  # one of several GPUs, whose first process serves
    service = Service(config, model, f"{socket.gethostname()}-{os.getpid()}", threads)
    await service.start()
    await service.run_until_signal()


def main() -> None:
    """Run the inference service."""
    process.run("inference", Config, serve)


if __name__ == "__main__":
    main()
