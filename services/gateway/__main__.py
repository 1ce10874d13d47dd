"""Start the gateway: `python -m services.gateway`."""

from __future__ import annotations

import asyncio
import sys

from services.gateway.config import Config
from services.gateway.gateway import Gateway
from thermesh import rpc, telemetry
from thermesh.errors import MeshError
from thermesh.settings import BadSetting, from_env


async def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    gateway = Gateway(config, telemetry.meter())
    await gateway.start()
    await rpc.until_signal()
    await gateway.drain()


def main() -> None:
    """Read the settings and serve; a bad setting or a taken port ends with its message."""
    try:
        config = from_env(Config)
        telemetry.setup("thermesh-gateway", from_env(telemetry.TelemetryConfig))
        asyncio.run(serve(config))
    except (BadSetting, MeshError) as error:
        sys.exit(str(error))
    finally:
        telemetry.shutdown()


if __name__ == "__main__":
    main()
