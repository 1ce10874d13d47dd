"""Settings of the bridge to another engine."""

from __future__ import annotations

from dataclasses import dataclass

from services.inference.bridge.dialect import DIALECTS
from thermesh.settings import between, one_of, setting


@dataclass(frozen=True)
class BridgeConfig:
    """Which engine answers; without `url` it is our own."""

    url: str = setting(
        "THERMESH_ENGINE_URL",
        "",
        doc="OpenAI-compatible server that decodes, e.g. http://127.0.0.1:8000/v1; empty: our own",
    )
    dialect: str = setting(
        "THERMESH_ENGINE_DIALECT",
        "openai",
        one_of(*DIALECTS),
        "what that server takes beyond OpenAI's own fields",
    )
    model: str = setting("THERMESH_ENGINE_MODEL", "", doc="its model; empty: the first it lists")
    key: str = setting("THERMESH_ENGINE_KEY", "", doc="key that it is asked with")
    connect_seconds: float = setting(
        "THERMESH_ENGINE_CONNECT_S", 2.0, between(0.05, 60), "longest wait for a connection"
    )
    silence_seconds: float = setting(
        "THERMESH_ENGINE_SILENCE_S", 60.0, between(0.1, 3600), "longest wait for its next token"
    )
