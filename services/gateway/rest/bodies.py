"""What may be asked over REST. Unknown fields are refused, types are strict."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema, model_validator

from services.gateway import limits
from services.gateway.rest import fields
from services.gateway.rest.messages import MessageBody
from services.gateway.rest.structure import STRICT, ResponseFormat
from services.gateway.rest.tool_bodies import ToolBody, ToolChoice, Tools, tool_use
from services.gateway.tools import ToolUse

_UNUSED = Field(default=None, description="accepted and not used")


class Body(BaseModel):
    """Base of every request object."""

    model_config = STRICT


class FixedBody(Body):
    """Every token at one temperature."""

    kind: Literal["fixed"]
    temperature: fields.PinnedTemperature


class EdtBody(Body):
    """Entropy-based dynamic temperature (arXiv 2403.14541)."""

    kind: Literal["edt"]
    base_temperature: fields.EnvelopeTemperature
    theta: fields.Theta


class DynatempBody(Body):
    """llama.cpp's dynamic temperature."""

    kind: Literal["dynatemp"]
    temperature: fields.EnvelopeTemperature
    range: fields.DynatempRange
    exponent: fields.Exponent = 1.0


class ResidualBody(Body):
    """One temperature, corrected by each token's entropy."""

    kind: Literal["residual"]
    temperature: fields.EnvelopeTemperature
    slope: fields.ResidualSlope
    centre: fields.ResidualCentre = 1.0
    range: fields.ResidualRange = 0.1


class RangeBody(Body):
    """A narrower envelope for this request."""

    minimum: fields.EnvelopeTemperature
    maximum: fields.EnvelopeTemperature

    @model_validator(mode="after")
    def _ordered(self) -> RangeBody:
        if self.minimum > self.maximum:
            raise ValueError("maximum must not be below minimum")
        return self


Scenario = Annotated[
    Literal[
        "dialogue",
        "translation",
        "recommendation",
        "recommendation_new_user",
        "recommendation_valued_user",
        "classification",
        "code",
        "question_answering",
        "arithmetic",
        "generation",
    ],
    Field(description="names the envelope; absent: that of the request's task"),
]


class Extension(Body):
    """What OpenAI's API has no words for."""

    scenario: Scenario | None = None
    mode: Literal["observe", "apply", "bypass"] | None = None
    temperature_range: RangeBody | None = None
    program: (
        Annotated[FixedBody | EdtBody | DynatempBody | ResidualBody, Field(discriminator="kind")]
        | None
    ) = None
    top_n_sigma: fields.TopNSigma | None = None
    telemetry: bool = Field(
        default=False, description="report temperature and entropy of every token"
    )
    session_id: fields.Name | None = None
    tenant: fields.Name | None = None
    priority: Literal["batch", "standard", "interactive", "voice"] | None = None
    deadline_ms: fields.DeadlineMs | None = Field(
        default=None, description="milliseconds from now until the answer is of no use"
    )


class StreamOptions(Body):
    """How a stream ends."""

    include_usage: bool = False
    include_obfuscation: bool | None = Field(
        default=None, description="accepted; nothing is padded"
    )


class Decoding(Body):
    """What chat and text completions share."""

    model: fields.NonEmptyText | None = Field(default=None, description="absent: the one served")
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: fields.Temperature = None
    top_p: fields.TopP | None = None
    top_k: fields.TopK | None = None
    min_p: fields.MinP | None = None
    max_tokens: fields.MaxTokens | None = Field(
        default=None, description="absent: the plan's budget"
    )
    stop: fields.Stops = []
    seed: fields.Seed | None = None
    presence_penalty: fields.Presence | None = None
    frequency_penalty: fields.Frequency | None = None
    repetition_penalty: fields.Repetition | None = None
    logit_bias: fields.LogitBias = {}
    n: fields.AnswerCount | None = Field(
        default=None, description="answers, each with a decision of its own"
    )
    user: str | None = _UNUSED
    metadata: dict[str, str] | None = _UNUSED
    thermesh: Extension | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Decoding:
        extension = self.thermesh
        if self.temperature is not None and extension and extension.program is not None:
            raise fields.refused("thermesh.program", "and temperature exclude each other; set one")
        if self.stream_options is not None and not self.stream:
            raise fields.refused("stream_options", "needs stream: true")
        return self


class ChatBody(Decoding):
    """POST /v1/chat/completions."""

    messages: Annotated[list[MessageBody], Field(min_length=1, max_length=limits.MAX_MESSAGES)]
    max_completion_tokens: fields.MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: fields.CandidateCount | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[ToolBody], Tools] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = Field(
        default=None, description="true: up to 8 calls in one answer; else one"
    )
    store: Annotated[
        Literal[False] | None,
        BeforeValidator(fields.unless_false("/v1/responses keeps what it answers")),
    ] = None
    modalities: Annotated[
        list[Literal["text"]] | None,
        BeforeValidator(fields.exactly(["text"], "only text is decoded")),
    ] = None
    service_tier: Literal["auto", "default"] | None = _UNUSED
    safety_identifier: str | None = _UNUSED
    prompt_cache_key: str | None = _UNUSED
    prompt_cache_retention: str | None = _UNUSED
    prompt_cache_options: dict[str, Any] | None = _UNUSED
    functions: Annotated[None, fields.unsupported("use tools")] = None
    function_call: Annotated[None, fields.unsupported("use tool_choice")] = None
    audio: Annotated[None, fields.unsupported("only text is decoded")] = None
    prediction: Annotated[None, fields.unsupported("leave it out")] = None
    reasoning_effort: fields.NoEffort = None
    verbosity: fields.MediumVerbosity = None
    web_search_options: Annotated[None, fields.unsupported("no tools are run here")] = None

    @model_validator(mode="after")
    def _chat_consistent(self) -> ChatBody:
        if self.top_logprobs is not None and not self.logprobs:
            raise fields.refused("top_logprobs", "needs logprobs: true")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise fields.refused(
                "max_tokens", "and max_completion_tokens exclude each other; set one"
            )
        if not self.messages[-1].text and self.messages[-1].role != "tool":
            last = f"messages[{len(self.messages) - 1}].content"
            raise fields.refused(last, "must not be empty")
        _ = self.tool_use
        return self

    @property
    def tool_use(self) -> ToolUse | None:
        """What the model may do with functions; ValueError where the choice does not fit."""
        offered = [body.tool for body in self.tools or ()]
        return tool_use(offered, self.tool_choice, parallel=bool(self.parallel_tool_calls))


def _is_prompt(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value)
    is_ids = isinstance(value, list) and all(type(token) is int for token in value)
    return is_ids and bool(value) and all(0 <= token < 2**31 for token in value)


def _prompts(value: Any) -> Any:
    prompts = [value] if _is_prompt(value) else value
    if isinstance(prompts, list) and prompts and all(map(_is_prompt, prompts)):
        return prompts
    raise ValueError("must be a text, a list of token ids, or a list of such, none of them empty")


class CompletionBody(Decoding):
    """POST /v1/completions."""

    prompt: Annotated[
        list[str | list[int]],
        BeforeValidator(_prompts),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {}}]}),
        Field(description="one, or several, each of which is answered `n` times"),
    ]
    logprobs: fields.CandidateCount | None = None
    best_of: fields.OneAnswer = None
    echo: Annotated[
        Literal[False] | None, BeforeValidator(fields.unless_false("the prompt is not repeated"))
    ] = None
    suffix: Annotated[None, fields.unsupported("leave it out")] = None

    @model_validator(mode="after")
    def _few(self) -> CompletionBody:
        if len(self.prompt) * (self.n or 1) > limits.MAX_CHOICES:
            raise fields.refused("prompt", f"times n may be at most {limits.MAX_CHOICES} answers")
        return self


class FeedbackBody(Body):
    """POST /v1/feedback."""

    id: fields.Name | None = Field(
        default=None, description="idempotency key; or send the header Idempotency-Key"
    )
    decision_id: fields.NonEmptyText
    score: fields.Score | None = Field(default=None, description="-1 useless, 0 neutral, 1 perfect")
    rating: Literal["up", "down"] | None = Field(
        default=None, description="`up` is score 1, `down` -1"
    )
    signal: Literal["explicit", "regenerate", "abandon", "edit", "verifier"] = "explicit"
    comment: Annotated[str, Field(max_length=limits.MAX_COMMENT_CHARACTERS)] = ""
    tenant: fields.Name | None = None

    @model_validator(mode="after")
    def _one_score(self) -> FeedbackBody:
        if (self.score is None) == (self.rating is None):
            raise ValueError('set either score (from -1 to 1) or rating ("up" or "down")')
        return self
