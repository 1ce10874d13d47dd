"""Functions that a model may call: how it is told of them, and the language of its calls.

No model is asked for a template of its own: each is told of the functions in
the system turn and answers in one markup, that of the Hermes models, which many
open models were taught and any can be held to by a grammar:

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Oslo"}}
    </tool_call>

Results come back as a user turn between <tool_response> marks. Because the
grammar leaves one way to write a call, `calls` reads it without guessing.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from services.gateway.constraint import (
    MAX_TEXT_BYTES,
    ConstraintKind,
    OutputConstraint,
)
from thermesh.errors import InvalidArgument

Json = dict[str, Any]

CALL_BEGIN = "<tool_call>"
CALL_END = "</tool_call>"
MAX_TOOLS = 128
MAX_PARALLEL_CALLS = 8

_NO_PARAMETERS: Json = {"type": "object", "properties": {}, "additionalProperties": False}
_JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# All text but one that begins as a call does.
_FREE_TEXT = f"/(?s:.*)/ & ~/{CALL_BEGIN}(?s:.*)/"


class Choice(enum.StrEnum):
    """Whether the model may or must call a function."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Tool:
    """One function; `parameters` is the JSON Schema of its arguments, an object.

    Schemas of tools are often not written by who uses them, so one that is not strict may
    have keywords that no grammar can enforce: those are left to the model.
    """

    name: str
    description: str = ""
    parameters: Json = field(default_factory=lambda: _NO_PARAMETERS)
    is_strict: bool = False

    @property
    def rule(self) -> str:
        """The language of the arguments, always of an object."""
        schema = {**self.parameters, "type": "object"}
        return _json_rule(schema, {} if self.is_strict else {"lenient": True})


@dataclass(frozen=True, slots=True)
class ToolUse:
    """What one request lets the model do with functions."""

    tools: tuple[Tool, ...]
    choice: Choice = Choice.AUTO
    parallel: bool = False

    def constraint(self, answer: OutputConstraint | None) -> OutputConstraint:
        """Return the language of calls and, where the model may answer instead,
        of `answer` (None: free text). Raises InvalidArgument where it is too large.
        """
        lines = [f"args_{i}: {tool.rule}" for i, tool in enumerate(self.tools)]
        lines += [f"call_{i}: {_call_rule(i, tool.name)}" for i, tool in enumerate(self.tools)]
        lines.append("call: " + " | ".join(f"call_{i}" for i in range(len(self.tools))))
        more = f' ("\\n" call){{0,{MAX_PARALLEL_CALLS - 1}}}' if self.parallel else ""
        lines.append(f"calls: call{more}")
        if self.choice is Choice.REQUIRED:
            lines.append("start: calls")
        else:
            lines += [_answer_rule(answer), "start: ANSWER | calls"]
            if answer is not None:
                lines[-1] = "start: answer | calls"
        grammar = "\n".join(lines) + "\n"
        if len(grammar.encode()) > MAX_TEXT_BYTES:
            message = f"tools must have at most {MAX_TEXT_BYTES} bytes together"
            raise InvalidArgument(message, field="tools")
        return OutputConstraint(ConstraintKind.LARK, grammar)

    def instructions(self) -> str:
        """Return what the system turn tells the model."""
        listed = "\n".join(json.dumps(_told(tool), ensure_ascii=False) for tool in self.tools)
        duty = (
            "You must answer by calling a function."
            if self.choice is Choice.REQUIRED
            else "Call a function where it helps; otherwise answer in plain text."
        )
        example = f'{CALL_BEGIN}\n{{"name": "<function>", "arguments": {{...}}}}\n{CALL_END}'
        return (
            "You can call functions. Each line between <tools> and </tools> describes one as"
            f" JSON:\n<tools>\n{listed}\n</tools>\n{duty} To call one, write only:\n{example}"
        )


def call_text(name: str, arguments: str) -> str:
    """Return a call as the model wrote it, for the conversation so far."""
    return f'{CALL_BEGIN}\n{{"name": {json.dumps(name)}, "arguments": {arguments}}}\n{CALL_END}'


def results_text(results: Sequence[str]) -> str:
    """Return the results of calls as one user turn."""
    return "\n".join(f"<tool_response>\n{result}\n</tool_response>" for result in results)


def _told(tool: Tool) -> Json:
    return {"name": tool.name, "description": tool.description, "parameters": tool.parameters}


def _call_rule(index: int, name: str) -> str:
    head = f'{CALL_BEGIN}\n{{"name": "{name}", "arguments": '
    tail = f"}}\n{CALL_END}"
    return f"{json.dumps(head)} args_{index} {json.dumps(tail)}"


def _answer_rule(answer: OutputConstraint | None) -> str:
    if answer is None:
        return f"ANSWER: {_FREE_TEXT}"
    schema = json.loads(answer.text) if answer.text else {"type": "object"}
    return f"answer: {_json_rule(schema)}"


def _json_rule(schema: Json, style: Json | None = None) -> str:
    return f"%json {json.dumps({**schema, 'x-guidance': _JSON_STYLE | (style or {})})}"
