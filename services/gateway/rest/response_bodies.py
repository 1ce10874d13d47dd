"""What may be asked of /v1/responses, and the ask it becomes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Tag,
    model_validator,
)

from services.gateway import limits
from services.gateway.asking import DEFAULT_TENANT, Ask, Chat, Message, Role
from services.gateway.rest import asks, fields, response_items, transcript
from services.gateway.rest.bodies import Body, Decoding, Extension
from services.gateway.rest.messages import text_or
from services.gateway.rest.problems import rest_param
from services.gateway.rest.structure import TextFormat
from services.gateway.rest.tool_bodies import ResponseToolBody, ResponseToolChoice, Tools, tool_use
from services.gateway.tools import ToolUse
from thermesh.errors import InvalidArgument, MeshError

Json = dict[str, Any]

ROUTE = "/v1/responses"
ID_PATTERN = r"^resp_[A-Za-z0-9._-]{1,64}$"
LOGPROBS = "message.output_text.logprobs"

_UNUSED = Field(default=None, description="accepted and not used")
# Names of chat completions that responses have others for.
_NAMES = (
    (r"^messages(\[.*)?$", "input"),
    (r"^response_format$", "text.format"),
    (r"^max_tokens$", "max_output_tokens"),
)


def _metadata(value: dict[str, str]) -> dict[str, str]:
    if len(value) > 16:
        raise ValueError("has at most 16 entries")
    if any(len(key) > 64 or len(text) > 512 for key, text in value.items()):
        raise ValueError("has keys of at most 64 characters and values of at most 512")
    return value


# Only log-probabilities occur here; of the rest there is never anything to include.
Include = list[
    Literal[
        "message.output_text.logprobs",
        "reasoning.encrypted_content",
        "file_search_call.results",
        "web_search_call.results",
        "web_search_call.action.sources",
        "message.input_image.image_url",
        "computer_call_output.output.image_url",
        "code_interpreter_call.outputs",
    ]
]
Metadata = Annotated[dict[str, str], AfterValidator(_metadata)]


class TextOptions(Body):
    """How the text is formed."""

    format: TextFormat | None = None
    verbosity: fields.MediumVerbosity = None


class ReasoningOptions(Body):
    """How the model reasons before it answers: not at all."""

    effort: fields.NoEffort = None
    summary: Annotated[None, fields.unsupported("models here do not reason apart")] = None


class StreamOptions(Body):
    """How a stream is told."""

    include_obfuscation: bool | None = Field(
        default=None, description="accepted; nothing is padded"
    )


class ResponseBody(Body):
    """POST /v1/responses."""

    input: Annotated[
        Annotated[fields.NonEmptyText, Tag("<text>")]
        | Annotated[
            list[response_items.InputItem],
            Field(min_length=1, max_length=limits.MAX_MESSAGES),
            Tag("<parts>"),
        ],
        text_or("items"),
    ]
    model: fields.NonEmptyText | None = Field(default=None, description="absent: the one served")
    instructions: str | None = Field(default=None, description="a system turn, for this answer")
    previous_response_id: Annotated[str, Field(pattern=ID_PATTERN)] | None = None
    store: bool | None = Field(default=True, description="keep it, to be read and continued")
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: fields.Temperature = None
    top_p: fields.TopP | None = None
    max_output_tokens: fields.MaxTokens | None = None
    text: TextOptions | None = None
    tools: Annotated[list[ResponseToolBody], Tools] | None = None
    tool_choice: ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = Field(
        default=None, description="true: up to 8 calls in one answer; else one"
    )
    include: Include | None = None
    top_logprobs: fields.CandidateCount | None = None
    truncation: Annotated[
        Literal["disabled"] | None,
        BeforeValidator(fields.exactly("disabled", "shorten the input yourself")),
    ] = None
    metadata: Metadata | None = None
    background: Annotated[
        Literal[False] | None,
        BeforeValidator(fields.unless_false("an answer lives as long as its request")),
    ] = None
    user: str | None = _UNUSED
    safety_identifier: str | None = _UNUSED
    prompt_cache_key: str | None = _UNUSED
    prompt_cache_retention: str | None = _UNUSED
    prompt_cache_options: dict[str, Any] | None = _UNUSED
    service_tier: Literal["auto", "default"] | None = _UNUSED
    conversation: Annotated[None, fields.unsupported("use previous_response_id")] = None
    prompt: Annotated[None, fields.unsupported("send the text itself")] = None
    reasoning: ReasoningOptions | None = None
    max_tool_calls: Annotated[None, fields.unsupported("no tools are run here")] = None
    thermesh: Extension | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ResponseBody:
        extension = self.thermesh
        if self.temperature is not None and extension and extension.program is not None:
            raise fields.refused("thermesh.program", "and temperature exclude each other; set one")
        if self.stream_options is not None and not self.stream:
            raise fields.refused("stream_options", "needs stream: true")
        if self.top_logprobs and not self.wants_logprobs:
            raise fields.refused("top_logprobs", f"needs include: {LOGPROBS}")
        _ = self.tool_use
        return self

    @property
    def wants_logprobs(self) -> bool:
        """Whether log-probabilities are told."""
        return LOGPROBS in (self.include or ())

    @property
    def tool_use(self) -> ToolUse | None:
        """What the model may do with functions; ValueError where the choice does not fit."""
        offered = [body.tool for body in self.tools or ()]
        return tool_use(offered, self.tool_choice, parallel=bool(self.parallel_tool_calls))

    def items(self, name: str) -> list[Json]:
        """Return what is new in this request as items; `name` makes ids for those without."""
        told = self.input
        if isinstance(told, str):
            told = [response_items.InputMessage(role="user", content=told)]
        return [item.kept(f"{name}_{number}") for number, item in enumerate(told)]

    def echo(self) -> Json:
        """Return the members of a response that only repeat what was asked."""
        shown = (self.text and self.text.format) or TextFormat(type="text")
        choice = self.tool_choice or "auto"
        return {
            "background": False,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "metadata": self.metadata or {},
            "parallel_tool_calls": bool(self.parallel_tool_calls),
            "previous_response_id": self.previous_response_id,
            "store": self.store is not False,
            "text": {"format": shown.model_dump(by_alias=True, exclude_none=True)},
            "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
            "tools": [tool.model_dump() for tool in self.tools or ()],
            "top_logprobs": self.top_logprobs or 0,
            "top_p": self.top_p,
            "truncation": "disabled",
        }


class Whose(BaseModel):
    """The query of any request about a kept response."""

    model_config = ConfigDict(extra="forbid")

    tenant: fields.Name = Field(
        default=DEFAULT_TENANT, description="whose it is, where no key says so"
    )


class Reading(Whose):
    """How a kept response is read."""

    stream: bool = False
    starting_after: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="with stream: the events after this sequence_number"
    )
    include: Include = Field(
        default=[], alias="include[]", description="what was asked for is told in any case"
    )
    include_obfuscation: bool = Field(default=False, description="accepted; nothing is padded")


class Listing(Whose):
    """Which items of a kept response are listed."""

    after: str | None = Field(default=None, description="an item's id; those behind it are told")
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    include: Include = Field(
        default=[], alias="include[]", description="what was asked for is told in any case"
    )


def response_ask(
    body: ResponseBody, items: Sequence[Json], now_unix_ms: int, traceparent: str
) -> Ask:
    """Return what a response to `items` asks for; raise InvalidArgument."""
    decoding = Decoding.model_construct(
        model=body.model, temperature=body.temperature, top_p=body.top_p, thermesh=body.thermesh
    )
    use = body.tool_use
    wanted = body.text.format.constraint if body.text and body.text.format else None
    instructions = [Message(Role.SYSTEM, body.instructions)] if body.instructions else []
    ask = Ask(
        context=asks.context(decoding, now_unix_ms, traceparent),
        input=Chat(transcript.instructed([*instructions, *response_items.turns(items)], use)),
        route=ROUTE,
        model=body.model or "",
        constraints=asks.constraints(decoding, body.max_output_tokens or 0),
        candidate_count=body.top_logprobs or 0,
        constraint=wanted if use is None else use.constraint(wanted),
    )
    try:
        limits.check_ask(ask)
    except InvalidArgument as error:
        raise renamed(error) from None
    return ask


def renamed(error: MeshError) -> MeshError:
    """Return `error` with its field named as responses name it."""
    field = rest_param(error.field)
    for pattern, name in _NAMES:
        field = re.sub(pattern, name, field)
    return type(error)(
        error.message, field=field, reason=error.reason, retry_after=error.retry_after
    )
