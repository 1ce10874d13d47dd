"""Objects of /v1/responses as the OpenAPI page shows them; tests check against them."""

from __future__ import annotations

from typing import Any, Literal

from services.gateway.rest.documents import Document, ExtensionDocument

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputTextDocument(Document):
    """The text of a message."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[dict[str, Any]]


class OutputMessageDocument(Document):
    """The assistant's turn."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: ItemStatus
    content: list[OutputTextDocument]


class FunctionCallDocument(Document):
    """A function that the model wants called; `arguments` is JSON text."""

    id: str
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    status: ItemStatus


class FunctionCallOutputDocument(Document):
    """What a call gave, as the client said."""

    id: str
    type: Literal["function_call_output"]
    call_id: str
    output: str
    status: ItemStatus


class InputTextDocument(Document):
    """A text that came in."""

    type: Literal["input_text"]
    text: str


class InputMessageDocument(Document):
    """A turn that came in."""

    id: str
    type: Literal["message"]
    role: Literal["system", "developer", "user"]
    status: ItemStatus
    content: list[InputTextDocument]


class InputTokensDocument(Document):
    """What was known of the input already."""

    cached_tokens: int
    cache_write_tokens: int


class OutputTokensDocument(Document):
    """What the output was for."""

    reasoning_tokens: int


class ResponseUsageDocument(Document):
    """Tokens counted."""

    input_tokens: int
    input_tokens_details: InputTokensDocument
    output_tokens: int
    output_tokens_details: OutputTokensDocument
    total_tokens: int


class IncompleteDocument(Document):
    """Why an answer is cut; `thermesh.finish_reason` tells a deadline from a length."""

    reason: Literal["max_output_tokens"]


class ResponseDocument(Document):
    """A response that ended; `store` is false where there was no room to keep it."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete"]
    error: None
    incomplete_details: IncompleteDocument | None
    model: str
    output: list[OutputMessageDocument | FunctionCallDocument]
    temperature: float
    usage: ResponseUsageDocument
    background: Literal[False]
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    previous_response_id: str | None
    store: bool
    text: dict[str, Any]
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float | None
    truncation: Literal["disabled"]
    thermesh: ExtensionDocument


class DeletedDocument(Document):
    """A response that is gone."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class ItemsDocument(Document):
    """One page of the items that a response answers, earlier turns included."""

    object: Literal["list"]
    data: list[
        InputMessageDocument
        | OutputMessageDocument
        | FunctionCallDocument
        | FunctionCallOutputDocument
    ]
    first_id: str | None
    last_id: str | None
    has_more: bool
