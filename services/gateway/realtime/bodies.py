"""What a realtime client may send. Unknown events and members are refused, types are strict."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, model_validator

from services.gateway import limits
from services.gateway.rest import fields
from services.gateway.rest.bodies import Body, Extension

MAX_PARTS = 64
MAX_INPUT_ITEMS = 128
MAX_TOKENS = 2**31 - 1

Id = Annotated[str, Field(min_length=1, max_length=64)]


def _short(text: str) -> str:
    if len(text.encode()) > limits.MAX_TEXT_BYTES:
        raise ValueError(f"must be at most {limits.MAX_TEXT_BYTES} bytes")
    return text


Text = Annotated[str, AfterValidator(_short)]


class PartBody(Body):
    """A piece of an item's content; speech is sent through the input audio buffer."""

    type: Literal["input_text", "output_text", "text"]
    text: Text


class ItemBody(Body):
    """A message of the conversation."""

    type: Literal["message"]
    role: Literal["system", "user", "assistant"]
    content: list[PartBody] = Field(min_length=1, max_length=MAX_PARTS)
    id: Id | None = None
    object: Literal["realtime.item"] | None = None
    status: Literal["completed", "incomplete", "in_progress"] | None = None

    @property
    def text(self) -> str:
        """The parts in one."""
        return "\n".join(part.text for part in self.content)


class FormatBody(Body):
    """How samples are written."""

    type: Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
    rate: Literal[24000] | None = None

    @model_validator(mode="after")
    def _with_rate(self) -> FormatBody:
        self.rate = 24000 if self.type == "audio/pcm" else None
        return self


class TranscriptionBody(Body):
    """Tell what was heard; which engine hears is a setting of the server."""

    model: str | None = None
    language: str | None = None
    prompt: str | None = None


class ServerVadBody(Body):
    """The server says when a turn is over."""

    type: Literal["server_vad"]
    threshold: float = Field(default=0.5, gt=0.15, lt=1)
    prefix_padding_ms: int = Field(default=300, ge=0, le=2000)
    silence_duration_ms: int = Field(default=500, ge=64, le=10_000)
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: None = None


class InputBody(Body):
    """What is heard."""

    format: FormatBody = FormatBody(type="audio/pcm", rate=24000)
    transcription: TranscriptionBody | None = TranscriptionBody()
    noise_reduction: None = None
    turn_detection: ServerVadBody | None = ServerVadBody(type="server_vad")


class OutputBody(Body):
    """How it is spoken."""

    format: FormatBody = FormatBody(type="audio/pcm", rate=24000)
    voice: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+-]{1,64}$")] = "alloy"
    speed: float = Field(default=1.0, ge=0.25, le=1.5)


class AudioBody(Body):
    """Both directions."""

    input: InputBody = InputBody()
    output: OutputBody = OutputBody()


Modality = Literal["text", "audio"]
Modalities = Annotated[list[Modality], Field(min_length=1, max_length=1)]


def _text_only() -> list[Modality]:
    return ["text"]


def _most_tokens(value: object) -> object:
    if value == "inf" or (type(value) is int and 1 <= value <= MAX_TOKENS):
        return value
    raise ValueError(f"must be a whole number from 1 to {MAX_TOKENS}, or 'inf'")


MaxTokens = Annotated[int | str, BeforeValidator(_most_tokens)]


class SessionBody(Body):
    """A session's settings, complete."""

    type: Literal["realtime"] = "realtime"
    model: str = ""
    output_modalities: Modalities = Field(default_factory=_text_only)
    instructions: Text = ""
    max_output_tokens: MaxTokens = "inf"
    audio: AudioBody = AudioBody()
    tools: list[Any] = Field(default_factory=list, max_length=0)
    tool_choice: Literal["auto", "none"] = "auto"
    truncation: Literal["auto"] = "auto"
    include: None = None
    prompt: None = None
    tracing: None = None
    thermesh: Extension | None = None


class ResponseOutputBody(Body):
    """How one response is spoken, where that differs from the session."""

    format: FormatBody | None = None
    voice: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+-]{1,64}$")] | None = None


class ResponseAudioBody(Body):
    """Speech of one response."""

    output: ResponseOutputBody | None = None


class ResponseBody(Body):
    """What one response does differently from the session."""

    conversation: Literal["auto", "none"] = "auto"
    input: Annotated[list[ItemBody], Field(max_length=MAX_INPUT_ITEMS)] | None = None
    instructions: Text | None = None
    output_modalities: Modalities | None = None
    max_output_tokens: MaxTokens | None = None
    metadata: dict[str, str] | None = None
    audio: ResponseAudioBody | None = None
    tools: list[Any] = Field(default_factory=list, max_length=0)
    tool_choice: Literal["auto", "none"] | None = None
    temperature: fields.Temperature = None
    thermesh: Extension | None = None


class ClientEvent(Body):
    """What every event may carry; an error about it names the id."""

    event_id: Annotated[str, Field(max_length=512)] | None = None


class SessionUpdate(ClientEvent):
    """Change the session; what is absent stays."""

    type: Literal["session.update"]
    session: dict[str, Any]


class ItemCreate(ClientEvent):
    """Add an item, last or after another (`root`: first)."""

    type: Literal["conversation.item.create"]
    item: ItemBody
    previous_item_id: Id | None = None


class ItemDelete(ClientEvent):
    """Remove an item."""

    type: Literal["conversation.item.delete"]
    item_id: Id


class ItemRetrieve(ClientEvent):
    """Read an item."""

    type: Literal["conversation.item.retrieve"]
    item_id: Id


class ItemTruncate(ClientEvent):
    """Cut an answer to what was heard."""

    type: Literal["conversation.item.truncate"]
    item_id: Id
    content_index: int = Field(ge=0)
    audio_end_ms: int = Field(ge=0)


class ResponseCreate(ClientEvent):
    """Answer now."""

    type: Literal["response.create"]
    response: ResponseBody = ResponseBody()


class ResponseCancel(ClientEvent):
    """Stop answering."""

    type: Literal["response.cancel"]
    response_id: Id | None = None


class AudioAppend(ClientEvent):
    """Speech, in base64."""

    type: Literal["input_audio_buffer.append"]
    audio: str


class AudioCommit(ClientEvent):
    """The turn is over."""

    type: Literal["input_audio_buffer.commit"]


class AudioClear(ClientEvent):
    """Forget what was appended."""

    type: Literal["input_audio_buffer.clear"]


Event = (
    SessionUpdate
    | ItemCreate
    | ItemDelete
    | ItemRetrieve
    | ItemTruncate
    | ResponseCreate
    | ResponseCancel
    | AudioAppend
    | AudioCommit
    | AudioClear
)

KINDS = tuple(kind.model_fields["type"].annotation.__args__[0] for kind in Event.__args__)
"""Every event a client may send."""

EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])
"""Reads a client event from JSON; raises pydantic's ValidationError."""
