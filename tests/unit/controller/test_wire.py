"""Every value that comes in is checked and every error names its field."""

from __future__ import annotations

import math

import pytest

from services.controller import wire
from services.controller.decisions.decision import Constraints, Mode
from services.controller.decisions.steering import Revision
from services.controller.policies.policy import NEUTRAL
from services.controller.sampling import Dynatemp, Edt, Fixed, Guard, Penalties, Residual
from services.controller.wire import steering as wire_steering
from thermesh.errors import InvalidArgument
from thermesh.features import FEATURES, SCHEMA_VERSION
from thermesh.v1 import common_pb2, controller_pb2, feature_pb2, feedback_pb2

BAD_CONSTRAINTS = [
    ({"temperature": 0.05}, "constraints.temperature"),
    ({"temperature": 2.01}, "constraints.temperature"),
    ({"temperature": math.nan}, "constraints.temperature"),
    ({"temperature": -1.0}, "constraints.temperature"),
    ({"temperature": 0.5, "program": {"fixed": {"temperature": 0.5}}}, "constraints.program"),
    ({"program": {}}, "constraints.program.kind"),
    ({"program": {"fixed": {"temperature": 3}}}, "constraints.program.fixed.temperature"),
    (
        {"program": {"edt": {"base_temperature": 0, "theta": 1}}},
        "constraints.program.edt.base_temperature",
    ),
    (
        {"program": {"residual": {"temperature": 0, "slope": 1}}},
        "constraints.program.residual.temperature",
    ),
    (
        {"program": {"residual": {"temperature": 1, "slope": 11}}},
        "constraints.program.residual.slope",
    ),
    (
        {"program": {"residual": {"temperature": 1, "centre": -1}}},
        "constraints.program.residual.centre",
    ),
    (
        {"program": {"residual": {"temperature": 1, "range": math.nan}}},
        "constraints.program.residual.range",
    ),
    (
        {"program": {"edt": {"base_temperature": 1, "theta": 0}}},
        "constraints.program.edt.theta",
    ),
    (
        {"program": {"dynatemp": {"temperature": 0, "range": 1, "exponent": 1}}},
        "constraints.program.dynatemp.temperature",
    ),
    (
        {"program": {"dynatemp": {"temperature": 1, "range": -1, "exponent": 1}}},
        "constraints.program.dynatemp.range",
    ),
    (
        {"program": {"dynatemp": {"temperature": 1, "range": 1, "exponent": 11}}},
        "constraints.program.dynatemp.exponent",
    ),
    ({"guard": {"top_n_sigma": 0}}, "constraints.guard.top_n_sigma"),
    ({"guard": {"min_p": 1.5}}, "constraints.guard.min_p"),
    ({"guard": {"top_p": math.nan}}, "constraints.guard.top_p"),
    ({"guard": {"top_k": 0}}, "constraints.guard.top_k"),
    ({"penalties": {"repetition": 11}}, "constraints.penalties.repetition"),
    ({"penalties": {"presence": -3}}, "constraints.penalties.presence"),
    ({"penalties": {"frequency": math.inf}}, "constraints.penalties.frequency"),
    ({"logit_bias": {1: 101}}, "constraints.logit_bias[1]"),
    ({"logit_bias": {-1: 1}}, "constraints.logit_bias token id"),
    ({"logit_bias": dict.fromkeys(range(1025), 1.0)}, "constraints.logit_bias"),
    ({"temperature_range": {"minimum": 0, "maximum": 1}}, "constraints.temperature_range.minimum"),
    ({"temperature_range": {"minimum": 1}}, "constraints.temperature_range.maximum"),
    (
        {"temperature_range": {"minimum": 1, "maximum": 0.5}},
        "constraints.temperature_range.maximum",
    ),
    ({"mode": 9}, "constraints.mode"),
]


@pytest.mark.parametrize(("members", "field"), BAD_CONSTRAINTS, ids=lambda value: str(value)[:60])
def test_bad_constraints_are_refused(members, field):
    """InvalidArgument with the path of the field and what is allowed."""
    with pytest.raises(InvalidArgument) as raised:
        wire.constraints(controller_pb2.Constraints(**members))

    assert raised.value.field == field
    assert field in raised.value.message


def test_constraints_are_read_whole():
    """Set members arrive, members that are not set are left to the policy."""
    read = wire.constraints(
        controller_pb2.Constraints(
            temperature=0.0,
            guard={"top_p": 0.9, "top_k": 40},
            penalties={"presence": 1.0},
            logit_bias={7: -100.0},
            max_tokens=5,
            seed=0,
            scenario="code",
            temperature_range={"minimum": 0.2, "maximum": 0.4},
            mode=common_pb2.MODE_OBSERVE,
        )
    )

    assert read == Constraints(
        temperature=0.0,
        guard=Guard(top_p=0.9, top_k=40),
        penalties=Penalties(presence=1.0),
        logit_bias={7: -100.0},
        max_tokens=5,
        seed=0,
        scenario="code",
        temperature_range=(0.2, 0.4),
        mode=Mode.OBSERVE,
    )
    assert wire.constraints(controller_pb2.Constraints()) == Constraints()


def vector(**changes):
    """A request whose features are neutral but for `changes`."""
    members = {
        "schema_version": SCHEMA_VERSION,
        "values": NEUTRAL.tolist(),
        "task": common_pb2.TASK_CODE,
        **changes,
    }
    return controller_pb2.DecideRequest(features=feature_pb2.FeatureVector(**members))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"schema_version": 0}, "features.schema_version"),
        ({"schema_version": SCHEMA_VERSION + 1}, "features.schema_version"),
        ({"values": []}, "features.values"),
        ({"values": [0.0] * (len(FEATURES) + 1)}, "features.values"),
        ({"values": [0.0, 1.5, *[0.0] * (len(FEATURES) - 2)]}, "features.values[1]"),
        ({"values": [math.nan, *[0.0] * (len(FEATURES) - 1)]}, "features.values[0]"),
        ({"task": 99}, "features.task"),
    ],
    ids=str,
)
def test_bad_features_are_refused(changes, field):
    """A vector of another schema or out of its ranges never reaches the policy."""
    with pytest.raises(InvalidArgument) as raised:
        wire.observation(vector(**changes))

    assert raised.value.field == field


def test_features_are_read_and_rounding_is_forgiven():
    """A float32 a hair outside of its range counts as its end."""
    values = NEUTRAL.tolist()
    values[0] = 1.00001
    read = wire.observation(vector(values=values))

    assert read.task == "code"
    assert read.features[0] == 1.0


def test_absent_features_are_neutral():
    """The policy decides also where the feature service did not answer."""
    read = wire.observation(controller_pb2.DecideRequest())

    assert read.task == ""
    assert read.features is NEUTRAL


@pytest.mark.parametrize("member", ["request_id", "session_id", "tenant"])
@pytest.mark.parametrize("bad", ["a b", "x" * 65, "ü", "a:b", "a\n"])
def test_bad_names_are_refused(member, bad):
    """Ids are made of few characters, so that they are safe in keys and logs."""
    with pytest.raises(InvalidArgument) as raised:
        wire.context(common_pb2.RequestContext(**{member: bad}))

    assert raised.value.field == f"context.{member}"


def test_context_has_defaults():
    """No tenant is `default`; the call's own trace stands in for a missing one."""
    read = wire.context(common_pb2.RequestContext(), "00-aa-bb-01")
    given = wire.context(common_pb2.RequestContext(traceparent="00-cc-dd-01"), "00-aa-bb-01")

    assert (read.tenant, read.traceparent) == ("default", "00-aa-bb-01")
    assert given.traceparent == "00-cc-dd-01"


FEEDBACK = {"feedback_id": "f1", "decision_id": "dec-1", "score": 0.5}
OUTCOME = {"decision_id": "dec-1", "finish_reason": common_pb2.FINISH_REASON_STOP}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"feedback_id": ""}, "feedback_id"),
        ({"feedback_id": "a/b"}, "feedback_id"),
        ({"decision_id": ""}, "decision_id"),
        ({"score": 1.01}, "score"),
        ({"score": math.nan}, "score"),
        ({"signal": 42}, "signal"),
        ({"comment": "x" * 4097}, "comment"),
        ({"context": {"tenant": "a b"}}, "context.tenant"),
    ],
    ids=str,
)
def test_bad_feedback_is_refused(changes, field):
    """Nothing is stored of it."""
    with pytest.raises(InvalidArgument) as raised:
        wire.feedback(feedback_pb2.SubmitFeedbackRequest(**{**FEEDBACK, **changes}))

    assert raised.value.field == field


def test_an_unspecified_signal_is_explicit():
    """Signals are stored by name."""
    request = feedback_pb2.SubmitFeedbackRequest(**FEEDBACK)
    verified = feedback_pb2.SubmitFeedbackRequest(**FEEDBACK, signal=5)

    assert wire.feedback(request).signal == "explicit"
    assert wire.feedback(verified).signal == "verifier"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"decision_id": ""}, "decision_id"),
        ({"finish_reason": 0}, "finish_reason"),
        ({"finish_reason": 77}, "finish_reason"),
        ({"repetition": 1.5}, "repetition"),
        ({"mean_entropy": math.nan}, "mean_entropy"),
        ({"mean_log_probability": 0.1}, "mean_log_probability"),
        ({"temperatures": [math.inf]}, "temperatures[0]"),
        ({"temperatures": [1.0] * 8193}, "temperatures"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_outcomes_are_refused(changes, field):
    """What is wrong will not become right by trying again."""
    with pytest.raises(InvalidArgument) as raised:
        wire.outcome(controller_pb2.ReportOutcomeRequest(**{**OUTCOME, **changes}))

    assert raised.value.field == field


@pytest.mark.parametrize(
    ("route", "good"), [("*", True), ("/v1", True), ("", False), ("v1", False)]
)
def test_routes_begin_with_a_slash(route, good):
    """Or are the star that stands for all."""
    if good:
        assert wire.route(route) == route
        return
    with pytest.raises(InvalidArgument) as raised:
        wire.route(route)
    assert raised.value.field == "route"


@pytest.mark.parametrize(("value", "read"), [(0, 50), (1, 1), (1000, 1000), (1001, None)])
def test_lists_are_limited(value, read):
    """0 is read as 50."""
    if read is None:
        with pytest.raises(InvalidArgument):
            wire.limit(value)
    else:
        assert wire.limit(value) == read


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        (Fixed(0.7), "fixed"),
        (Edt(0.8, 0.1), "edt"),
        (Dynatemp(0.6, 0.2, 1.0), "dynatemp"),
        (Residual(0.6, -0.5, 1.5, 0.2), "residual"),
    ],
)
def test_a_plan_says_what_was_decided(maker, program, kind):
    """Programs come out as they went in, and absent guard members stay absent."""
    decision = maker.decide("code", program=program, seed=9, guard=Guard(top_k=3))
    plan = wire.plan(decision)

    assert plan.sampling.program.WhichOneof("kind") == kind
    assert (
        wire.constraints(controller_pb2.Constraints(program=plan.sampling.program)).program
        == program
    )
    assert plan.sampling.guard == common_pb2.Guard(top_n_sigma=1.0, top_k=3)
    assert (plan.source, plan.task) == (common_pb2.PLAN_SOURCE_PINNED, common_pb2.TASK_CODE)
    assert (plan.scenario, plan.seed) == ("code", 9)
    assert plan.sampling.penalties.repetition == 1.0


def test_a_revision_carries_only_what_changes():
    """Members that are absent stay as they are."""
    message = wire_steering.revision(Revision("r1", 32, "deadline_near", token_budget=40)).revision

    assert (message.request_id, message.reason) == ("r1", "deadline_near")
    assert message.update.token_budget == 40
    assert not message.update.HasField("program")
    assert not message.update.HasField("penalties")
    full = wire_steering.revision(Revision("r1", 32, "repetition_loop", Fixed(0.9), Penalties(1.1)))
    assert full.revision.update.program.fixed.temperature == 0.9
    assert full.revision.update.penalties.repetition == 1.1
