"""The rooms behind the gateway: a link and a channel to each, and whether they are well."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from services.gateway.admission.places import Places
from services.gateway.config import Config
from services.gateway.feedback import Feedback, ModelCard
from services.gateway.links import Mesh
from services.gateway.mesh.administration import Administration
from services.gateway.mesh.controller import ControllerClient
from services.gateway.mesh.feature import FeatureClient
from services.gateway.mesh.inference import InferenceClient
from services.gateway.mesh.peer import Peer
from services.gateway.observability.instruments import Instruments
from thermesh import rpc
from thermesh.clock import Clock

HEALTH_TIMEOUT_SECONDS = 0.5


class Neighbours:
    """Feature, controller and inference. Needs a running event loop.

    `places` is told what inference holds, `saw_feedback` what the controller took.
    """

    def __init__(
        self,
        config: Config,
        instruments: Instruments,
        clock: Clock,
        places: Places,
        saw_feedback: Callable[[Feedback], None],
    ) -> None:
        targets = {
            "feature": config.feature_target,
            "controller": config.controller_target,
            "inference": config.inference_target,
        }
        self._channels = {
            name: rpc.connect(target, by_trunk=True) for name, target in targets.items()
        }
        self._peers = {
            name: Peer(name, channel, instruments, clock)
            for name, channel in self._channels.items()
        }
        feature, controller, inference = self._peers.values()
        timeout = config.call_timeout_s
        self.feature = FeatureClient(
            feature, config.extract_budget_ms / 1000, config.max_listening_s, config.embed_timeout_s
        )
        self.controller = ControllerClient(
            controller, config.decide_budget_ms / 1000, timeout, saw_feedback
        )
        self.administration = Administration(controller, timeout)
        self.inference = InferenceClient(
            inference, clock, config.plan_grace_ms, timeout, lambda card: _fit(places, card)
        )

    @property
    def mesh(self) -> Mesh:
        """What the pipeline needs of them."""
        return Mesh(self.feature, self.controller, self.inference)

    def open(self) -> None:
        """Begin to connect; nothing waits for it."""
        for channel in self._channels.values():
            channel.open_trunk()
        self.inference.describe()

    async def are_serving(self) -> dict[str, bool]:
        """Ask each for its health, side by side."""
        asked = (peer.is_serving(HEALTH_TIMEOUT_SECONDS) for peer in self._peers.values())
        return dict(zip(self._peers, await asyncio.gather(*asked), strict=True))

    async def close(self) -> None:
        """Close the channels, once no call is open on them."""
        await self.inference.close()
        for peer in self._peers.values():
            await peer.close()


def _fit(places: Places, card: ModelCard) -> None:
    places.fit(card.max_running, card.max_waiting)
