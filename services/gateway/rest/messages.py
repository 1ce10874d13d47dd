"""Messages of a conversation as they are sent over REST."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from services.gateway.rest import fields
from services.gateway.rest.structure import Part, ToolCallBody

ROLES = ("system", "developer", "user", "assistant", "tool")

_UNUSED = Field(default=None, description="accepted and not used")


class TextPart(Part):
    """One part of a message."""

    type: Annotated[
        Literal["text"],
        BeforeValidator(fields.exactly("text", "only text parts are supported")),
    ]
    text: str


def _content_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "<text>"
    return "<parts>" if isinstance(value, list) else None


def text_or(parts: str) -> Discriminator:
    """Return what tells a text from a list of `parts`, each under its own tag."""
    return Discriminator(
        _content_kind,
        custom_error_type="content",
        custom_error_message=f"must be a text or a list of {parts}",
    )


def _role(value: Any) -> Any:
    if value not in ROLES:
        raise ValueError("must be one of " + ", ".join(ROLES))
    return value


class MessageBody(Part):
    """One turn. Members without a use here may be null, as the official client sends them."""

    role: Annotated[
        Literal["system", "developer", "user", "assistant", "tool"],
        BeforeValidator(_role),
        Field(description="`developer` is read as `system`"),
    ]
    content: Annotated[
        Annotated[str, Tag("<text>")] | Annotated[list[TextPart], Tag("<parts>")],
        text_or("text parts"),
    ]
    name: str | None = _UNUSED
    refusal: Annotated[None, fields.unsupported("leave it out")] = None
    annotations: list[Any] | None = _UNUSED
    # What clients of many servers keep beside an answer comes back with it.
    reasoning_content: str | None = _UNUSED
    provider_specific_fields: dict[str, Any] | None = _UNUSED
    audio: Annotated[None, fields.unsupported("only text is decoded")] = None
    function_call: Annotated[None, fields.unsupported("use tool_calls")] = None
    tool_calls: list[ToolCallBody] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _calls_without_words(cls, value: Any) -> Any:
        # A turn that is only calls has no content.
        if isinstance(value, dict) and value.get("tool_calls") and value.get("content") is None:
            return {**value, "content": ""}
        return value

    @model_validator(mode="after")
    def _tools_in_their_place(self) -> MessageBody:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("tool_calls are made by role assistant only")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("tool_call_id goes with role tool, and only with it")
        return self

    @property
    def text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)
