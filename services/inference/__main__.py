"""Start the inference service: `python -m services.inference`."""

from __future__ import annotations

import asyncio
import os
import pathlib
import socket

import torch
from thermesh.models import locate

from services.inference import models
from services.inference.config import Config
from services.inference.cores import physical_cores
from services.inference.service import Service
from thermesh import telemetry
from thermesh.settings import from_env


def main() -> None:
    """Load the model, serve until SIGTERM or SIGINT, then drain."""
    config = from_env(Config)
    telemetry.setup("thermesh-inference", from_env(telemetry.TelemetryConfig))
    threads = config.threads or physical_cores()
    torch.set_num_threads(threads)
    name = config.model_name or pathlib.PurePath(config.model).stem.lower()
    model = models.load(locate(config.model), name)
    try:
        asyncio.run(_serve(config, model, threads))
    finally:
        telemetry.shutdown()


async def _serve(config: Config, model: models.LoadedModel, threads: int) -> None:
    replica_id = f"{socket.gethostname()}-{os.getpid()}"
    service = Service(config, model, replica_id, threads)
    await service.start()
    await service.run_until_signal()


if __name__ == "__main__":
    main()
