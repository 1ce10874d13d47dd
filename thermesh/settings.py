"""Settings: frozen dataclasses read from the environment, refused when bad.

A room's `config.py` declares its settings once::

    @dataclass(frozen=True)
    class Config:
        port: int = setting("THERMESH_FEATURE_PORT", 50051, between(0, 65535), "gRPC port")

and its `__main__` calls `from_env(Config)`. A value that does not parse or does
not pass its check stops the process at start with a message naming the
variable, the value and what is allowed. `describe` lists every variable for
the documentation and `thermesh doctor`.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Check = Callable[[Any], "str | None"]
Settings = TypeVar("Settings")

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


class BadSetting(Exception):
    """An environment variable has a value that is not allowed."""


def between(low: float, high: float) -> Check:
    """Check that a number lies in [low, high]."""
    return lambda value: None if low <= value <= high else f"a number from {low} to {high}"


def one_of(*allowed: str) -> Check:
    """Check that a text is one of `allowed`."""
    return lambda value: None if value in allowed else "one of " + ", ".join(allowed)


def not_empty(value: Any) -> str | None:
    """Check that a text is not empty."""
    return None if value else "a text that is not empty"


def setting(variable: str, default: Any, check: Check | None = None, doc: str = "") -> Any:
    """Declare a dataclass field that `from_env` reads from `variable`."""
    metadata = {"variable": variable, "check": check, "doc": doc}
    return dataclasses.field(default=default, metadata=metadata)


def from_env(cls: type[Settings], environ: Mapping[str, str] = os.environ) -> Settings:
    """Build `cls` from the environment; raise BadSetting for a bad value."""
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # cls is a dataclass
        text = environ.get(field.metadata.get("variable", ""))
        if text is not None and text != "":
            values[field.name] = _parse(field, hints[field.name], text)
    return cls(**values)


def describe(cls: type[Any]) -> list[tuple[str, str, str]]:
    """Return (variable, default, documentation) of every setting of `cls`."""
    return [
        (field.metadata["variable"], str(field.default), field.metadata["doc"])
        for field in dataclasses.fields(cls)
        if "variable" in field.metadata
    ]


def state_dir(environ: Mapping[str, str] = os.environ) -> pathlib.Path:
    """Return the folder that survives restarts: `THERMESH_STATE_DIR`, or
    `thermesh` below the user's XDG state folder. It is not created here.
    """
    chosen = environ.get("THERMESH_STATE_DIR")
    if chosen:
        return pathlib.Path(chosen).expanduser()
    base = environ.get("XDG_STATE_HOME") or pathlib.Path.home() / ".local" / "state"
    return pathlib.Path(base) / "thermesh"


def _parse(field: dataclasses.Field[Any], hint: Any, text: str) -> Any:
    variable, check = field.metadata["variable"], field.metadata["check"]
    kind = _without_none(hint)
    try:
        value = _parse_bool(text) if kind is bool else kind(text)
    except ValueError as error:
        expected = "true or false" if kind is bool else f"a value of type {kind.__name__}"
        raise BadSetting(f"{variable}={text!r}: expected {expected}") from error
    objection = check(value) if check else None
    if objection:
        raise BadSetting(f"{variable}={text!r}: expected {objection}")
    return value


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(arm for arm in typing.get_args(hint) if arm is not type(None))
    return hint


def _parse_bool(text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise ValueError(text)
