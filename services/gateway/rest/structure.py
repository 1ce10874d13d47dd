"""Request bodies of structured answers: response_format, schemas and calls."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from services.gateway.constraint import (
    JSON_OBJECT,
    MAX_TEXT_BYTES,
    ConstraintKind,
    OutputConstraint,
)
from services.gateway.rest import fields

FORMATS = ("text", "json_object", "json_schema")
_NAME = r"^[A-Za-z0-9_-]{1,64}$"


STRICT = ConfigDict(extra="forbid", strict=True)


class Part(BaseModel):
    """Base of the objects inside a request."""

    model_config = STRICT


def _format(value: Any) -> Any:
    if value not in FORMATS:
        raise ValueError("must be one of " + ", ".join(FORMATS))
    return value


def checked_schema(value: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that is not too long; raise ValueError."""
    try:
        size = len(json.dumps(value))
    except (RecursionError, ValueError):
        raise ValueError("is nested too deeply") from None
    if size > MAX_TEXT_BYTES:
        raise ValueError(f"must have at most {MAX_TEXT_BYTES} bytes")
    return value


Schema = Annotated[dict[str, Any], AfterValidator(checked_schema)]
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


class CalledFunction(Part):
    """A function with the arguments that the model gave, as JSON text."""

    name: FunctionName
    arguments: str


class ToolCallBody(Part):
    """A call that the model made in an earlier turn."""

    id: fields.NonEmptyText
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = Field(
        default=None, description="accepted and not used: clients that join deltas leave it in"
    )
