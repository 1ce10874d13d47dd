"""The life of one room's process: settings, telemetry, serving, and a clear end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from thermesh import telemetry
from thermesh.errors import MeshError
from thermesh.settings import BadSetting, from_env

Config = TypeVar("Config")


def run(
    room: str, config: type[Config], serve: Callable[[Config], Coroutine[Any, Any, None]]
) -> None:
    """Read the settings of `room`, serve until `serve` returns, send what telemetry holds.

    A bad setting, a taken port or a model that cannot be loaded ends the
    process with one line that says so, not with a traceback.
    """
    service = f"thermesh-{room}"
    try:
        settings = from_env(config)
        telemetry.setup(service, from_env(telemetry.TelemetryConfig))
        asyncio.run(serve(settings))
    except (BadSetting, MeshError) as error:
        sys.exit(f"{service}: {error}")
    finally:
        telemetry.shutdown()
