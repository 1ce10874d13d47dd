"""Serves the controller until told to stop; needs no Redis to start."""

from __future__ import annotations

import numpy as np

from services.controller.config import Config
from services.controller.room import Room, furnish
from services.controller.server import controller, feedback
from services.controller.storage.store import RedisStore
from services.controller.tasks import send_hint
from thermesh import process, rpc
from thermesh.clock import SystemClock


def grpc_server(room: Room) -> rpc.Server:
    """Return the server of both services of `room`, not started."""
    config = room.config
    grace, door = config.grace_seconds, rpc.room_door()
    around = rpc.Server("controller", config.host, config.port, grace, door)
    service = controller.ControllerService(room, around.draining)
    around.add(controller.ADD, service, controller.FULL_NAME)
    around.add(feedback.ADD, feedback.FeedbackService(room), feedback.FULL_NAME)
    return around


async def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT."""
    store = RedisStore(config.redis_url, config.feedback_per_minute)
    room = furnish(config, store, SystemClock(), send_hint, np.random.default_rng())
    async with room.running():
        around = grpc_server(room)
        await around.start()
        await around.run_until_signal()


def main() -> None:
    """Run the controller."""
    process.run("controller", Config, serve)


if __name__ == "__main__":
    main()
