"""Languages that an output may be held to: values and limits, and what holds it.

A constraint is compiled once into a matcher (`grammar` does it); the matcher
follows one output token by token and says before each which tokens may come.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from thermesh.errors import InvalidArgument

if TYPE_CHECKING:
    # A bridge reads constraints too, and has no numpy.
    import numpy as np
    import numpy.typing as npt

MAX_TEXT_BYTES = 65_536
MAX_OPTIONS = 256
MAX_OPTION_BYTES = 1024


class Kind(enum.StrEnum):
    """How a language is written down, named as the members of OutputConstraint."""

    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    CHOICE = "choice"
    LARK = "lark"


@dataclass(frozen=True)
class OutputConstraint:
    """One language: `text` for a schema, an expression or a grammar, `options` for a choice."""

    kind: Kind
    text: str = ""
    options: tuple[str, ...] = ()

    def validate(self, path: str) -> None:
        """Refuse what is empty or too large, naming the member below `path`."""
        path = f"{path}.{self.kind}"
        if self.kind is Kind.CHOICE:
            self._validate_options(f"{path}.options")
        elif self.kind is not Kind.JSON_OBJECT:
            if not 1 <= len(self.text.encode()) <= MAX_TEXT_BYTES:
                message = f"{path} must have 1 to {MAX_TEXT_BYTES} bytes"
                raise InvalidArgument(message, field=path)
            if self.kind is Kind.JSON_SCHEMA:
                _validate_schema(self.text, path)

    def _validate_options(self, path: str) -> None:
        if not 1 <= len(self.options) <= MAX_OPTIONS:
            message = f"{path} must have 1 to {MAX_OPTIONS} members"
            raise InvalidArgument(message, field=path)
        for index, option in enumerate(self.options):
            if not 1 <= len(option.encode()) <= MAX_OPTION_BYTES:
                field = f"{path}[{index}]"
                message = f"{field} must have 1 to {MAX_OPTION_BYTES} bytes"
                raise InvalidArgument(message, field=field)


class Matcher(Protocol):
    """Follows one output. Belongs to one thread at a time."""

    @property
    def is_over(self) -> bool:
        """True where the language allows nothing more."""
        ...

    @property
    def is_complete(self) -> bool:
        """True where the output so far is a whole one."""
        ...

    def mask(self) -> npt.NDArray[np.bool_]:
        """Return [vocabulary] bool: which tokens may come next, at least one.

        Raises FailedPrecondition where that takes more than a step may spend.
        """
        ...

    def forced(self) -> tuple[int, ...]:
        """Return the next tokens as far as the language is known to leave no choice."""
        ...

    def advance(self, token_id: int) -> None:
        """Take one token that the mask allows."""
        ...


def _validate_schema(text: str, path: str) -> None:
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidArgument(f"{path} must be valid JSON", field=path) from None
    if not isinstance(schema, dict):
        raise InvalidArgument(f"{path} must be a JSON object", field=path)
