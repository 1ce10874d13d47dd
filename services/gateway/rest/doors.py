"""What the REST routes need of the rest of the gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from services.gateway.feedback import Feedback, ModelCard, PolicyList, Receipt
from services.gateway.pipeline import Pipeline


class Models(Protocol):
    """Knows what is served."""

    async def models(self) -> list[ModelCard]:
        """Return what is served, the default first."""
        ...

    async def model(self, model_id: str) -> ModelCard:
        """Return one model; raise NotFound."""
        ...


class Learning(Protocol):
    """Takes feedback and knows the policies."""

    async def submit_feedback(self, feedback: Feedback) -> Receipt:
        """Store feedback; raise MeshError as FeedbackService says."""
        ...

    async def get_feedback(self, feedback_id: str, tenant: str) -> Receipt:
        """Tell what became of feedback; raise NotFound."""
        ...

    async def list_policies(self, limit: int, before_version: int) -> PolicyList:
        """Return stored versions, newest first."""
        ...


@dataclass(frozen=True)
class Doors:
    """Everything behind the REST door."""

    pipeline: Pipeline
    models: Models
    learning: Learning
    peers: Callable[[], Awaitable[dict[str, bool]]]
    """Asks each neighbour whether it is serving."""
    metrics: Callable[[], bytes]
    """Prometheus text of this process."""
    max_body_bytes: int
    ping_seconds: float
