"""Start the gateway: `python -m services.gateway`."""

from __future__ import annotations

from services.gateway.config import Config
from services.gateway.gateway import Gateway
from services.gateway.speech.config import VoiceConfig
from thermesh import process, rpc, telemetry
from thermesh.settings import from_env


async def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    gateway = Gateway(config, telemetry.meter(), voice=from_env(VoiceConfig))
    await gateway.start()
    await rpc.until_signal()
    await gateway.drain()


def main() -> None:
    """Run the gateway."""
    process.run("gateway", Config, serve)


if __name__ == "__main__":
    main()
