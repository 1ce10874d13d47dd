"""Response objects as the OpenAPI page shows them; tests check real answers against them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """Base of every response object; members that are not listed are not sent."""

    model_config = ConfigDict(extra="forbid")


class ErrorDetail(Document):
    """What went wrong; `param` names the field."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorDocument(Document):
    """Body of every answer with a status of 400 or more."""

    error: ErrorDetail


class ForecastDocument(Document):
    """What the request was expected to cost, alone on the machine."""

    prefill_seconds: float
    output_tokens: int
    output_tokens_high: int
    total_seconds: float
    latency_cost: float
    misses_deadline: bool
    bounds_budget: bool


class PlanDocument(Document):
    """How the answer was decoded and who chose that."""

    decision_id: str
    policy_version: int
    source: Literal["policy", "pinned", "static", "fallback"]
    temperature: float
    program: dict[str, Any]
    guard: dict[str, float]
    token_budget: int
    compute_path: Literal["light", "standard", "heavy"]
    task: str | None
    scenario: str | None
    seed: int
    explored: bool
    log_density: float
    policy_temperature: float
    mode: str | None
    forecast: ForecastDocument | None


class TokenDocument(Document):
    """Telemetry of one token; entropy and logprob in nats."""

    index: int
    text: str
    temperature: float
    entropy: float
    logprob: float
    revision: int
    step_time_us: int


class AppliedDocument(Document):
    """A change of parameters and the token from which it holds."""

    revision: int
    token_index: int
    source: str | None
    update_id: int
    program: dict[str, Any] | None = None
    guard: dict[str, float] | None = None


class ExtensionDocument(Document):
    """The `thermesh` member of an answer."""

    request_id: str
    decision_id: str
    policy_version: int
    plan: PlanDocument | None
    finish_reason: str
    mean_temperature: float
    mean_entropy: float
    queue_time_us: int
    prefill_time_us: int
    decode_time_us: int
    tokens: list[TokenDocument] | None = None
    applied: list[AppliedDocument] | None = None


class UsageDocument(Document):
    """Tokens counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int]


class CalledFunctionDocument(Document):
    """A function and its arguments as JSON text."""

    name: str
    arguments: str


class ToolCallDocument(Document):
    """A function that the model wants called."""

    id: str
    type: Literal["function"]
    function: CalledFunctionDocument


class MessageDocument(Document):
    """The assistant's turn; `content` is null where it is only calls."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[ToolCallDocument] | None = None


class ChatChoice(Document):
    """One answer of a chat completion."""

    index: int
    message: MessageDocument
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length", "tool_calls"]
    thermesh: ExtensionDocument | None = None


class TextChoice(Document):
    """One answer of a text completion."""

    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]
    thermesh: ExtensionDocument | None = None


class _Completion(Document):
    id: str
    created: int
    model: str
    usage: UsageDocument
    thermesh: ExtensionDocument


class ChatCompletion(_Completion):
    """A chat completion that is not streamed."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class TextCompletion(_Completion):
    """A text completion that is not streamed."""

    object: Literal["text_completion"]
    choices: list[TextChoice]


class EmbeddingDocument(Document):
    """The vector of one text: numbers, or their little-endian float32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Document):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsDocument(Document):
    """Vectors in the order of the texts."""

    object: Literal["list"]
    model: str
    data: list[EmbeddingDocument]
    usage: EmbeddingUsage


class ModelDocument(Document):
    """One model; `context_length` in tokens."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    context_length: int


class ModelsDocument(Document):
    """The models that can be asked for, the default first."""

    object: Literal["list"]
    data: list[ModelDocument]


class FeedbackDocument(Document):
    """What became of a piece of feedback."""

    id: str
    object: Literal["feedback"]
    state: Literal["pending", "applied"]
    applied_version: int | None
    duplicate: bool


class PolicyDocument(Document):
    """One stored version of the policy."""

    version: int
    object: Literal["policy"]
    kind: str
    created_unix_ms: int
    reason: str
    parent_version: int
    feedback_count: int
    live: bool


class PoliciesDocument(Document):
    """Stored versions, newest first, and the modes set by route."""

    object: Literal["list"]
    data: list[PolicyDocument]
    modes: dict[str, str]


class HealthDocument(Document):
    """`degraded` is ready: decoding goes on without the neighbours that are away."""

    status: Literal["ok", "ready", "degraded", "not_ready", "draining"]
    peers: dict[str, Literal["serving", "away"]] | None = None


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorDocument, "description": text}
    for status, text in (
        (400, "a field has a value it may not have; `param` names it"),
        (401, "no valid key, where keys are asked for"),
        (403, "the key belongs to another tenant"),
        (404, "the request names something that does not exist"),
        (429, "no room now; see Retry-After"),
        (503, "a part of the mesh is away; see Retry-After"),
        (504, "the deadline passed"),
    )
}


# Each event of a stream; its data is JSON, or [DONE].
EVENT_STREAM: dict[str, Any] = {
    "text/event-stream": {
        "schema": {
            "type": "object",
            "properties": {"data": {"type": "string"}, "event": {"type": "string"}},
        }
    }
}


def answered(model: type[BaseModel], content: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Return the responses of a decoding route for the schema."""
    return {200: {"model": model, "content": content}, **ERRORS}
