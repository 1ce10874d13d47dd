from thermesh.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FeedbackSignal(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEEDBACK_SIGNAL_UNSPECIFIED: _ClassVar[FeedbackSignal]
    FEEDBACK_SIGNAL_EXPLICIT: _ClassVar[FeedbackSignal]
    FEEDBACK_SIGNAL_REGENERATE: _ClassVar[FeedbackSignal]
    FEEDBACK_SIGNAL_ABANDON: _ClassVar[FeedbackSignal]
    FEEDBACK_SIGNAL_EDIT: _ClassVar[FeedbackSignal]
    FEEDBACK_SIGNAL_VERIFIER: _ClassVar[FeedbackSignal]

class FeedbackState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEEDBACK_STATE_UNSPECIFIED: _ClassVar[FeedbackState]
    FEEDBACK_STATE_PENDING: _ClassVar[FeedbackState]
    FEEDBACK_STATE_APPLIED: _ClassVar[FeedbackState]
FEEDBACK_SIGNAL_UNSPECIFIED: FeedbackSignal
FEEDBACK_SIGNAL_EXPLICIT: FeedbackSignal
FEEDBACK_SIGNAL_REGENERATE: FeedbackSignal
FEEDBACK_SIGNAL_ABANDON: FeedbackSignal
FEEDBACK_SIGNAL_EDIT: FeedbackSignal
FEEDBACK_SIGNAL_VERIFIER: FeedbackSignal
FEEDBACK_STATE_UNSPECIFIED: FeedbackState
FEEDBACK_STATE_PENDING: FeedbackState
FEEDBACK_STATE_APPLIED: FeedbackState

class SubmitFeedbackRequest(_message.Message):
    __slots__ = ("context", "feedback_id", "decision_id", "score", "signal", "comment")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    context: _common_pb2.RequestContext
    feedback_id: str
    decision_id: str
    score: float
    signal: FeedbackSignal
    comment: str
    def __init__(self, context: _Optional[_Union[_common_pb2.RequestContext, _Mapping]] = ..., feedback_id: _Optional[str] = ..., decision_id: _Optional[str] = ..., score: _Optional[float] = ..., signal: _Optional[_Union[FeedbackSignal, str]] = ..., comment: _Optional[str] = ...) -> None: ...

class SubmitFeedbackResponse(_message.Message):
    __slots__ = ("duplicate", "state", "applied_version")
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    APPLIED_VERSION_FIELD_NUMBER: _ClassVar[int]
    duplicate: bool
    state: FeedbackState
    applied_version: int
    def __init__(self, duplicate: bool = ..., state: _Optional[_Union[FeedbackState, str]] = ..., applied_version: _Optional[int] = ...) -> None: ...

class GetFeedbackRequest(_message.Message):
    __slots__ = ("feedback_id", "tenant")
    FEEDBACK_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    feedback_id: str
    tenant: str
    def __init__(self, feedback_id: _Optional[str] = ..., tenant: _Optional[str] = ...) -> None: ...

class GetFeedbackResponse(_message.Message):
    __slots__ = ("state", "applied_version")
    STATE_FIELD_NUMBER: _ClassVar[int]
    APPLIED_VERSION_FIELD_NUMBER: _ClassVar[int]
    state: FeedbackState
    applied_version: int
    def __init__(self, state: _Optional[_Union[FeedbackState, str]] = ..., applied_version: _Optional[int] = ...) -> None: ...
