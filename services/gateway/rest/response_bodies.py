"""What may be asked of /v1/responses, and the ask it becomes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from services.gateway import limits
from services.gateway.asking import Ask, Chat, Message, Role
from services.gateway.rest import asks, fields
from services.gateway.rest.bodies import Body, Decoding, Extension
from services.gateway.rest.structure import TextFormat

ROUTE = "/v1/responses"

_PREVIOUS = r"^resp_[A-Za-z0-9._-]{1,64}$"


class InputPart(Body):
    """One part of a message."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[Any] | None = Field(default=None, description="accepted and not used")
    logprobs: list[Any] | None = Field(default=None, description="accepted and not used")


class InputMessage(Body):
    """One turn; what the client got as output may come back as input."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[InputPart]
    type: Literal["message"] | None = None
    id: str | None = Field(default=None, description="accepted and not used")
    status: str | None = Field(default=None, description="accepted and not used")

    @property
    def message(self) -> Message:
        """The turn as a value."""
        parts = self.content
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        return Message(Role.SYSTEM if self.role == "developer" else Role(self.role), text)


class TextOptions(Body):
    """How the text is formed."""

    format: TextFormat | None = None


def _no_tools(value: Any) -> Any:
    if value:
        raise ValueError("is not supported; leave it out")
    return None


class ResponseBody(Body):
    """POST /v1/responses."""

    input: (
        fields.NonEmptyText
        | Annotated[list[InputMessage], Field(min_length=1, max_length=limits.MAX_MESSAGES)]
    )
    model: fields.NonEmptyText | None = Field(default=None, description="absent: the one served")
    instructions: str | None = Field(default=None, description="a system turn, for this answer")
    previous_response_id: Annotated[str, Field(pattern=_PREVIOUS)] | None = None
    store: bool | None = Field(default=True, description="keep it, to be continued")
    stream: bool | None = False
    temperature: fields.Temperature = None
    top_p: fields.TopP | None = None
    max_output_tokens: fields.MaxTokens | None = None
    text: TextOptions | None = None
    tools: Annotated[None, BeforeValidator(_no_tools)] = None
    tool_choice: Annotated[
        Literal["auto", "none"] | None,
        BeforeValidator(lambda value: value),
        Field(description="accepted; there are no tools"),
    ] = None
    parallel_tool_calls: bool | None = Field(default=None, description="accepted and not used")
    truncation: Literal["disabled"] | None = None
    metadata: dict[str, str] | None = None
    user: str | None = Field(default=None, description="accepted and not used")
    thermesh: Extension | None = None

    @model_validator(mode="after")
    def _one_temperature(self) -> ResponseBody:
        extension = self.thermesh
        if self.temperature is not None and extension and extension.program is not None:
            raise ValueError("thermesh.program and temperature exclude each other; set one")
        return self

    @property
    def turns(self) -> tuple[Message, ...]:
        """What is new in this request."""
        if isinstance(self.input, str):
            return (Message(Role.USER, self.input),)
        return tuple(turn.message for turn in self.input)


def response_ask(
    body: ResponseBody, earlier: tuple[Message, ...], now_unix_ms: int, traceparent: str
) -> Ask:
    """Return what a response asks for, after the turns `earlier`; raise InvalidArgument."""
    decoding = Decoding.model_construct(
        model=body.model, temperature=body.temperature, top_p=body.top_p, thermesh=body.thermesh
    )
    instructions = (Message(Role.SYSTEM, body.instructions),) if body.instructions else ()
    ask = Ask(
        context=asks.context(decoding, now_unix_ms, traceparent),
        input=Chat((*instructions, *earlier, *body.turns)),
        route=ROUTE,
        model=body.model or "",
        constraints=asks.constraints(decoding, body.max_output_tokens or 0),
        constraint=body.text.format.constraint if body.text and body.text.format else None,
    )
    limits.check_ask(ask)
    return ask
