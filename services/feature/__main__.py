"""Starts the feature service: `python -m services.feature`."""

from __future__ import annotations

import asyncio
import sys

from services.feature.config import Config
from services.feature.house import build
from services.feature.server import SERVICE, FeatureService
from thermesh import telemetry
from thermesh.errors import MeshError
from thermesh.rpc import Server
from thermesh.settings import BadSetting, from_env
from thermesh.v1 import feature_pb2_grpc


async def serve(config: Config) -> None:
    """Serve until a signal comes."""
    house = build(config)
    servicer = FeatureService(house.reader, house.metrics, config.budget_ms / 1000)
    server = Server("feature", config.host, config.port)
    server.add(feature_pb2_grpc.add_FeatureServiceServicer_to_server, servicer, SERVICE)
    await server.start()
    try:
        await server.run_until_signal()
    finally:
        await house.close()


def main() -> None:
    """Read the environment and serve; a bad setting ends with one line that names it."""
    try:
        telemetry.setup("thermesh-feature", from_env(telemetry.TelemetryConfig))
        asyncio.run(serve(from_env(Config)))
    except (BadSetting, MeshError) as error:
        sys.exit(f"thermesh-feature: {error}")
    finally:
        telemetry.shutdown()


if __name__ == "__main__":
    main()
