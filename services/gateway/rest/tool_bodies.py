"""Request bodies of functions that the model may call, as chat and responses write them.

Chat puts a function into an object of its own, responses into the tool itself;
both say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from services.gateway import tools
from services.gateway.rest import fields
from services.gateway.rest.structure import FunctionName, Part, checked_schema

CHOICES = ("none", "auto", "required")


def _parameters(value: dict[str, Any]) -> dict[str, Any]:
    if value.get("type", "object") != "object":
        raise ValueError("must be the schema of an object")
    return checked_schema(value)


FunctionType = Annotated[
    Literal["function"], BeforeValidator(fields.exactly("function", "no other tools are run"))
]
Tools = Field(max_length=tools.MAX_TOOLS)


class FunctionBody(Part):
    """A function that the model may call.

    Arguments fit `parameters`; `strict` refuses a schema that cannot be enforced whole.
    """

    name: FunctionName
    description: str | None = None
    parameters: Annotated[dict[str, Any], AfterValidator(_parameters)] | None = None
    strict: bool | None = None

    @property
    def tool(self) -> tools.Tool:
        """The function as a value."""
        told = {"description": self.description, "parameters": self.parameters}
        given = {name: value for name, value in told.items() if value}
        return tools.Tool(self.name, **given, is_strict=bool(self.strict))  # type: ignore[arg-type]  # by name above


class ToolBody(Part):
    """One tool of a chat completion."""

    type: FunctionType
    function: FunctionBody

    @property
    def tool(self) -> tools.Tool:
        """The function as a value."""
        return self.function.tool


class _Typed(Part):
    type: FunctionType


class ResponseToolBody(FunctionBody, _Typed):
    """One tool of a response. Its type is looked at first, so that a refusal names that."""


class NamedFunction(Part):
    """The name of a function."""

    name: FunctionName


class NamedTool(Part):
    """A function by its name; as a choice: the one that must be called."""

    type: Literal["function"]
    function: NamedFunction

    @property
    def mode(self) -> str:
        """How far calls are allowed."""
        return "required"

    @property
    def names(self) -> tuple[str, ...]:
        """The functions that may be called."""
        return (self.function.name,)


class ResponseNamedTool(NamedFunction):
    """`NamedTool` as /v1/responses writes it."""

    type: Literal["function"]

    @property
    def mode(self) -> str:
        """How far calls are allowed."""
        return "required"

    @property
    def names(self) -> tuple[str, ...]:
        """The functions that may be called."""
        return (self.name,)


class Allowed(Part):
    """Some of the tools."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=tools.MAX_TOOLS)]


class AllowedTools(Part):
    """Some of the tools, for this answer."""

    type: Literal["allowed_tools"]
    allowed_tools: Allowed

    @property
    def mode(self) -> str:
        """How far calls are allowed."""
        return self.allowed_tools.mode

    @property
    def names(self) -> tuple[str, ...]:
        """The functions that may be called."""
        return tuple(name for tool in self.allowed_tools.tools for name in tool.names)


class ResponseAllowedTools(Part):
    """`AllowedTools` as /v1/responses writes it."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[ResponseNamedTool], Field(min_length=1, max_length=tools.MAX_TOOLS)]

    @property
    def names(self) -> tuple[str, ...]:
        """The functions that may be called."""
        return tuple(tool.name for tool in self.tools)


Chosen = NamedTool | ResponseNamedTool | AllowedTools | ResponseAllowedTools


def _kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "<word>" if value in CHOICES else None
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    if kind == "function":
        return "<function>"
    return "<allowed>" if kind == "allowed_tools" else None


_BY_KIND = Discriminator(
    _kind,
    custom_error_type="tool_choice",
    custom_error_message="must be one of none, auto, required, or an object naming functions",
)
_Word = Annotated[Literal["none", "auto", "required"], Tag("<word>")]
ToolChoice = Annotated[
    _Word | Annotated[NamedTool, Tag("<function>")] | Annotated[AllowedTools, Tag("<allowed>")],
    _BY_KIND,
]
ResponseToolChoice = Annotated[
    _Word
    | Annotated[ResponseNamedTool, Tag("<function>")]
    | Annotated[ResponseAllowedTools, Tag("<allowed>")],
    _BY_KIND,
]


def tool_use(
    offered: Sequence[tools.Tool], choice: Chosen | str | None, *, parallel: bool
) -> tools.ToolUse | None:
    """Return what the model may do with functions; None where there is nothing to do.

    Raises the error of the field where the choice does not fit what is offered.
    """
    if not offered:
        if choice not in (None, "none", "auto"):  # bodies have no hash
            raise fields.refused("tool_choice", "needs tools")
        return None
    known = {tool.name: tool for tool in offered}
    if len(known) < len(offered):
        raise fields.refused("tools", "must have different names")
    if choice is None or isinstance(choice, str):
        names, mode = tuple(known), choice or "auto"
    else:
        names, mode = choice.names, choice.mode
    if not known.keys() >= set(names):
        raise fields.refused("tool_choice", "must name one of tools: " + ", ".join(known))
    if mode == "none":
        return None
    chosen = tuple(known[name] for name in dict.fromkeys(names))
    return tools.ToolUse(chosen, tools.Choice(mode), parallel)
