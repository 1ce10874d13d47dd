"""Settings of the bridge to another engine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from services.inference.bridge.dialect import DIALECTS
from thermesh.settings import between, one_of, setting


def json_object(value: Any) -> str | None:
    """Check that a text is a JSON object."""
    try:
        is_object = isinstance(json.loads(value), dict)
    except ValueError:
        is_object = False
    return None if is_object else "a JSON object"


@dataclass(frozen=True)
class BridgeConfig:
    """Which engine answers; without `url` and `vllm_model` it is our own."""

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
    vllm_model: str = setting(
        "THERMESH_VLLM_MODEL",
        "",
        doc="model that vLLM decodes within this process, a folder or a hub name; empty: none",
    )
    vllm_arguments: str = setting(
        "THERMESH_VLLM_ARGUMENTS",
        "{}",
        json_object,
        'its AsyncEngineArgs, a JSON object, e.g. {"max_model_len": 4096}',
    )
    connect_seconds: float = setting(
        "THERMESH_ENGINE_CONNECT_S", 2.0, between(0.05, 60), "longest wait for a connection"
    )
    silence_seconds: float = setting(
        "THERMESH_ENGINE_SILENCE_S", 60.0, between(0.1, 3600), "longest wait for its next token"
    )

    @property
    def is_there(self) -> bool:
        """Whether an engine other than our own decodes."""
        return bool(self.url or self.vllm_model)
