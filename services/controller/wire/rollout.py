"""Trials of candidates and imported parameters, to values and back."""

from __future__ import annotations

import json
import math

from services.controller import checks
from services.controller.administration import Wanted
from services.controller.policies.policy import KINDS, Parameters, parameters_of
from services.controller.trust.rollout import SHARES, Rollout, Stage
from thermesh.errors import InvalidArgument
from thermesh.v1 import controller_pb2

DEFAULT_SHARE = 0.1
PARAMETERS_LIMIT = 4 * 1024 * 1024
_NUMBERS: dict[Stage, controller_pb2.RolloutStage] = {
    Stage.SHADOW: controller_pb2.ROLLOUT_STAGE_SHADOW,
    Stage.CANARY: controller_pb2.ROLLOUT_STAGE_CANARY,
    Stage.PROMOTED: controller_pb2.ROLLOUT_STAGE_PROMOTED,
    Stage.ROLLED_BACK: controller_pb2.ROLLOUT_STAGE_ROLLED_BACK,
    Stage.STOPPED: controller_pb2.ROLLOUT_STAGE_STOPPED,
}
_BEGINNINGS: dict[int, Stage] = {_NUMBERS[stage]: stage for stage in (Stage.SHADOW, Stage.CANARY)}


def wanted(request: controller_pb2.StartRolloutRequest) -> Wanted:
    """Read the trial that a person asks for."""
    if request.stage not in _BEGINNINGS:
        raise checks.refused("stage", request.stage, "shadow or canary")
    share = checks.within(request.share or DEFAULT_SHARE, *SHARES, "share")
    return Wanted(request.version, _BEGINNINGS[request.stage], share, request.promotes)


def rollout(value: Rollout) -> controller_pb2.Rollout:
    """Write the state of a trial; what is not known yet is 0."""
    estimate, evidence = value.evidence.estimate, value.evidence
    known = math.isfinite(estimate.lower)
    return controller_pb2.Rollout(
        number=value.number,
        candidate_version=value.candidate,
        stage=_NUMBERS[value.stage],
        share=value.share,
        promotes=value.promotes,
        began_unix_ms=value.began_unix_ms,
        live_count=value.canary.control,
        candidate_count=value.canary.seen,
        live_value=value.canary.mean,
        candidate_value=estimate.value,
        candidate_lower=estimate.lower if known else 0.0,
        candidate_upper=estimate.upper if known else 0.0,
        effective_count=estimate.effective_count,
        agreement=evidence.agreed / evidence.count if evidence.count else 0.0,
        is_better=value.is_better,
    )


def parameters(request: controller_pb2.ImportPolicyRequest) -> Parameters:
    """Read parameters from elsewhere."""
    if request.kind not in KINDS:
        raise checks.refused("kind", repr(request.kind), f"one of {', '.join(KINDS)}")
    text = checks.short(request.parameters_json, PARAMETERS_LIMIT, "parameters_json")
    try:
        return parameters_of(request.kind, json.loads(text))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidArgument(
            f"parameters_json must be the parameters of a {request.kind} policy, as"
            " GetPolicy returns them",
            field="parameters_json",
        ) from error
