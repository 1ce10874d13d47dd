"""The engine behind, as the bridge sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from services.inference.bridge.dialect import Dialect
from services.inference.request import Start
from services.inference.sampling.settings import Sampling

UNKNOWN_TOKEN = -1


@dataclass(frozen=True)
class UpstreamToken:
    """One token as its server names it; log-probabilities in nats.

    `candidates` are (token id, text, log-probability); ids are UNKNOWN_TOKEN where
    the server does not tell them.
    """

    text: str
    log_probability: float = 0.0
    candidates: tuple[tuple[int, str, float], ...] = ()
    token_id: int = UNKNOWN_TOKEN


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


@dataclass(frozen=True)
class Completion:
    """One request, as the engine behind is asked.

    `sampling` and `seed` are those decided by now, not those of `start`, and
    `sampling` is usable there; `max_tokens` 0 is up to that engine.
    """

    start: Start
    model: str
    sampling: Sampling
    seed: int | None = None
    max_tokens: int = 0


class Upstream(Protocol):
    """An engine that decodes, elsewhere or in this process.

    Raises MeshError: InvalidArgument for what it refuses, NotFound for its
    model, ResourceExhausted where it is full, Unavailable where it is away.
    """

    @property
    def dialect(self) -> Dialect:
        """What it understands."""
        ...

    async def models(self) -> list[UpstreamModel]:
        """Return what it serves."""
        ...

    def stream(self, completion: Completion) -> AsyncIterator[Chunk]:
        """Decode one request; closing the iterator ends it there too."""
        ...

    async def close(self) -> None:
        """Give back what it holds."""
        ...
