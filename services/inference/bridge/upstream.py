"""The engine behind, as the bridge sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class UpstreamToken:
    """One token as its server names it; log-probabilities in nats."""

    text: str
    log_probability: float = 0.0
    candidates: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Chunk:
    """What one message of the server brought.

    `tokens` is empty where nothing was decoded; `finish_reason` is the server's
    own word, empty before the end; token counts are set once it tells them.
    """

    tokens: tuple[UpstreamToken, ...] = ()
    finish_reason: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True)
class UpstreamModel:
    """A model that the server lists; `context_length` 0: it does not say."""

    name: str
    context_length: int = 0
    created_unix_s: int = 0


class Upstream(Protocol):
    """A server that decodes.

    Raises MeshError: InvalidArgument for what it refuses, NotFound for its
    model, ResourceExhausted where it is full, Unavailable where it is away.
    """

    async def models(self) -> list[UpstreamModel]:
        """Return what it serves."""
        ...

    def stream(self, path: str, body: dict[str, Any]) -> AsyncIterator[Chunk]:
        """Decode one request; closing the iterator ends it there too."""
        ...
