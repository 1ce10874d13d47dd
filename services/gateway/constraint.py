"""Languages that an answer may be held to; inference compiles them and refuses what it cannot."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class ConstraintKind(enum.StrEnum):
    """How a language is written down, named as the members of OutputConstraint."""

    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    CHOICE = "choice"
    LARK = "lark"


@dataclass(frozen=True, slots=True)
class OutputConstraint:
    """One language: `text` for a schema, an expression or a grammar, `options` for a choice."""

    kind: ConstraintKind
    text: str = ""
    options: tuple[str, ...] = ()


MAX_TEXT_BYTES = 65_536
"""Most bytes of a schema, and of all tools of a request together."""

JSON_OBJECT = OutputConstraint(ConstraintKind.JSON_OBJECT)
