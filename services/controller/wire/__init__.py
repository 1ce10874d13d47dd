"""Protobuf messages to values and back; every check of what comes in is here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from services.controller import checks
from services.controller.decisions.decision import Constraints, Decision, Mode, Observation, Source
from services.controller.decisions.records import Context, Feedback, Outcome, PolicyVersion
from services.controller.policies.policy import NEUTRAL
from services.controller.wire import sampling
from thermesh.errors import InvalidArgument
from thermesh.features import FEATURES, SCHEMA_VERSION, TASKS
from thermesh.v1 import common_pb2, controller_pb2, feature_pb2, feedback_pb2

# float32 on the wire: values at the end of a range may be a hair outside of it.
_ROUNDING = 1e-3
_MINIMA = np.array([feature.minimum for feature in FEATURES])
_MAXIMA = np.array([feature.maximum for feature in FEATURES])

_MODE_NUMBERS = {
    Mode.OBSERVE: common_pb2.MODE_OBSERVE,
    Mode.APPLY: common_pb2.MODE_APPLY,
    Mode.BYPASS: common_pb2.MODE_BYPASS,
}
_MODES: dict[int, Mode] = {number: mode for mode, number in _MODE_NUMBERS.items()}
_TASK_NUMBERS: dict[str, common_pb2.Task] = {
    task: getattr(common_pb2, f"TASK_{task.upper()}") for task in TASKS
} | {"": common_pb2.TASK_UNSPECIFIED}
_SOURCES = {
    Source.POLICY: common_pb2.PLAN_SOURCE_POLICY,
    Source.PINNED: common_pb2.PLAN_SOURCE_PINNED,
    Source.STATIC: common_pb2.PLAN_SOURCE_STATIC,
}


_COMPUTE_PATHS = {
    "light": common_pb2.COMPUTE_PATH_LIGHT,
    "standard": common_pb2.COMPUTE_PATH_STANDARD,
    "heavy": common_pb2.COMPUTE_PATH_HEAVY,
}


def context(message: common_pb2.RequestContext, traceparent: str = "") -> Context:
    """Read who asks; `traceparent` stands in where the message has none."""
    checks.within(message.deadline_unix_ms, 0, 2**62, "context.deadline_unix_ms")
    return Context(
        request_id=checks.name_or_empty(message.request_id, "context.request_id"),
        session_id=checks.name_or_empty(message.session_id, "context.session_id"),
        tenant=tenant(message.tenant, "context.tenant"),
        traceparent=checks.short(message.traceparent, 128, "context.traceparent") or traceparent,
    )


def tenant(value: str, field: str) -> str:
    """Read a tenant; empty is `default`."""
    return checks.name_or_empty(value, field) or "default"


def observation(request: controller_pb2.DecideRequest) -> Observation:
    """Read the features; neutral ones where there are none."""
    if not request.HasField("features"):
        return Observation(NEUTRAL, "")
    vector: feature_pb2.FeatureVector = request.features
    if vector.schema_version != SCHEMA_VERSION:
        allowed = f"{SCHEMA_VERSION}, the version this controller knows"
        raise checks.refused("features.schema_version", vector.schema_version, allowed)
    values = np.array(vector.values, dtype=np.float64)
    if values.shape != (len(FEATURES),):
        raise checks.refused("features.values", f"{values.size} long", f"{len(FEATURES)} long")
    inside = (values >= _MINIMA - _ROUNDING) & (values <= _MAXIMA + _ROUNDING)
    if not inside.all():
        index = int(np.argmin(inside))
        feature = FEATURES[index]
        field = f"features.values[{index}]"
        checks.within(values[index], feature.minimum, feature.maximum, field)
    if not 0 <= vector.task <= len(TASKS):
        raise checks.refused("features.task", vector.task, "a member of Task")
    task = TASKS[vector.task - 1] if vector.task else ""
    return Observation(np.clip(values, _MINIMA, _MAXIMA), task)


def constraints(message: controller_pb2.Constraints) -> Constraints:
    """Read the user's own values."""
    pinned = message.HasField("temperature")
    if pinned and message.HasField("program"):
        raise InvalidArgument(
            "constraints.program excludes constraints.temperature; set one of them",
            field="constraints.program",
        )
    return Constraints(
        temperature=checks.temperature_or_greedy(message.temperature, "constraints.temperature")
        if pinned
        else None,
        program=sampling.program(message.program, "constraints.program")
        if message.HasField("program")
        else None,
        guard=sampling.guard(message.guard, "constraints.guard"),
        penalties=sampling.penalties(message.penalties, "constraints.penalties"),
        logit_bias=sampling.logit_bias(message.logit_bias, "constraints.logit_bias"),
        max_tokens=message.max_tokens,
        seed=message.seed if message.HasField("seed") else None,
        scenario=message.scenario,
        temperature_range=_temperature_range(message),
        mode=mode(message.mode, "constraints.mode"),
    )


def mode(number: int, field: str) -> Mode | None:
    """Read a mode; None where it is unspecified."""
    if number == common_pb2.MODE_UNSPECIFIED:
        return None
    if number not in _MODES:
        raise checks.refused(field, number, "a member of Mode")
    return _MODES[number]


def modes(by_route: Mapping[str, Mode]) -> dict[str, common_pb2.Mode]:
    """Write modes by route."""
    return {route: _MODE_NUMBERS[each] for route, each in by_route.items()}


def any_route(value: str) -> str:
    """Read the route that a request came by; empty: none."""
    return checks.short(value, 128, "route")


def route(value: str, field: str = "route") -> str:
    """Read a route that a mode is set for."""
    checks.short(value, 128, field)
    if value != "*" and not value.startswith("/"):
        raise checks.refused(field, repr(value), "* or a path that begins with /")
    return value


def model(value: str) -> str:
    """Read the name of a model."""
    return checks.short(value, 256, "model")


def limit(value: int) -> int:
    """Read how many versions to list; 0 is 50."""
    return int(checks.within(value or 50, 1, 1000, "limit"))


def plan(decision: Decision) -> common_pb2.DecodingPlan:
    """Write a decision as the plan that inference follows."""
    return common_pb2.DecodingPlan(
        decision_id=decision.decision_id,
        policy_version=decision.policy_version,
        source=_SOURCES[decision.source],
        sampling=sampling.sampling(decision.sampling),
        token_budget=decision.token_budget,
        compute_path=_COMPUTE_PATHS[decision.compute_path],
        task=_TASK_NUMBERS[decision.observation.task],
        scenario=decision.envelope.scenario,
        log_density=decision.log_density,
        propensity=decision.propensity,
        explored=decision.explored,
        seed=decision.seed,
        policy_temperature=decision.policy_temperature,
    )


def outcome(request: controller_pb2.ReportOutcomeRequest) -> Outcome:
    """Read how decoding went."""
    checks.name(request.decision_id, "decision_id")
    if len(request.temperatures) > 8192:
        length = f"{len(request.temperatures)} long"
        raise checks.refused("temperatures", length, "at most 8192 long")
    known = common_pb2.FinishReason.values()
    if request.finish_reason not in known or not request.finish_reason:
        raise checks.refused("finish_reason", request.finish_reason, "a reason that is known")
    usage = request.usage
    finish = common_pb2.FinishReason.Name(request.finish_reason)
    return Outcome(
        decision_id=request.decision_id,
        finish_reason=finish.removeprefix("FINISH_REASON_").lower(),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        queue_time_us=usage.queue_time_us,
        prefill_time_us=usage.prefill_time_us,
        decode_time_us=usage.decode_time_us,
        mean_temperature=checks.within(request.mean_temperature, 0, 4, "mean_temperature"),
        mean_entropy=checks.within(request.mean_entropy, 0, 100, "mean_entropy"),
        prefill_entropy=checks.within(request.prefill_entropy, 0, 100, "prefill_entropy"),
        mean_log_probability=checks.within(
            request.mean_log_probability, -1e6, 0, "mean_log_probability"
        ),
        repetition=checks.within(request.repetition, 0, 1, "repetition"),
        temperatures=_trace(request.temperatures),
    )


def feedback(request: feedback_pb2.SubmitFeedbackRequest) -> Feedback:
    """Read one piece of feedback."""
    signal = request.signal or feedback_pb2.FEEDBACK_SIGNAL_EXPLICIT
    if signal not in feedback_pb2.FeedbackSignal.values():
        raise checks.refused("signal", signal, "a member of FeedbackSignal")
    name = feedback_pb2.FeedbackSignal.Name(signal)
    return Feedback(
        tenant=tenant(request.context.tenant, "context.tenant"),
        feedback_id=checks.name(request.feedback_id, "feedback_id"),
        decision_id=checks.name(request.decision_id, "decision_id"),
        score=checks.within(request.score, -1, 1, "score"),
        signal=name.removeprefix("FEEDBACK_SIGNAL_").lower(),
        comment=checks.short(request.comment, 4096, "comment"),
    )


def state(applied_version: int) -> feedback_pb2.FeedbackState:
    """Write how far the learner is with feedback applied in that version; 0: not yet."""
    if applied_version:
        return feedback_pb2.FEEDBACK_STATE_APPLIED
    return feedback_pb2.FEEDBACK_STATE_PENDING


def summary(version: PolicyVersion, live: int | None = None) -> controller_pb2.PolicySummary:
    """Write a version without its parameters; it is live itself unless `live` is given."""
    return controller_pb2.PolicySummary(
        version=version.version,
        kind=version.kind,
        created_unix_ms=version.created_unix_ms,
        reason=version.reason,
        parent_version=version.parent_version,
        feedback_count=version.feedback_count,
        live=live in (None, version.version),
    )


def policy(version: PolicyVersion, live: int) -> controller_pb2.GetPolicyResponse:
    """Write a version with its parameters, as JSON."""
    parameters = json.dumps(version.parameters.to_lists())
    return controller_pb2.GetPolicyResponse(
        policy=summary(version, live), parameters_json=parameters
    )


def policies(
    versions: Sequence[PolicyVersion], live: int, by_route: Mapping[str, Mode]
) -> controller_pb2.ListPoliciesResponse:
    """Write versions without parameters, and the modes."""
    summaries = [summary(version, live) for version in versions]
    return controller_pb2.ListPoliciesResponse(policies=summaries, modes=modes(by_route))


def feedback_name(request: feedback_pb2.GetFeedbackRequest) -> tuple[str, str]:
    """Read (tenant, feedback id)."""
    return tenant(request.tenant, "tenant"), checks.name(request.feedback_id, "feedback_id")


def _temperature_range(message: controller_pb2.Constraints) -> tuple[float, float] | None:
    if not message.HasField("temperature_range"):
        return None
    wanted, field = message.temperature_range, "constraints.temperature_range"
    minimum = checks.temperature(wanted.minimum, f"{field}.minimum")
    maximum = checks.temperature(wanted.maximum, f"{field}.maximum")
    if maximum < minimum:
        raise checks.refused(f"{field}.maximum", maximum, f"not below minimum, {minimum:g}")
    return minimum, maximum


def _trace(temperatures: Sequence[float]) -> tuple[float, ...]:
    for index, value in enumerate(temperatures):
        checks.within(value, 0, 4, f"temperatures[{index}]")
    return tuple(temperatures)
