"""Request bodies of structured answers: response_format, tools, calls and their results."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from services.gateway import tools
from services.gateway.constraint import (
    JSON_OBJECT,
    MAX_TEXT_BYTES,
    ConstraintKind,
    OutputConstraint,
)
from services.gateway.rest import fields

FORMATS = ("text", "json_object", "json_schema")
CHOICES = ("none", "auto", "required")
_NAME = r"^[A-Za-z0-9_-]{1,64}$"


STRICT = ConfigDict(extra="forbid", strict=True)


class Part(BaseModel):
    """Base of the objects inside a request."""

    model_config = STRICT


def _format(value: Any) -> Any:
    if value not in FORMATS:
        raise ValueError("must be one of " + ", ".join(FORMATS))
    return value


def _schema(value: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(json.dumps(value))
    except (RecursionError, ValueError):
        raise ValueError("is nested too deeply") from None
    if size > MAX_TEXT_BYTES:
        raise ValueError(f"must have at most {MAX_TEXT_BYTES} bytes")
    return value


def _parameters(value: dict[str, Any]) -> dict[str, Any]:
    if value.get("type", "object") != "object":
        raise ValueError("must be the schema of an object")
    return _schema(value)


Schema = Annotated[dict[str, Any], AfterValidator(_schema)]
FunctionName = Annotated[str, Field(pattern=_NAME)]


class JsonSchemaBody(Part):
    """A schema that the answer fits; `strict` changes nothing, it is always enforced."""

    name: FunctionName
    description: str | None = None
    schema_: Schema = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Part):
    """What the answer must be."""

    type: Annotated[Literal["text", "json_object", "json_schema"], BeforeValidator(_format)]
    json_schema: JsonSchemaBody | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema goes with type json_schema, and only with it")
        return self

    @property
    def constraint(self) -> OutputConstraint | None:
        """The language of the answer; None: free text."""
        if self.json_schema is not None:
            text = json.dumps(self.json_schema.schema_)
            return OutputConstraint(ConstraintKind.JSON_SCHEMA, text)
        return JSON_OBJECT if self.type == "json_object" else None


class TextFormat(Part):
    """What the text of a response must be: `ResponseFormat` as /v1/responses writes it."""

    type: Annotated[Literal["text", "json_object", "json_schema"], BeforeValidator(_format)]
    name: FunctionName | None = None
    description: str | None = None
    schema_: Schema | None = Field(default=None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _consistent(self) -> TextFormat:
        if (self.type == "json_schema") != (self.schema_ is not None):
            raise ValueError("schema goes with type json_schema, and only with it")
        return self

    @property
    def constraint(self) -> OutputConstraint | None:
        """The language of the text; None: free text."""
        if self.schema_ is not None:
            return OutputConstraint(ConstraintKind.JSON_SCHEMA, json.dumps(self.schema_))
        return JSON_OBJECT if self.type == "json_object" else None


class FunctionBody(Part):
    """A function that the model may call; `strict` changes nothing, as above."""

    name: FunctionName
    description: str | None = None
    parameters: Annotated[dict[str, Any], AfterValidator(_parameters)] | None = None
    strict: bool | None = None


class ToolBody(Part):
    """One tool."""

    type: Annotated[
        Literal["function"], BeforeValidator(fields.exactly("function", "no other tools are run"))
    ]
    function: FunctionBody

    @property
    def tool(self) -> tools.Tool:
        """The function as a value."""
        told = {"description": self.function.description, "parameters": self.function.parameters}
        given = {name: value for name, value in told.items() if value}
        return tools.Tool(self.function.name, **given)  # type: ignore[arg-type]  # by name above


class NamedFunction(Part):
    """The name of a function."""

    name: FunctionName


class NamedTool(Part):
    """The one function that must be called."""

    type: Literal["function"]
    function: NamedFunction


def _choice(value: Any) -> Any:
    if value is None or isinstance(value, dict) or value in CHOICES:
        return value
    raise ValueError("must be one of " + ", ".join(CHOICES) + ", or an object naming a function")


ToolChoice = Annotated[
    Literal["none", "auto", "required"] | NamedTool | None, BeforeValidator(_choice)
]


class CalledFunction(Part):
    """A function with the arguments that the model gave, as JSON text."""

    name: FunctionName
    arguments: str


class ToolCallBody(Part):
    """A call that the model made in an earlier turn."""

    id: fields.NonEmptyText
    type: Literal["function"] = "function"
    function: CalledFunction


def tool_use(
    offered: list[ToolBody], choice: NamedTool | str | None, parallel: bool
) -> tools.ToolUse | None:
    """Return what the model may do with functions; None where there is nothing to do.

    Raises the error of the field where the choice does not fit what is offered.
    """
    if not offered:
        if choice is not None and choice != "none":
            raise fields.refused("tool_choice", "needs tools")
        return None
    known = {body.function.name: body.tool for body in offered}
    if len(known) < len(offered):
        raise fields.refused("tools", "must have different names")
    if isinstance(choice, NamedTool):
        if choice.function.name not in known:
            names = ", ".join(known)
            raise fields.refused("tool_choice", f"must name one of tools: {names}")
        chosen = known[choice.function.name]
        return tools.ToolUse((chosen,), tools.Choice.REQUIRED)
    if choice == "none":
        return None
    return tools.ToolUse(tuple(known.values()), tools.Choice(choice or "auto"), parallel)
