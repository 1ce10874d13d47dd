"""What operators change at the controller: the live version, modes, trials."""

from __future__ import annotations

from services.gateway.decoding import Mode
from services.gateway.feedback import PolicyCard
from services.gateway.mesh.peer import Peer
from services.gateway.observability.operating import Trial, TrialStart
from services.gateway.wire import operating
from thermesh.errors import NotFound
from thermesh.v1 import controller_pb2, controller_pb2_grpc


class Administration:
    """The operator's link to the controller; errors are those of controller.proto."""

    def __init__(self, peer: Peer, timeout_seconds: float) -> None:
        self._peer = peer
        self._stub = controller_pb2_grpc.ControllerServiceStub(peer.channel)
        self._timeout_seconds = timeout_seconds

    async def promote(self, version: int, expected_live_version: int) -> PolicyCard:
        """Make the parameters of a stored version live; return the new version."""
        request = controller_pb2.PromotePolicyRequest(
            version=version, expected_live_version=expected_live_version
        )
        return await self._peer.call(
            self._stub.PromotePolicy, request, self._timeout_seconds, operating.published
        )

    async def roll_back(self, expected_live_version: int) -> PolicyCard:
        """Go back to the parameters before the live version; return the new version."""
        request = controller_pb2.RollbackPolicyRequest(expected_live_version=expected_live_version)
        return await self._peer.call(
            self._stub.RollbackPolicy, request, self._timeout_seconds, operating.published
        )

    async def set_mode(self, route: str, mode: Mode | None) -> dict[str, Mode]:
        """Set the mode of a route, None: remove its own; return all modes."""
        return await self._peer.call(
            self._stub.SetMode,
            operating.mode_to_wire(route, mode),
            self._timeout_seconds,
            operating.modes_set,
        )

    async def trial(self) -> Trial | None:
        """Return the newest trial, running or over; None where there never was one."""
        try:
            return await self._peer.call(
                self._stub.GetRollout,
                controller_pb2.GetRolloutRequest(),
                self._timeout_seconds,
                operating.trial,
            )
        except NotFound:
            return None

    async def start_trial(self, wanted: TrialStart) -> Trial:
        """Put a version on trial; return it."""
        return await self._peer.call(
            self._stub.StartRollout,
            operating.trial_start_to_wire(wanted),
            self._timeout_seconds,
            operating.trial,
        )

    async def stop_trial(self) -> Trial:
        """End the running trial; raise FailedPrecondition where none is running."""
        return await self._peer.call(
            self._stub.StopRollout,
            controller_pb2.StopRolloutRequest(),
            self._timeout_seconds,
            operating.trial,
        )
