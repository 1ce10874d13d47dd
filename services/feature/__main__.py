"""Starts the feature service: `python -m services.feature`."""

from __future__ import annotations

import sys

from services.feature.config import Config
from services.feature.house import build
from services.feature.server import SERVICE, FeatureService
from thermesh import process
from thermesh.rpc import Server, room_door
from thermesh.v1 import feature_pb2_grpc

# The encoder's thread and the event loop hand the interpreter to each other at
# every operation; Python's default of 5 ms a hand-over would be felt in answers.
SWITCH_SECONDS = 0.0005


async def serve(config: Config) -> None:
    """Serve until a signal comes."""
    house = build(config)
    servicer = FeatureService(house.reader, house.embedder, house.metrics, config.budget_ms / 1000)
    server = Server("feature", config.host, config.port, config.grace_seconds, room_door())
    server.add(feature_pb2_grpc.add_FeatureServiceServicer_to_server, servicer, SERVICE)
    await server.start()
    try:
        await server.run_until_signal()
    finally:
        await house.close()


def main() -> None:
    """Run the feature service."""
    sys.setswitchinterval(SWITCH_SECONDS)
    process.run("feature", Config, serve)


if __name__ == "__main__":
    main()
