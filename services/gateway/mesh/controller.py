"""The controller: plans within a budget, feedback, and the list of policies."""

from __future__ import annotations

from collections.abc import Callable

from services.gateway.asking import Ask, Features, new_request_id
from services.gateway.decoding import Plan
from services.gateway.feedback import Capabilities, Feedback, PolicyList, Receipt
from services.gateway.mesh.peer import Peer
from services.gateway.wire import catalog, requests, sampling
from thermesh.v1 import controller_pb2, controller_pb2_grpc, feedback_pb2, feedback_pb2_grpc


class ControllerClient:
    """The link to the controller; `saw_feedback` is told of feedback that was taken."""

    def __init__(
        self,
        peer: Peer,
        budget_seconds: float,
        timeout_seconds: float,
        saw_feedback: Callable[[Feedback], None],
    ) -> None:
        self.peer = peer
        self._stub = controller_pb2_grpc.ControllerServiceStub(peer.channel)
        self._feedback_stub = feedback_pb2_grpc.FeedbackServiceStub(peer.channel)
        self._budget_seconds = budget_seconds
        self._timeout_seconds = timeout_seconds
        self._saw_feedback = saw_feedback

    async def decide(
        self, ask: Ask, features: Features | None, within: Capabilities | None = None
    ) -> Plan:
        """Return the plan of a request, `within` what the engine can do, in the budget;
        raise MeshError otherwise.
        """
        self.peer.check_allowed()
        request = requests.decide_request(ask, features)
        if within is not None:
            request.capabilities.CopyFrom(catalog.capabilities_to_wire(within))
        return await self.peer.call(
            self._stub.Decide,
            request,
            self._budget_seconds,
            lambda answer: sampling.plan(answer.plan),
        )

    async def submit_feedback(self, feedback: Feedback) -> Receipt:
        """Hand feedback on; raise MeshError as FeedbackService says."""
        receipt = await self.peer.call(
            self._feedback_stub.SubmitFeedback,
            catalog.feedback_to_wire(feedback, new_request_id()),
            self._timeout_seconds,
            catalog.receipt,
        )
        if not receipt.duplicate:
            self._saw_feedback(feedback)
        return receipt

    async def get_feedback(self, feedback_id: str, tenant: str) -> Receipt:
        """Ask what became of feedback; raise NotFound where it is unknown."""
        return await self.peer.call(
            self._feedback_stub.GetFeedback,
            feedback_pb2.GetFeedbackRequest(feedback_id=feedback_id, tenant=tenant),
            self._timeout_seconds,
            catalog.receipt,
        )

    async def list_policies(self, limit: int, before_version: int) -> PolicyList:
        """Return stored versions, newest first."""
        return await self.peer.call(
            self._stub.ListPolicies,
            controller_pb2.ListPoliciesRequest(limit=limit, before_version=before_version),
            self._timeout_seconds,
            catalog.policy_list,
        )
