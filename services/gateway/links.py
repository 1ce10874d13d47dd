"""What a turn needs of the neighbours, as Protocols; `mesh/` and the tests' fakes fulfil them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from services.gateway.asking import Ask, Features
from services.gateway.decoding import Plan, Update
from services.gateway.events import Event
from services.gateway.feedback import Capabilities

FeatureSource = Callable[[], Awaitable[Features]]
"""Where the features of one request come from."""


class FeatureLink(Protocol):
    """The feature service, as far as a turn needs it."""

    async def extract(self, ask: Ask, encoder_wait_seconds: float | None = None) -> Features:
        """Return the features of a request within the budget; raise MeshError otherwise.

        They wait no longer than this for the encoder (None: as long as feature likes).
        """
        ...


class ControllerLink(Protocol):
    """The controller, as far as a turn needs it."""

    async def decide(
        self, ask: Ask, features: Features | None, within: Capabilities | None = None
    ) -> Plan:
        """Return the plan of a request, `within` what the engine can do, in the budget;
        raise MeshError otherwise.
        """
        ...


class Generation(Protocol):
    """One open call to inference."""

    def events(self) -> AsyncIterator[Event]:
        """Yield what inference says; raise MeshError where the call fails."""
        ...

    def plan(self, plan: Plan) -> None:
        """Send the plan; never waits."""
        ...

    def update(self, update: Update) -> None:
        """Send a change of parameters."""
        ...

    def credit(self, tokens: int) -> None:
        """Let inference send more tokens."""
        ...

    def cancel(self, kept_tokens: int) -> None:
        """Ask inference to end and to count so many tokens; its end still comes."""
        ...

    def finish(self) -> None:
        """Say that nothing more will be sent."""
        ...

    def close(self) -> None:
        """Cancel the call; harmless when it is over."""
        ...


class InferenceLink(Protocol):
    """Inference, as far as a turn needs it."""

    @property
    def capabilities(self) -> Capabilities | None:
        """What the engine can do, as far as it is known; never waits."""
        ...

    def generate(self, ask: Ask, initial: Plan, timeout_seconds: float) -> Generation:
        """Open a generation that decodes as `initial` says until a plan arrives."""
        ...


@dataclass(frozen=True)
class Mesh:
    """The neighbours."""

    feature: FeatureLink
    controller: ControllerLink
    inference: InferenceLink
