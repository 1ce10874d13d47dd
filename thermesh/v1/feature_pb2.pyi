from thermesh.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VoiceSignal(_message.Message):
    __slots__ = ("speech_duration_ms", "recognition_confidence")
    SPEECH_DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    RECOGNITION_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    speech_duration_ms: int
    recognition_confidence: float
    def __init__(self, speech_duration_ms: _Optional[int] = ..., recognition_confidence: _Optional[float] = ...) -> None: ...

class ExtractRequest(_message.Message):
    __slots__ = ("context", "text", "turn_count", "waited_ms", "voice", "encoder_wait_us")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TURN_COUNT_FIELD_NUMBER: _ClassVar[int]
    WAITED_MS_FIELD_NUMBER: _ClassVar[int]
    VOICE_FIELD_NUMBER: _ClassVar[int]
    ENCODER_WAIT_US_FIELD_NUMBER: _ClassVar[int]
    context: _common_pb2.RequestContext
    text: str
    turn_count: int
    waited_ms: int
    voice: VoiceSignal
    encoder_wait_us: int
    def __init__(self, context: _Optional[_Union[_common_pb2.RequestContext, _Mapping]] = ..., text: _Optional[str] = ..., turn_count: _Optional[int] = ..., waited_ms: _Optional[int] = ..., voice: _Optional[_Union[VoiceSignal, _Mapping]] = ..., encoder_wait_us: _Optional[int] = ...) -> None: ...

class FeatureVector(_message.Message):
    __slots__ = ("schema_version", "values", "task", "task_confidence", "encoder_used")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    TASK_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    ENCODER_USED_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    values: _containers.RepeatedScalarFieldContainer[float]
    task: _common_pb2.Task
    task_confidence: float
    encoder_used: bool
    def __init__(self, schema_version: _Optional[int] = ..., values: _Optional[_Iterable[float]] = ..., task: _Optional[_Union[_common_pb2.Task, str]] = ..., task_confidence: _Optional[float] = ..., encoder_used: bool = ...) -> None: ...

class ExtractResponse(_message.Message):
    __slots__ = ("features", "cached")
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    features: FeatureVector
    cached: bool
    def __init__(self, features: _Optional[_Union[FeatureVector, _Mapping]] = ..., cached: bool = ...) -> None: ...

class ExtractStreamRequest(_message.Message):
    __slots__ = ("start", "partial")
    START_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    start: ExtractRequest
    partial: PartialText
    def __init__(self, start: _Optional[_Union[ExtractRequest, _Mapping]] = ..., partial: _Optional[_Union[PartialText, _Mapping]] = ...) -> None: ...

class PartialText(_message.Message):
    __slots__ = ("text", "is_final", "waited_ms", "voice")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    WAITED_MS_FIELD_NUMBER: _ClassVar[int]
    VOICE_FIELD_NUMBER: _ClassVar[int]
    text: str
    is_final: bool
    waited_ms: int
    voice: VoiceSignal
    def __init__(self, text: _Optional[str] = ..., is_final: bool = ..., waited_ms: _Optional[int] = ..., voice: _Optional[_Union[VoiceSignal, _Mapping]] = ...) -> None: ...

class ExtractStreamResponse(_message.Message):
    __slots__ = ("features", "is_final")
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    features: FeatureVector
    is_final: bool
    def __init__(self, features: _Optional[_Union[FeatureVector, _Mapping]] = ..., is_final: bool = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("context", "model", "texts")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    context: _common_pb2.RequestContext
    model: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, context: _Optional[_Union[_common_pb2.RequestContext, _Mapping]] = ..., model: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class Embedding(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("model", "embeddings", "token_count")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    model: str
    embeddings: _containers.RepeatedCompositeFieldContainer[Embedding]
    token_count: int
    def __init__(self, model: _Optional[str] = ..., embeddings: _Optional[_Iterable[_Union[Embedding, _Mapping]]] = ..., token_count: _Optional[int] = ...) -> None: ...

class DescribeFeaturesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FeatureDefinition(_message.Message):
    __slots__ = ("name", "description", "minimum", "maximum", "neutral")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    NEUTRAL_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    minimum: float
    maximum: float
    neutral: float
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., minimum: _Optional[float] = ..., maximum: _Optional[float] = ..., neutral: _Optional[float] = ...) -> None: ...

class DescribeFeaturesResponse(_message.Message):
    __slots__ = ("schema_version", "features")
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    schema_version: int
    features: _containers.RepeatedCompositeFieldContainer[FeatureDefinition]
    def __init__(self, schema_version: _Optional[int] = ..., features: _Optional[_Iterable[_Union[FeatureDefinition, _Mapping]]] = ...) -> None: ...
