from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_BATCH: _ClassVar[Priority]
    PRIORITY_STANDARD: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_VOICE: _ClassVar[Priority]

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_SYSTEM: _ClassVar[Role]
    ROLE_USER: _ClassVar[Role]
    ROLE_ASSISTANT: _ClassVar[Role]

class Task(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_UNSPECIFIED: _ClassVar[Task]
    TASK_GENERATION: _ClassVar[Task]
    TASK_CLASSIFICATION: _ClassVar[Task]
    TASK_QUESTION_ANSWERING: _ClassVar[Task]
    TASK_CODE: _ClassVar[Task]
    TASK_TRANSLATION: _ClassVar[Task]
    TASK_ARITHMETIC: _ClassVar[Task]
    TASK_CHAT: _ClassVar[Task]

class ComputePath(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMPUTE_PATH_UNSPECIFIED: _ClassVar[ComputePath]
    COMPUTE_PATH_LIGHT: _ClassVar[ComputePath]
    COMPUTE_PATH_STANDARD: _ClassVar[ComputePath]
    COMPUTE_PATH_HEAVY: _ClassVar[ComputePath]

class ProgramKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROGRAM_KIND_UNSPECIFIED: _ClassVar[ProgramKind]
    PROGRAM_KIND_FIXED: _ClassVar[ProgramKind]
    PROGRAM_KIND_EDT: _ClassVar[ProgramKind]
    PROGRAM_KIND_DYNATEMP: _ClassVar[ProgramKind]
    PROGRAM_KIND_RESIDUAL: _ClassVar[ProgramKind]

class GuardMember(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GUARD_MEMBER_UNSPECIFIED: _ClassVar[GuardMember]
    GUARD_MEMBER_TOP_N_SIGMA: _ClassVar[GuardMember]
    GUARD_MEMBER_MIN_P: _ClassVar[GuardMember]
    GUARD_MEMBER_TOP_P: _ClassVar[GuardMember]
    GUARD_MEMBER_TOP_K: _ClassVar[GuardMember]

class PlanSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PLAN_SOURCE_UNSPECIFIED: _ClassVar[PlanSource]
    PLAN_SOURCE_POLICY: _ClassVar[PlanSource]
    PLAN_SOURCE_PINNED: _ClassVar[PlanSource]
    PLAN_SOURCE_STATIC: _ClassVar[PlanSource]
    PLAN_SOURCE_FALLBACK: _ClassVar[PlanSource]

class UpdateSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UPDATE_SOURCE_UNSPECIFIED: _ClassVar[UpdateSource]
    UPDATE_SOURCE_PLAN: _ClassVar[UpdateSource]
    UPDATE_SOURCE_CLIENT: _ClassVar[UpdateSource]
    UPDATE_SOURCE_CONTROLLER: _ClassVar[UpdateSource]

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    FINISH_REASON_STOP: _ClassVar[FinishReason]
    FINISH_REASON_STOP_STRING: _ClassVar[FinishReason]
    FINISH_REASON_LENGTH: _ClassVar[FinishReason]
    FINISH_REASON_CANCELLED: _ClassVar[FinishReason]
    FINISH_REASON_DEADLINE: _ClassVar[FinishReason]
    FINISH_REASON_ERROR: _ClassVar[FinishReason]

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_OBSERVE: _ClassVar[Mode]
    MODE_APPLY: _ClassVar[Mode]
    MODE_BYPASS: _ClassVar[Mode]
PRIORITY_UNSPECIFIED: Priority
PRIORITY_BATCH: Priority
PRIORITY_STANDARD: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_VOICE: Priority
ROLE_UNSPECIFIED: Role
ROLE_SYSTEM: Role
ROLE_USER: Role
ROLE_ASSISTANT: Role
TASK_UNSPECIFIED: Task
TASK_GENERATION: Task
TASK_CLASSIFICATION: Task
TASK_QUESTION_ANSWERING: Task
TASK_CODE: Task
TASK_TRANSLATION: Task
TASK_ARITHMETIC: Task
TASK_CHAT: Task
COMPUTE_PATH_UNSPECIFIED: ComputePath
COMPUTE_PATH_LIGHT: ComputePath
COMPUTE_PATH_STANDARD: ComputePath
COMPUTE_PATH_HEAVY: ComputePath
PROGRAM_KIND_UNSPECIFIED: ProgramKind
PROGRAM_KIND_FIXED: ProgramKind
PROGRAM_KIND_EDT: ProgramKind
PROGRAM_KIND_DYNATEMP: ProgramKind
PROGRAM_KIND_RESIDUAL: ProgramKind
GUARD_MEMBER_UNSPECIFIED: GuardMember
GUARD_MEMBER_TOP_N_SIGMA: GuardMember
GUARD_MEMBER_MIN_P: GuardMember
GUARD_MEMBER_TOP_P: GuardMember
GUARD_MEMBER_TOP_K: GuardMember
PLAN_SOURCE_UNSPECIFIED: PlanSource
PLAN_SOURCE_POLICY: PlanSource
PLAN_SOURCE_PINNED: PlanSource
PLAN_SOURCE_STATIC: PlanSource
PLAN_SOURCE_FALLBACK: PlanSource
UPDATE_SOURCE_UNSPECIFIED: UpdateSource
UPDATE_SOURCE_PLAN: UpdateSource
UPDATE_SOURCE_CLIENT: UpdateSource
UPDATE_SOURCE_CONTROLLER: UpdateSource
FINISH_REASON_UNSPECIFIED: FinishReason
FINISH_REASON_STOP: FinishReason
FINISH_REASON_STOP_STRING: FinishReason
FINISH_REASON_LENGTH: FinishReason
FINISH_REASON_CANCELLED: FinishReason
FINISH_REASON_DEADLINE: FinishReason
FINISH_REASON_ERROR: FinishReason
MODE_UNSPECIFIED: Mode
MODE_OBSERVE: Mode
MODE_APPLY: Mode
MODE_BYPASS: Mode

class RequestContext(_message.Message):
    __slots__ = ("request_id", "session_id", "tenant", "priority", "deadline_unix_ms", "traceparent")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    session_id: str
    tenant: str
    priority: Priority
    deadline_unix_ms: int
    traceparent: str
    def __init__(self, request_id: _Optional[str] = ..., session_id: _Optional[str] = ..., tenant: _Optional[str] = ..., priority: _Optional[_Union[Priority, str]] = ..., deadline_unix_ms: _Optional[int] = ..., traceparent: _Optional[str] = ...) -> None: ...

class ChatMessage(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: Role
    content: str
    def __init__(self, role: _Optional[_Union[Role, str]] = ..., content: _Optional[str] = ...) -> None: ...

class ChatInput(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[ChatMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[ChatMessage, _Mapping]]] = ...) -> None: ...

class TokenInput(_message.Message):
    __slots__ = ("token_ids",)
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class FixedProgram(_message.Message):
    __slots__ = ("temperature",)
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    def __init__(self, temperature: _Optional[float] = ...) -> None: ...

class EdtProgram(_message.Message):
    __slots__ = ("base_temperature", "theta")
    BASE_TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    THETA_FIELD_NUMBER: _ClassVar[int]
    base_temperature: float
    theta: float
    def __init__(self, base_temperature: _Optional[float] = ..., theta: _Optional[float] = ...) -> None: ...

class DynatempProgram(_message.Message):
    __slots__ = ("temperature", "range", "exponent")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    EXPONENT_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    range: float
    exponent: float
    def __init__(self, temperature: _Optional[float] = ..., range: _Optional[float] = ..., exponent: _Optional[float] = ...) -> None: ...

class ResidualProgram(_message.Message):
    __slots__ = ("temperature", "slope", "centre", "range")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    SLOPE_FIELD_NUMBER: _ClassVar[int]
    CENTRE_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    slope: float
    centre: float
    range: float
    def __init__(self, temperature: _Optional[float] = ..., slope: _Optional[float] = ..., centre: _Optional[float] = ..., range: _Optional[float] = ...) -> None: ...

class TemperatureProgram(_message.Message):
    __slots__ = ("fixed", "edt", "dynatemp", "residual")
    FIXED_FIELD_NUMBER: _ClassVar[int]
    EDT_FIELD_NUMBER: _ClassVar[int]
    DYNATEMP_FIELD_NUMBER: _ClassVar[int]
    RESIDUAL_FIELD_NUMBER: _ClassVar[int]
    fixed: FixedProgram
    edt: EdtProgram
    dynatemp: DynatempProgram
    residual: ResidualProgram
    def __init__(self, fixed: _Optional[_Union[FixedProgram, _Mapping]] = ..., edt: _Optional[_Union[EdtProgram, _Mapping]] = ..., dynatemp: _Optional[_Union[DynatempProgram, _Mapping]] = ..., residual: _Optional[_Union[ResidualProgram, _Mapping]] = ...) -> None: ...

class Guard(_message.Message):
    __slots__ = ("top_n_sigma", "min_p", "top_p", "top_k")
    TOP_N_SIGMA_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    top_n_sigma: float
    min_p: float
    top_p: float
    top_k: int
    def __init__(self, top_n_sigma: _Optional[float] = ..., min_p: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ...) -> None: ...

class Penalties(_message.Message):
    __slots__ = ("repetition", "presence", "frequency")
    REPETITION_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_FIELD_NUMBER: _ClassVar[int]
    repetition: float
    presence: float
    frequency: float
    def __init__(self, repetition: _Optional[float] = ..., presence: _Optional[float] = ..., frequency: _Optional[float] = ...) -> None: ...

class Sampling(_message.Message):
    __slots__ = ("program", "guard", "penalties", "logit_bias")
    class LogitBiasEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: float
        def __init__(self, key: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    GUARD_FIELD_NUMBER: _ClassVar[int]
    PENALTIES_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    program: TemperatureProgram
    guard: Guard
    penalties: Penalties
    logit_bias: _containers.ScalarMap[int, float]
    def __init__(self, program: _Optional[_Union[TemperatureProgram, _Mapping]] = ..., guard: _Optional[_Union[Guard, _Mapping]] = ..., penalties: _Optional[_Union[Penalties, _Mapping]] = ..., logit_bias: _Optional[_Mapping[int, float]] = ...) -> None: ...

class JsonObjectConstraint(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ChoiceConstraint(_message.Message):
    __slots__ = ("options",)
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    options: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, options: _Optional[_Iterable[str]] = ...) -> None: ...

class OutputConstraint(_message.Message):
    __slots__ = ("json_object", "json_schema", "regex", "choice", "lark")
    JSON_OBJECT_FIELD_NUMBER: _ClassVar[int]
    JSON_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    REGEX_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    LARK_FIELD_NUMBER: _ClassVar[int]
    json_object: JsonObjectConstraint
    json_schema: str
    regex: str
    choice: ChoiceConstraint
    lark: str
    def __init__(self, json_object: _Optional[_Union[JsonObjectConstraint, _Mapping]] = ..., json_schema: _Optional[str] = ..., regex: _Optional[str] = ..., choice: _Optional[_Union[ChoiceConstraint, _Mapping]] = ..., lark: _Optional[str] = ...) -> None: ...

class Capabilities(_message.Message):
    __slots__ = ("programs", "guards", "compute_paths", "can_update", "tells_entropy")
    PROGRAMS_FIELD_NUMBER: _ClassVar[int]
    GUARDS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_PATHS_FIELD_NUMBER: _ClassVar[int]
    CAN_UPDATE_FIELD_NUMBER: _ClassVar[int]
    TELLS_ENTROPY_FIELD_NUMBER: _ClassVar[int]
    programs: _containers.RepeatedScalarFieldContainer[ProgramKind]
    guards: _containers.RepeatedScalarFieldContainer[GuardMember]
    compute_paths: _containers.RepeatedScalarFieldContainer[ComputePath]
    can_update: bool
    tells_entropy: bool
    def __init__(self, programs: _Optional[_Iterable[_Union[ProgramKind, str]]] = ..., guards: _Optional[_Iterable[_Union[GuardMember, str]]] = ..., compute_paths: _Optional[_Iterable[_Union[ComputePath, str]]] = ..., can_update: bool = ..., tells_entropy: bool = ...) -> None: ...

class Forecast(_message.Message):
    __slots__ = ("prefill_seconds", "output_tokens", "output_tokens_high", "total_seconds", "latency_cost", "misses_deadline", "bounds_budget")
    PREFILL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_HIGH_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LATENCY_COST_FIELD_NUMBER: _ClassVar[int]
    MISSES_DEADLINE_FIELD_NUMBER: _ClassVar[int]
    BOUNDS_BUDGET_FIELD_NUMBER: _ClassVar[int]
    prefill_seconds: float
    output_tokens: int
    output_tokens_high: int
    total_seconds: float
    latency_cost: float
    misses_deadline: bool
    bounds_budget: bool
    def __init__(self, prefill_seconds: _Optional[float] = ..., output_tokens: _Optional[int] = ..., output_tokens_high: _Optional[int] = ..., total_seconds: _Optional[float] = ..., latency_cost: _Optional[float] = ..., misses_deadline: bool = ..., bounds_budget: bool = ...) -> None: ...

class DecodingPlan(_message.Message):
    __slots__ = ("decision_id", "policy_version", "source", "sampling", "token_budget", "compute_path", "task", "scenario", "log_density", "explored", "seed", "policy_temperature", "propensity", "forecast")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    TOKEN_BUDGET_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_PATH_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    SCENARIO_FIELD_NUMBER: _ClassVar[int]
    LOG_DENSITY_FIELD_NUMBER: _ClassVar[int]
    EXPLORED_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    POLICY_TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    FORECAST_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    policy_version: int
    source: PlanSource
    sampling: Sampling
    token_budget: int
    compute_path: ComputePath
    task: Task
    scenario: str
    log_density: float
    explored: bool
    seed: int
    policy_temperature: float
    propensity: float
    forecast: Forecast
    def __init__(self, decision_id: _Optional[str] = ..., policy_version: _Optional[int] = ..., source: _Optional[_Union[PlanSource, str]] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ..., token_budget: _Optional[int] = ..., compute_path: _Optional[_Union[ComputePath, str]] = ..., task: _Optional[_Union[Task, str]] = ..., scenario: _Optional[str] = ..., log_density: _Optional[float] = ..., explored: bool = ..., seed: _Optional[int] = ..., policy_temperature: _Optional[float] = ..., propensity: _Optional[float] = ..., forecast: _Optional[_Union[Forecast, _Mapping]] = ...) -> None: ...

class TokenCandidate(_message.Message):
    __slots__ = ("token_id", "text", "log_probability")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LOG_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    text: str
    log_probability: float
    def __init__(self, token_id: _Optional[int] = ..., text: _Optional[str] = ..., log_probability: _Optional[float] = ...) -> None: ...

class Token(_message.Message):
    __slots__ = ("index", "token_id", "text", "temperature", "entropy", "log_probability", "model_log_probability", "revision", "step_time_us", "candidates")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_FIELD_NUMBER: _ClassVar[int]
    LOG_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    MODEL_LOG_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STEP_TIME_US_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    index: int
    token_id: int
    text: str
    temperature: float
    entropy: float
    log_probability: float
    model_log_probability: float
    revision: int
    step_time_us: int
    candidates: _containers.RepeatedCompositeFieldContainer[TokenCandidate]
    def __init__(self, index: _Optional[int] = ..., token_id: _Optional[int] = ..., text: _Optional[str] = ..., temperature: _Optional[float] = ..., entropy: _Optional[float] = ..., log_probability: _Optional[float] = ..., model_log_probability: _Optional[float] = ..., revision: _Optional[int] = ..., step_time_us: _Optional[int] = ..., candidates: _Optional[_Iterable[_Union[TokenCandidate, _Mapping]]] = ...) -> None: ...

class TokenChunk(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[Token]
    def __init__(self, tokens: _Optional[_Iterable[_Union[Token, _Mapping]]] = ...) -> None: ...

class ParameterUpdate(_message.Message):
    __slots__ = ("update_id", "program", "guard", "penalties", "token_budget")
    UPDATE_ID_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    GUARD_FIELD_NUMBER: _ClassVar[int]
    PENALTIES_FIELD_NUMBER: _ClassVar[int]
    TOKEN_BUDGET_FIELD_NUMBER: _ClassVar[int]
    update_id: int
    program: TemperatureProgram
    guard: Guard
    penalties: Penalties
    token_budget: int
    def __init__(self, update_id: _Optional[int] = ..., program: _Optional[_Union[TemperatureProgram, _Mapping]] = ..., guard: _Optional[_Union[Guard, _Mapping]] = ..., penalties: _Optional[_Union[Penalties, _Mapping]] = ..., token_budget: _Optional[int] = ...) -> None: ...

class ParametersApplied(_message.Message):
    __slots__ = ("revision", "token_index", "source", "update_id", "sampling")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_INDEX_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_ID_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    revision: int
    token_index: int
    source: UpdateSource
    update_id: int
    sampling: Sampling
    def __init__(self, revision: _Optional[int] = ..., token_index: _Optional[int] = ..., source: _Optional[_Union[UpdateSource, str]] = ..., update_id: _Optional[int] = ..., sampling: _Optional[_Union[Sampling, _Mapping]] = ...) -> None: ...

class UpdateRejected(_message.Message):
    __slots__ = ("update_id", "field", "message")
    UPDATE_ID_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    update_id: int
    field: str
    message: str
    def __init__(self, update_id: _Optional[int] = ..., field: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("prompt_tokens", "cached_prompt_tokens", "completion_tokens", "queue_time_us", "prefill_time_us", "decode_time_us")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_TIME_US_FIELD_NUMBER: _ClassVar[int]
    PREFILL_TIME_US_FIELD_NUMBER: _ClassVar[int]
    DECODE_TIME_US_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    queue_time_us: int
    prefill_time_us: int
    decode_time_us: int
    def __init__(self, prompt_tokens: _Optional[int] = ..., cached_prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., queue_time_us: _Optional[int] = ..., prefill_time_us: _Optional[int] = ..., decode_time_us: _Optional[int] = ...) -> None: ...

class GenerationEnd(_message.Message):
    __slots__ = ("finish_reason", "usage", "mean_temperature", "mean_entropy", "discarded_tokens")
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    MEAN_TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    MEAN_ENTROPY_FIELD_NUMBER: _ClassVar[int]
    DISCARDED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    finish_reason: FinishReason
    usage: Usage
    mean_temperature: float
    mean_entropy: float
    discarded_tokens: int
    def __init__(self, finish_reason: _Optional[_Union[FinishReason, str]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., mean_temperature: _Optional[float] = ..., mean_entropy: _Optional[float] = ..., discarded_tokens: _Optional[int] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: int
    def __init__(self, tokens: _Optional[int] = ...) -> None: ...

class LoadReport(_message.Message):
    __slots__ = ("running", "waiting", "kv_pages_used", "kv_pages_total", "open_streams", "step_time_us")
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    KV_PAGES_USED_FIELD_NUMBER: _ClassVar[int]
    KV_PAGES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    OPEN_STREAMS_FIELD_NUMBER: _ClassVar[int]
    STEP_TIME_US_FIELD_NUMBER: _ClassVar[int]
    running: int
    waiting: int
    kv_pages_used: int
    kv_pages_total: int
    open_streams: int
    step_time_us: int
    def __init__(self, running: _Optional[int] = ..., waiting: _Optional[int] = ..., kv_pages_used: _Optional[int] = ..., kv_pages_total: _Optional[int] = ..., open_streams: _Optional[int] = ..., step_time_us: _Optional[int] = ...) -> None: ...
