"""Items of /v1/responses: what may come in, how it is kept, and the turns a model reads.

What came in is kept as JSON in one spelling, ids included, so that what was said
in this request, in earlier ones and by the model is read by the same few lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from services.gateway import tools
from services.gateway.asking import Message, Role
from services.gateway.rest import fields
from services.gateway.rest.messages import text_or
from services.gateway.rest.structure import FunctionName, Part

Json = dict[str, Any]

_TYPES = ("message", "function_call", "function_call_output")
_PARTS = ("input_text", "output_text")
_UNUSED = Field(default=None, description="accepted and not used")


def _part_type(value: Any) -> Any:
    if value not in _PARTS:
        raise ValueError("must be one of " + ", ".join(_PARTS) + "; only text is read")
    return value


class InputPart(Part):
    """One part of a message, or of the result of a call."""

    type: Annotated[Literal["input_text", "output_text"], BeforeValidator(_part_type)]
    text: str
    annotations: list[Any] | None = _UNUSED
    logprobs: list[Any] | None = _UNUSED


Content = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[InputPart], Tag("<parts>")],
    text_or("parts"),
]


class _Item(Part):
    id: fields.NonEmptyText | None = Field(default=None, description="kept with the item")
    status: Literal["in_progress", "completed", "incomplete"] | None = _UNUSED


class InputMessage(_Item):
    """One turn; what the client got as output may come back as input."""

    type: Literal["message"] | None = None
    role: Literal["system", "developer", "user", "assistant"]
    content: Content

    def kept(self, new_id: str) -> Json:
        """Return the item as it is kept; `new_id` where it has none."""
        kind = "output_text" if self.role == "assistant" else "input_text"
        more: Json = {"annotations": [], "logprobs": []} if self.role == "assistant" else {}
        content = [{"type": kind, "text": text} | more for text in _texts(self.content)]
        return {
            "id": self.id or f"msg_{new_id}",
            "type": "message",
            "role": self.role,
            "status": "completed",
            "content": content,
        }


class FunctionCall(_Item):
    """A call that the model made; its `arguments` are JSON text."""

    type: Literal["function_call"]
    call_id: fields.NonEmptyText
    name: FunctionName
    arguments: str

    def kept(self, new_id: str) -> Json:
        """Return the item as it is kept; `new_id` where it has none."""
        return {
            "id": self.id or f"fc_{new_id}",
            "type": self.type,
            "call_id": self.call_id,
            "name": self.name,
            "arguments": self.arguments,
            "status": "completed",
        }


class FunctionCallOutput(_Item):
    """What a call gave."""

    type: Literal["function_call_output"]
    call_id: fields.NonEmptyText
    output: Content

    def kept(self, new_id: str) -> Json:
        """Return the item as it is kept; `new_id` where it has none."""
        return {
            "id": self.id or f"fco_{new_id}",
            "type": self.type,
            "call_id": self.call_id,
            "output": "".join(_texts(self.output)),
            "status": "completed",
        }


def _item_type(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", "")
    kind = "message" if kind is None else kind
    return f"<{kind}>" if kind in _TYPES else None


InputItem = Annotated[
    Annotated[InputMessage, Tag("<message>")]
    | Annotated[FunctionCall, Tag("<function_call>")]
    | Annotated[FunctionCallOutput, Tag("<function_call_output>")],
    Discriminator(
        _item_type,
        custom_error_type="item",
        custom_error_message="must be an item of type " + ", ".join(_TYPES),
    ),
]


def turns(items: Sequence[Json]) -> list[Message]:
    """Return the conversation that kept items are; results of calls in a row share one turn."""
    told: list[Message] = []
    for is_result, group in groupby(items, lambda item: item["type"] == "function_call_output"):
        if is_result:
            results = tools.results_text([item["output"] for item in group])
            told.append(Message(Role.USER, results))
        else:
            _say(told, group)
    return told


def _say(told: list[Message], items: Iterable[Json]) -> None:
    for item in items:
        if item["type"] == "message":
            role = "system" if item["role"] == "developer" else item["role"]
            text = "".join(part["text"] for part in item["content"])
            told.append(Message(Role(role), text))
            continue
        # The model wrote its words and its calls in one turn.
        words = told.pop().content if told and told[-1].role is Role.ASSISTANT else ""
        called = tools.call_text(item["name"], item["arguments"])
        told.append(Message(Role.ASSISTANT, "\n".join(filter(None, [words, called]))))


def _texts(content: str | list[InputPart]) -> list[str]:
    return [content] if isinstance(content, str) else [part.text for part in content]
