"""The JSON files of a model's folder, read with errors that name file and key."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from services.inference.models.refusal import malformed
from thermesh.errors import NotFound

Value = TypeVar("Value")


@dataclass(frozen=True)
class JsonFile:
    """A JSON object and where it came from."""

    path: pathlib.Path
    content: Mapping[str, Any]

    @classmethod
    def read(cls, path: pathlib.Path) -> JsonFile:
        """Read `path`; raise NotFound without it, InvalidArgument if it is no object."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise NotFound(
                f"{path.parent.name}: {path.name} is missing from this folder", field="model"
            ) from error
        except ValueError as error:  # not JSON, or not UTF-8
            raise malformed(path, "not valid JSON") from error
        if not isinstance(content, dict):
            raise malformed(path, "not a JSON object")
        return cls(path, content)

    @classmethod
    def read_if_there(cls, path: pathlib.Path) -> JsonFile:
        """Read `path`, or return an empty object where there is no such file."""
        return cls.read(path) if path.is_file() else cls(path, {})

    def require(self, key: str, kind: type[Value]) -> Value:
        """Return the value of `key`; raise where it is missing or of another type."""
        if self.content.get(key) is None:
            raise malformed(self.path, f"{key} is missing")
        return self._typed(key, kind)

    def optional(self, key: str, kind: type[Value], default: Value) -> Value:
        """Return the value of `key`; `default` where it is missing or null."""
        return default if self.content.get(key) is None else self._typed(key, kind)

    def _typed(self, key: str, kind: type[Value]) -> Value:
        value = self.content[key]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            found = type(value).__name__
            raise malformed(self.path, f"{key} is a {found}, not a {kind.__name__}")
        return value
