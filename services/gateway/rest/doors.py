"""What the REST routes need of the rest of the gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.gateway.admission.bound import Admission
from services.gateway.asking import Context, Embeddings
from services.gateway.decoding import Mode
from services.gateway.feedback import Feedback, ModelCard, PolicyCard, PolicyList, Receipt
from services.gateway.gate import Gate
from services.gateway.kept import KeptResponses
from services.gateway.observability.observatory import Observatory
from services.gateway.observability.operating import EngineLoad, Trial, TrialStart
from services.gateway.pipeline import Pipeline
from services.gateway.readiness import Readiness
from services.gateway.realtime.session import Surroundings


class Models(Protocol):
    """Knows what is served."""

    async def models(self) -> list[ModelCard]:
        """Return what is served, the default first."""
        ...

    async def model(self, model_id: str) -> ModelCard:
        """Return one model; raise NotFound."""
        ...


class Engine(Protocol):
    """Knows how busy the engine is."""

    async def load(self) -> EngineLoad:
        """Return how busy it is; raise MeshError."""
        ...


class Administration(Protocol):
    """Changes what decides; errors are those of controller.proto."""

    async def promote(self, version: int, expected_live_version: int) -> PolicyCard:
        """Make the parameters of a stored version live."""
        ...

    async def roll_back(self, expected_live_version: int) -> PolicyCard:
        """Go back to the parameters before the live version."""
        ...

    async def set_mode(self, route: str, mode: Mode | None) -> dict[str, Mode]:
        """Set the mode of a route, None: remove its own."""
        ...

    async def trial(self) -> Trial | None:
        """Return the newest trial; None where there never was one."""
        ...

    async def start_trial(self, wanted: TrialStart) -> Trial:
        """Put a version on trial."""
        ...

    async def stop_trial(self) -> Trial:
        """End the running trial."""
        ...


class Encoder(Protocol):
    """Turns texts into vectors."""

    async def embed(self, context: Context, model: str, texts: Sequence[str]) -> Embeddings:
        """Return the vectors of `texts`; raise MeshError."""
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

    gate: Gate
    pipeline: Pipeline
    models: Models
    learning: Learning
    administration: Administration
    engine: Engine
    observatory: Observatory
    encoder: Encoder
    kept: KeptResponses
    realtime: Surroundings
    sessions: Admission
    """Places for realtime sessions, which hold one of the pipeline's only while they answer."""
    peers: Callable[[], Awaitable[dict[str, bool]]]
    """Asks each neighbour whether it is serving."""
    readiness: Readiness
    metrics: Callable[[], bytes]
    """Prometheus text of this process."""
    max_body_bytes: int
    ping_seconds: float
