from thermesh.v1 import common_pb2 as _common_pb2
from thermesh.v1 import feature_pb2 as _feature_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RolloutStage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLLOUT_STAGE_UNSPECIFIED: _ClassVar[RolloutStage]
    ROLLOUT_STAGE_SHADOW: _ClassVar[RolloutStage]
    ROLLOUT_STAGE_CANARY: _ClassVar[RolloutStage]
    ROLLOUT_STAGE_PROMOTED: _ClassVar[RolloutStage]
    ROLLOUT_STAGE_ROLLED_BACK: _ClassVar[RolloutStage]
    ROLLOUT_STAGE_STOPPED: _ClassVar[RolloutStage]
ROLLOUT_STAGE_UNSPECIFIED: RolloutStage
ROLLOUT_STAGE_SHADOW: RolloutStage
ROLLOUT_STAGE_CANARY: RolloutStage
ROLLOUT_STAGE_PROMOTED: RolloutStage
ROLLOUT_STAGE_ROLLED_BACK: RolloutStage
ROLLOUT_STAGE_STOPPED: RolloutStage

class TemperatureRange(_message.Message):
    __slots__ = ("minimum", "maximum")
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    minimum: float
    maximum: float
    def __init__(self, minimum: _Optional[float] = ..., maximum: _Optional[float] = ...) -> None: ...

class Constraints(_message.Message):
    __slots__ = ("temperature", "guard", "penalties", "logit_bias", "max_tokens", "seed", "scenario", "temperature_range", "mode", "program")
    class LogitBiasEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: float
        def __init__(self, key: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    GUARD_FIELD_NUMBER: _ClassVar[int]
    PENALTIES_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_RANGE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    guard: _common_pb2.Guard
    penalties: _common_pb2.Penalties
    logit_bias: _containers.ScalarMap[int, float]
    max_tokens: int
    seed: int
    scenario: str
    temperature_range: TemperatureRange
    mode: _common_pb2.Mode
    program: _common_pb2.TemperatureProgram
    def __init__(self, temperature: _Optional[float] = ..., guard: _Optional[_Union[_common_pb2.Guard, _Mapping]] = ..., penalties: _Optional[_Union[_common_pb2.Penalties, _Mapping]] = ..., logit_bias: _Optional[_Mapping[int, float]] = ..., max_tokens: _Optional[int] = ..., seed: _Optional[int] = ..., scenario: _Optional[str] = ..., temperature_range: _Optional[_Union[TemperatureRange, _Mapping]] = ..., mode: _Optional[_Union[_common_pb2.Mode, str]] = ..., program: _Optional[_Union[_common_pb2.TemperatureProgram, _Mapping]] = ...) -> None: ...

class DecideRequest(_message.Message):
    __slots__ = ("context", "features", "constraints", "model", "route")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    context: _common_pb2.RequestContext
    features: _feature_pb2.FeatureVector
    constraints: Constraints
    model: str
    route: str
    def __init__(self, context: _Optional[_Union[_common_pb2.RequestContext, _Mapping]] = ..., features: _Optional[_Union[_feature_pb2.FeatureVector, _Mapping]] = ..., constraints: _Optional[_Union[Constraints, _Mapping]] = ..., model: _Optional[str] = ..., route: _Optional[str] = ...) -> None: ...

class DecideResponse(_message.Message):
    __slots__ = ("plan",)
    PLAN_FIELD_NUMBER: _ClassVar[int]
    plan: _common_pb2.DecodingPlan
    def __init__(self, plan: _Optional[_Union[_common_pb2.DecodingPlan, _Mapping]] = ...) -> None: ...

class SteerHello(_message.Message):
    __slots__ = ("replica_id", "model")
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    replica_id: str
    model: str
    def __init__(self, replica_id: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class SequenceTelemetry(_message.Message):
    __slots__ = ("request_id", "decision_id", "scenario", "token_count", "token_budget", "temperature", "mean_entropy", "prefill_entropy", "repetition", "revision", "deadline_unix_ms", "pinned", "traceparent", "drafted_tokens", "accepted_tokens")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_BUDGET_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    MEAN_ENTROPY_FIELD_NUMBER: _ClassVar[int]
    PREFILL_ENTROPY_FIELD_NUMBER: _ClassVar[int]
    REPETITION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    DRAFTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    decision_id: str
    scenario: str
    token_count: int
    token_budget: int
    temperature: float
    mean_entropy: float
    prefill_entropy: float
    repetition: float
    revision: int
    deadline_unix_ms: int
    pinned: bool
    traceparent: str
    drafted_tokens: int
    accepted_tokens: int
    def __init__(self, request_id: _Optional[str] = ..., decision_id: _Optional[str] = ..., scenario: _Optional[str] = ..., token_count: _Optional[int] = ..., token_budget: _Optional[int] = ..., temperature: _Optional[float] = ..., mean_entropy: _Optional[float] = ..., prefill_entropy: _Optional[float] = ..., repetition: _Optional[float] = ..., revision: _Optional[int] = ..., deadline_unix_ms: _Optional[int] = ..., pinned: bool = ..., traceparent: _Optional[str] = ..., drafted_tokens: _Optional[int] = ..., accepted_tokens: _Optional[int] = ...) -> None: ...

class SequenceEnded(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class TelemetryReport(_message.Message):
    __slots__ = ("sequences", "ended", "load")
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    sequences: _containers.RepeatedCompositeFieldContainer[SequenceTelemetry]
    ended: _containers.RepeatedCompositeFieldContainer[SequenceEnded]
    load: _common_pb2.LoadReport
    def __init__(self, sequences: _Optional[_Iterable[_Union[SequenceTelemetry, _Mapping]]] = ..., ended: _Optional[_Iterable[_Union[SequenceEnded, _Mapping]]] = ..., load: _Optional[_Union[_common_pb2.LoadReport, _Mapping]] = ...) -> None: ...

class SteerRequest(_message.Message):
    __slots__ = ("hello", "report")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    hello: SteerHello
    report: TelemetryReport
    def __init__(self, hello: _Optional[_Union[SteerHello, _Mapping]] = ..., report: _Optional[_Union[TelemetryReport, _Mapping]] = ...) -> None: ...

class SteerWelcome(_message.Message):
    __slots__ = ("report_every_tokens",)
    REPORT_EVERY_TOKENS_FIELD_NUMBER: _ClassVar[int]
    report_every_tokens: int
    def __init__(self, report_every_tokens: _Optional[int] = ...) -> None: ...

class SequenceRevision(_message.Message):
    __slots__ = ("request_id", "update", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    update: _common_pb2.ParameterUpdate
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., update: _Optional[_Union[_common_pb2.ParameterUpdate, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class SteerResponse(_message.Message):
    __slots__ = ("welcome", "revision")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    welcome: SteerWelcome
    revision: SequenceRevision
    def __init__(self, welcome: _Optional[_Union[SteerWelcome, _Mapping]] = ..., revision: _Optional[_Union[SequenceRevision, _Mapping]] = ...) -> None: ...

class ReportOutcomeRequest(_message.Message):
    __slots__ = ("context", "decision_id", "finish_reason", "usage", "mean_temperature", "mean_entropy", "prefill_entropy", "mean_log_probability", "repetition", "temperatures", "drafted_tokens", "accepted_tokens")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    MEAN_TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    MEAN_ENTROPY_FIELD_NUMBER: _ClassVar[int]
    PREFILL_ENTROPY_FIELD_NUMBER: _ClassVar[int]
    MEAN_LOG_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    REPETITION_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURES_FIELD_NUMBER: _ClassVar[int]
    DRAFTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    context: _common_pb2.RequestContext
    decision_id: str
    finish_reason: _common_pb2.FinishReason
    usage: _common_pb2.Usage
    mean_temperature: float
    mean_entropy: float
    prefill_entropy: float
    mean_log_probability: float
    repetition: float
    temperatures: _containers.RepeatedScalarFieldContainer[float]
    drafted_tokens: int
    accepted_tokens: int
    def __init__(self, context: _Optional[_Union[_common_pb2.RequestContext, _Mapping]] = ..., decision_id: _Optional[str] = ..., finish_reason: _Optional[_Union[_common_pb2.FinishReason, str]] = ..., usage: _Optional[_Union[_common_pb2.Usage, _Mapping]] = ..., mean_temperature: _Optional[float] = ..., mean_entropy: _Optional[float] = ..., prefill_entropy: _Optional[float] = ..., mean_log_probability: _Optional[float] = ..., repetition: _Optional[float] = ..., temperatures: _Optional[_Iterable[float]] = ..., drafted_tokens: _Optional[int] = ..., accepted_tokens: _Optional[int] = ...) -> None: ...

class ReportOutcomeResponse(_message.Message):
    __slots__ = ("duplicate",)
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    duplicate: bool
    def __init__(self, duplicate: bool = ...) -> None: ...

class PolicySummary(_message.Message):
    __slots__ = ("version", "kind", "created_unix_ms", "reason", "parent_version", "feedback_count", "live")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CREATED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PARENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_COUNT_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    version: int
    kind: str
    created_unix_ms: int
    reason: str
    parent_version: int
    feedback_count: int
    live: bool
    def __init__(self, version: _Optional[int] = ..., kind: _Optional[str] = ..., created_unix_ms: _Optional[int] = ..., reason: _Optional[str] = ..., parent_version: _Optional[int] = ..., feedback_count: _Optional[int] = ..., live: bool = ...) -> None: ...

class ListPoliciesRequest(_message.Message):
    __slots__ = ("limit", "before_version")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_VERSION_FIELD_NUMBER: _ClassVar[int]
    limit: int
    before_version: int
    def __init__(self, limit: _Optional[int] = ..., before_version: _Optional[int] = ...) -> None: ...

class ListPoliciesResponse(_message.Message):
    __slots__ = ("policies", "modes")
    class ModesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _common_pb2.Mode
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_common_pb2.Mode, str]] = ...) -> None: ...
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    MODES_FIELD_NUMBER: _ClassVar[int]
    policies: _containers.RepeatedCompositeFieldContainer[PolicySummary]
    modes: _containers.ScalarMap[str, _common_pb2.Mode]
    def __init__(self, policies: _Optional[_Iterable[_Union[PolicySummary, _Mapping]]] = ..., modes: _Optional[_Mapping[str, _common_pb2.Mode]] = ...) -> None: ...

class GetPolicyRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    def __init__(self, version: _Optional[int] = ...) -> None: ...

class GetPolicyResponse(_message.Message):
    __slots__ = ("policy", "parameters_json")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_JSON_FIELD_NUMBER: _ClassVar[int]
    policy: PolicySummary
    parameters_json: str
    def __init__(self, policy: _Optional[_Union[PolicySummary, _Mapping]] = ..., parameters_json: _Optional[str] = ...) -> None: ...

class PromotePolicyRequest(_message.Message):
    __slots__ = ("version", "expected_live_version")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_LIVE_VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    expected_live_version: int
    def __init__(self, version: _Optional[int] = ..., expected_live_version: _Optional[int] = ...) -> None: ...

class PromotePolicyResponse(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: PolicySummary
    def __init__(self, policy: _Optional[_Union[PolicySummary, _Mapping]] = ...) -> None: ...

class RollbackPolicyRequest(_message.Message):
    __slots__ = ("expected_live_version",)
    EXPECTED_LIVE_VERSION_FIELD_NUMBER: _ClassVar[int]
    expected_live_version: int
    def __init__(self, expected_live_version: _Optional[int] = ...) -> None: ...

class RollbackPolicyResponse(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: PolicySummary
    def __init__(self, policy: _Optional[_Union[PolicySummary, _Mapping]] = ...) -> None: ...

class SetModeRequest(_message.Message):
    __slots__ = ("route", "mode")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    route: str
    mode: _common_pb2.Mode
    def __init__(self, route: _Optional[str] = ..., mode: _Optional[_Union[_common_pb2.Mode, str]] = ...) -> None: ...

class SetModeResponse(_message.Message):
    __slots__ = ("modes",)
    class ModesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _common_pb2.Mode
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_common_pb2.Mode, str]] = ...) -> None: ...
    MODES_FIELD_NUMBER: _ClassVar[int]
    modes: _containers.ScalarMap[str, _common_pb2.Mode]
    def __init__(self, modes: _Optional[_Mapping[str, _common_pb2.Mode]] = ...) -> None: ...

class Rollout(_message.Message):
    __slots__ = ("number", "candidate_version", "stage", "share", "promotes", "began_unix_ms", "live_count", "candidate_count", "live_value", "candidate_value", "candidate_lower", "candidate_upper", "effective_count", "agreement", "is_better")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_VERSION_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    PROMOTES_FIELD_NUMBER: _ClassVar[int]
    BEGAN_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    LIVE_COUNT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_COUNT_FIELD_NUMBER: _ClassVar[int]
    LIVE_VALUE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_VALUE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_LOWER_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_UPPER_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_COUNT_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    IS_BETTER_FIELD_NUMBER: _ClassVar[int]
    number: int
    candidate_version: int
    stage: RolloutStage
    share: float
    promotes: bool
    began_unix_ms: int
    live_count: int
    candidate_count: int
    live_value: float
    candidate_value: float
    candidate_lower: float
    candidate_upper: float
    effective_count: float
    agreement: float
    is_better: bool
    def __init__(self, number: _Optional[int] = ..., candidate_version: _Optional[int] = ..., stage: _Optional[_Union[RolloutStage, str]] = ..., share: _Optional[float] = ..., promotes: bool = ..., began_unix_ms: _Optional[int] = ..., live_count: _Optional[int] = ..., candidate_count: _Optional[int] = ..., live_value: _Optional[float] = ..., candidate_value: _Optional[float] = ..., candidate_lower: _Optional[float] = ..., candidate_upper: _Optional[float] = ..., effective_count: _Optional[float] = ..., agreement: _Optional[float] = ..., is_better: bool = ...) -> None: ...

class StartRolloutRequest(_message.Message):
    __slots__ = ("version", "stage", "share", "promotes")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    PROMOTES_FIELD_NUMBER: _ClassVar[int]
    version: int
    stage: RolloutStage
    share: float
    promotes: bool
    def __init__(self, version: _Optional[int] = ..., stage: _Optional[_Union[RolloutStage, str]] = ..., share: _Optional[float] = ..., promotes: bool = ...) -> None: ...

class StartRolloutResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ...) -> None: ...

class GetRolloutRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetRolloutResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ...) -> None: ...

class StopRolloutRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StopRolloutResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: Rollout
    def __init__(self, rollout: _Optional[_Union[Rollout, _Mapping]] = ...) -> None: ...

class ImportPolicyRequest(_message.Message):
    __slots__ = ("kind", "parameters_json", "feedback_count")
    KIND_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_JSON_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_COUNT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    parameters_json: str
    feedback_count: int
    def __init__(self, kind: _Optional[str] = ..., parameters_json: _Optional[str] = ..., feedback_count: _Optional[int] = ...) -> None: ...

class ImportPolicyResponse(_message.Message):
    __slots__ = ("policy",)
    POLICY_FIELD_NUMBER: _ClassVar[int]
    policy: PolicySummary
    def __init__(self, policy: _Optional[_Union[PolicySummary, _Mapping]] = ...) -> None: ...
