from thermesh.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GenerationStart(_message.Message):
    __slots__ = ("context", "model", "chat", "prompt", "tokens", "sampling", "max_tokens", "stop", "candidate_count", "seed", "expects_plan", "plan_grace_ms", "initial_credit", "ignore_end_of_sequence", "constraint")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_COUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    EXPECTS_PLAN_FIELD_NUMBER: _ClassVar[int]
    PLAN_GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    INITIAL_CREDIT_FIELD_NUMBER: _ClassVar[int]
    IGNORE_END_OF_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    context: _common_pb2.RequestContext
    model: str
    chat: _common_pb2.ChatInput
    prompt: str
    tokens: _common_pb2.TokenInput
    sampling: _common_pb2.Sampling
    max_tokens: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    candidate_count: int
    seed: int
    expects_plan: bool
    plan_grace_ms: int
    initial_credit: int
    ignore_end_of_sequence: bool
    constraint: _common_pb2.OutputConstraint
    def __init__(self, context: _Optional[_Union[_common_pb2.RequestContext, _Mapping]] = ..., model: _Optional[str] = ..., chat: _Optional[_Union[_common_pb2.ChatInput, _Mapping]] = ..., prompt: _Optional[str] = ..., tokens: _Optional[_Union[_common_pb2.TokenInput, _Mapping]] = ..., sampling: _Optional[_Union[_common_pb2.Sampling, _Mapping]] = ..., max_tokens: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., candidate_count: _Optional[int] = ..., seed: _Optional[int] = ..., expects_plan: bool = ..., plan_grace_ms: _Optional[int] = ..., initial_credit: _Optional[int] = ..., ignore_end_of_sequence: bool = ..., constraint: _Optional[_Union[_common_pb2.OutputConstraint, _Mapping]] = ...) -> None: ...

class CancelGeneration(_message.Message):
    __slots__ = ("kept_tokens",)
    KEPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    kept_tokens: int
    def __init__(self, kept_tokens: _Optional[int] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("start", "plan", "update", "credit", "cancel")
    START_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    start: GenerationStart
    plan: _common_pb2.DecodingPlan
    update: _common_pb2.ParameterUpdate
    credit: _common_pb2.Credit
    cancel: CancelGeneration
    def __init__(self, start: _Optional[_Union[GenerationStart, _Mapping]] = ..., plan: _Optional[_Union[_common_pb2.DecodingPlan, _Mapping]] = ..., update: _Optional[_Union[_common_pb2.ParameterUpdate, _Mapping]] = ..., credit: _Optional[_Union[_common_pb2.Credit, _Mapping]] = ..., cancel: _Optional[_Union[CancelGeneration, _Mapping]] = ...) -> None: ...

class GenerationAccepted(_message.Message):
    __slots__ = ("prompt_tokens", "model")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    model: str
    def __init__(self, prompt_tokens: _Optional[int] = ..., model: _Optional[str] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("request_id", "sequence_number", "accepted", "tokens", "applied", "rejected", "end")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    sequence_number: int
    accepted: GenerationAccepted
    tokens: _common_pb2.TokenChunk
    applied: _common_pb2.ParametersApplied
    rejected: _common_pb2.UpdateRejected
    end: _common_pb2.GenerationEnd
    def __init__(self, request_id: _Optional[str] = ..., sequence_number: _Optional[int] = ..., accepted: _Optional[_Union[GenerationAccepted, _Mapping]] = ..., tokens: _Optional[_Union[_common_pb2.TokenChunk, _Mapping]] = ..., applied: _Optional[_Union[_common_pb2.ParametersApplied, _Mapping]] = ..., rejected: _Optional[_Union[_common_pb2.UpdateRejected, _Mapping]] = ..., end: _Optional[_Union[_common_pb2.GenerationEnd, _Mapping]] = ...) -> None: ...

class DescribeModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeModelResponse(_message.Message):
    __slots__ = ("model", "architecture", "context_length", "vocabulary_size", "parameter_count", "weight_format", "kernels", "compute_paths", "max_running", "max_waiting", "page_size", "created_unix_s", "capabilities")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_SIZE_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_COUNT_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FORMAT_FIELD_NUMBER: _ClassVar[int]
    KERNELS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_PATHS_FIELD_NUMBER: _ClassVar[int]
    MAX_RUNNING_FIELD_NUMBER: _ClassVar[int]
    MAX_WAITING_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    CREATED_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    model: str
    architecture: str
    context_length: int
    vocabulary_size: int
    parameter_count: int
    weight_format: str
    kernels: str
    compute_paths: _containers.RepeatedScalarFieldContainer[_common_pb2.ComputePath]
    max_running: int
    max_waiting: int
    page_size: int
    created_unix_s: int
    capabilities: _common_pb2.Capabilities
    def __init__(self, model: _Optional[str] = ..., architecture: _Optional[str] = ..., context_length: _Optional[int] = ..., vocabulary_size: _Optional[int] = ..., parameter_count: _Optional[int] = ..., weight_format: _Optional[str] = ..., kernels: _Optional[str] = ..., compute_paths: _Optional[_Iterable[_Union[_common_pb2.ComputePath, str]]] = ..., max_running: _Optional[int] = ..., max_waiting: _Optional[int] = ..., page_size: _Optional[int] = ..., created_unix_s: _Optional[int] = ..., capabilities: _Optional[_Union[_common_pb2.Capabilities, _Mapping]] = ...) -> None: ...

class TokenizeRequest(_message.Message):
    __slots__ = ("chat", "text")
    CHAT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    chat: _common_pb2.ChatInput
    text: str
    def __init__(self, chat: _Optional[_Union[_common_pb2.ChatInput, _Mapping]] = ..., text: _Optional[str] = ...) -> None: ...

class TokenizeResponse(_message.Message):
    __slots__ = ("token_ids", "pieces")
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    PIECES_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    pieces: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ..., pieces: _Optional[_Iterable[str]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("context", "text", "tokens")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    context: _common_pb2.RequestContext
    text: str
    tokens: _common_pb2.TokenInput
    def __init__(self, context: _Optional[_Union[_common_pb2.RequestContext, _Mapping]] = ..., text: _Optional[str] = ..., tokens: _Optional[_Union[_common_pb2.TokenInput, _Mapping]] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("token_ids", "log_probabilities", "entropies")
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    LOG_PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    ENTROPIES_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    log_probabilities: _containers.RepeatedScalarFieldContainer[float]
    entropies: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ..., log_probabilities: _Optional[_Iterable[float]] = ..., entropies: _Optional[_Iterable[float]] = ...) -> None: ...

class GetLoadRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetLoadResponse(_message.Message):
    __slots__ = ("load",)
    LOAD_FIELD_NUMBER: _ClassVar[int]
    load: _common_pb2.LoadReport
    def __init__(self, load: _Optional[_Union[_common_pb2.LoadReport, _Mapping]] = ...) -> None: ...
