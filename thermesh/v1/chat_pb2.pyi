from thermesh.v1 import common_pb2 as _common_pb2
from thermesh.v1 import controller_pb2 as _controller_pb2
from thermesh.v1 import feature_pb2 as _feature_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ConverseStart(_message.Message):
    __slots__ = ("context", "model", "messages", "constraints", "stop", "candidate_count", "initial_credit", "awaiting_input", "voice", "constraint", "resume_grace_ms")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINTS_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_COUNT_FIELD_NUMBER: _ClassVar[int]
    INITIAL_CREDIT_FIELD_NUMBER: _ClassVar[int]
    AWAITING_INPUT_FIELD_NUMBER: _ClassVar[int]
    VOICE_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    RESUME_GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    context: _common_pb2.RequestContext
    model: str
    messages: _containers.RepeatedCompositeFieldContainer[_common_pb2.ChatMessage]
    constraints: _controller_pb2.Constraints
    stop: _containers.RepeatedScalarFieldContainer[str]
    candidate_count: int
    initial_credit: int
    awaiting_input: bool
    voice: _feature_pb2.VoiceSignal
    constraint: _common_pb2.OutputConstraint
    resume_grace_ms: int
    def __init__(self, context: _Optional[_Union[_common_pb2.RequestContext, _Mapping]] = ..., model: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[_common_pb2.ChatMessage, _Mapping]]] = ..., constraints: _Optional[_Union[_controller_pb2.Constraints, _Mapping]] = ..., stop: _Optional[_Iterable[str]] = ..., candidate_count: _Optional[int] = ..., initial_credit: _Optional[int] = ..., awaiting_input: bool = ..., voice: _Optional[_Union[_feature_pb2.VoiceSignal, _Mapping]] = ..., constraint: _Optional[_Union[_common_pb2.OutputConstraint, _Mapping]] = ..., resume_grace_ms: _Optional[int] = ...) -> None: ...

class ConverseResume(_message.Message):
    __slots__ = ("request_id", "last_sequence_number", "tenant")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    last_sequence_number: int
    tenant: str
    def __init__(self, request_id: _Optional[str] = ..., last_sequence_number: _Optional[int] = ..., tenant: _Optional[str] = ...) -> None: ...

class AppendInput(_message.Message):
    __slots__ = ("text", "is_final", "voice")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    VOICE_FIELD_NUMBER: _ClassVar[int]
    text: str
    is_final: bool
    voice: _feature_pb2.VoiceSignal
    def __init__(self, text: _Optional[str] = ..., is_final: bool = ..., voice: _Optional[_Union[_feature_pb2.VoiceSignal, _Mapping]] = ...) -> None: ...

class Interrupt(_message.Message):
    __slots__ = ("heard_tokens",)
    HEARD_TOKENS_FIELD_NUMBER: _ClassVar[int]
    heard_tokens: int
    def __init__(self, heard_tokens: _Optional[int] = ...) -> None: ...

class CancelConversation(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ConverseRequest(_message.Message):
    __slots__ = ("start", "append", "update", "credit", "interrupt", "cancel", "resume")
    START_FIELD_NUMBER: _ClassVar[int]
    APPEND_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    INTERRUPT_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    start: ConverseStart
    append: AppendInput
    update: _common_pb2.ParameterUpdate
    credit: _common_pb2.Credit
    interrupt: Interrupt
    cancel: CancelConversation
    resume: ConverseResume
    def __init__(self, start: _Optional[_Union[ConverseStart, _Mapping]] = ..., append: _Optional[_Union[AppendInput, _Mapping]] = ..., update: _Optional[_Union[_common_pb2.ParameterUpdate, _Mapping]] = ..., credit: _Optional[_Union[_common_pb2.Credit, _Mapping]] = ..., interrupt: _Optional[_Union[Interrupt, _Mapping]] = ..., cancel: _Optional[_Union[CancelConversation, _Mapping]] = ..., resume: _Optional[_Union[ConverseResume, _Mapping]] = ...) -> None: ...

class ConversationAccepted(_message.Message):
    __slots__ = ("model", "prompt_tokens", "resume_grace_ms")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    RESUME_GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    model: str
    prompt_tokens: int
    resume_grace_ms: int
    def __init__(self, model: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., resume_grace_ms: _Optional[int] = ...) -> None: ...

class ConversationEnd(_message.Message):
    __slots__ = ("generation", "text")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    generation: _common_pb2.GenerationEnd
    text: str
    def __init__(self, generation: _Optional[_Union[_common_pb2.GenerationEnd, _Mapping]] = ..., text: _Optional[str] = ...) -> None: ...

class ConverseResponse(_message.Message):
    __slots__ = ("request_id", "sequence_number", "accepted", "plan", "tokens", "applied", "rejected", "end", "heartbeat")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    sequence_number: int
    accepted: ConversationAccepted
    plan: _common_pb2.DecodingPlan
    tokens: _common_pb2.TokenChunk
    applied: _common_pb2.ParametersApplied
    rejected: _common_pb2.UpdateRejected
    end: ConversationEnd
    heartbeat: Heartbeat
    def __init__(self, request_id: _Optional[str] = ..., sequence_number: _Optional[int] = ..., accepted: _Optional[_Union[ConversationAccepted, _Mapping]] = ..., plan: _Optional[_Union[_common_pb2.DecodingPlan, _Mapping]] = ..., tokens: _Optional[_Union[_common_pb2.TokenChunk, _Mapping]] = ..., applied: _Optional[_Union[_common_pb2.ParametersApplied, _Mapping]] = ..., rejected: _Optional[_Union[_common_pb2.UpdateRejected, _Mapping]] = ..., end: _Optional[_Union[ConversationEnd, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Model(_message.Message):
    __slots__ = ("id", "context_length", "created_unix_s")
    ID_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    CREATED_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    id: str
    context_length: int
    created_unix_s: int
    def __init__(self, id: _Optional[str] = ..., context_length: _Optional[int] = ..., created_unix_s: _Optional[int] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...
