"""Checks of single values that came over the wire; each error names field and range."""

from __future__ import annotations

import re

from services.controller.sampling import MAXIMUM_TEMPERATURE, MINIMUM_TEMPERATURE
from thermesh.errors import InvalidArgument

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def within(value: float, low: float, high: float, field: str) -> float:
    """Return `value` if it lies in [low, high]."""
    if not low <= value <= high:
        raise refused(field, value, f"from {low:g} to {high:g}")
    return value


def above_zero(value: float, high: float, field: str) -> float:
    """Return `value` if it lies in (0, high]."""
    if not 0.0 < value <= high:
        raise refused(field, value, f"above 0 and at most {high:g}")
    return value


def temperature(value: float, field: str) -> float:
    """Return `value` if it lies in the wire range of temperature."""
    return within(value, MINIMUM_TEMPERATURE, MAXIMUM_TEMPERATURE, field)


def temperature_or_greedy(value: float, field: str) -> float:
    """Return `value` if it is a temperature, or 0 for greedy decoding."""
    if value != 0.0 and not MINIMUM_TEMPERATURE <= value <= MAXIMUM_TEMPERATURE:
        allowed = f"0 or from {MINIMUM_TEMPERATURE:g} to {MAXIMUM_TEMPERATURE:g}"
        raise refused(field, value, allowed)
    return value


def name(value: str, field: str) -> str:
    """Return `value` if it is 1 to 64 characters of [A-Za-z0-9._-]."""
    if not _NAME.fullmatch(value):
        raise InvalidArgument(f"{field} must be 1 to 64 characters of [A-Za-z0-9._-]", field=field)
    return value


def name_or_empty(value: str, field: str) -> str:
    """Return `value` if it is empty or a name."""
    return name(value, field) if value else ""


def short(value: str, limit: int, field: str) -> str:
    """Return `value` if it has at most `limit` characters."""
    if len(value) > limit:
        raise InvalidArgument(
            f"{field} has {len(value)} characters; at most {limit} are allowed", field=field
        )
    return value


def refused(field: str, value: object, allowed: str) -> InvalidArgument:
    """Return the error for a value outside of what is allowed."""
    return InvalidArgument(f"{field} is {value}; it must be {allowed}", field=field)
