"""What operators read and change, on the wire."""

from __future__ import annotations

from services.gateway.decoding import Mode
from services.gateway.feedback import PolicyCard
from services.gateway.observability.operating import EngineLoad, Stage, Trial, TrialStart
from services.gateway.wire.catalog import modes, policy_card
from services.gateway.wire.sampling import enum_member, enum_value
from thermesh.errors import NotFound
from thermesh.v1 import common_pb2, controller_pb2, inference_pb2


def engine_load(message: inference_pb2.GetLoadResponse) -> EngineLoad:
    """Read how busy the engine is."""
    names = EngineLoad.__slots__
    return EngineLoad(**{name: getattr(message.load, name) for name in names})


RolloutTold = (
    controller_pb2.GetRolloutResponse
    | controller_pb2.StartRolloutResponse
    | controller_pb2.StopRolloutResponse
)


def trial_start_to_wire(value: TrialStart) -> controller_pb2.StartRolloutRequest:
    """Write what is to be tried."""
    return controller_pb2.StartRolloutRequest(
        version=value.version,
        stage=enum_value(controller_pb2.RolloutStage, value.stage, "ROLLOUT_STAGE"),
        share=value.share,
        promotes=value.promotes,
    )


def trial(message: RolloutTold) -> Trial:
    """Read a trial; raise NotFound where its stage is of a newer contract."""
    rollout = message.rollout
    stage = enum_member(Stage, controller_pb2.RolloutStage, rollout.stage, "ROLLOUT_STAGE")
    if stage is None:
        raise NotFound("the trial is in a stage that this gateway does not know")
    names = set(Trial.__slots__) - {"stage"}
    return Trial(stage=stage, **{name: getattr(rollout, name) for name in names})


def published(
    message: controller_pb2.PromotePolicyResponse | controller_pb2.RollbackPolicyResponse,
) -> PolicyCard:
    """Read the version that is live now."""
    return policy_card(message.policy)


def mode_to_wire(route: str, mode: Mode | None) -> controller_pb2.SetModeRequest:
    """Write a change of mode; None removes the route's own."""
    value = enum_value(common_pb2.Mode, mode, "MODE")
    return controller_pb2.SetModeRequest(route=route, mode=value)


def modes_set(message: controller_pb2.SetModeResponse) -> dict[str, Mode]:
    """Read the modes after a change."""
    return modes(message.modes)
