"""The life of one room's process: settings, telemetry, serving, and a clear end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from asyncio import new_event_loop
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from thermesh import telemetry
from thermesh.errors import MeshError
from thermesh.settings import BadSetting, from_env

with contextlib.suppress(ImportError):  # there is none for Windows
    from uvloop import new_event_loop

Config = TypeVar("Config")

YOUNG_OBJECTS = 10_000
"""New objects after which the collector looks at the young ones; Python's own number is 700.

A request leaves next to nothing in circles, so that there is little to find. In ten seconds of
overload a gateway was stopped 58 times with 1,000, for 6 ms at most, and 4 times with this.
"""


def run(
    room: str, config: type[Config], serve: Callable[[Config], Coroutine[Any, Any, None]]
) -> None:
    """Read the settings of `room`, serve until `serve` returns, send what telemetry holds.

    A bad setting, a taken port or a model that cannot be loaded ends the
    process with one line that says so, not with a traceback.

    The loop is uvloop's: nearly all that a room does per token is a wake-up of its loop by
    gRPC's poller, which costs half there.
    """
    service = f"thermesh-{room}"
    try:
        settings = from_env(config)
        telemetry.setup(service, from_env(telemetry.TelemetryConfig))
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve(settings))
    except (BadSetting, MeshError) as error:
        sys.exit(f"{service}: {error}")
    finally:
        telemetry.shutdown()


def settle_memory() -> None:
    """Let the collector leave alone what start-up made; call it once, before serving.

    That stays until the end: whenever the collector turns to its oldest generation, walking over
    all of it would stop every stream.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 10, 10)
