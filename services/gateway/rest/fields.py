"""Types of request fields: strict, with messages that name what is allowed.

The ranges are those of `limits`; they appear in the OpenAPI schema too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from services.gateway import limits
from services.gateway.limits import Range


def refused(param: str, message: str) -> PydanticCustomError:
    """Return the error of one field that only a look at the whole body can find."""
    return PydanticCustomError("inconsistent", "{message}", {"param": param, "message": message})


def ranged(allowed: Range) -> tuple[AfterValidator, Any]:
    """Return the validator and the schema of a number in `allowed`."""
    low = "exclusiveMinimum" if allowed.above else "minimum"
    schema: JsonDict = {low: allowed.low, "maximum": allowed.high}

    def check(value: float) -> float:
        if not allowed.admits(value):
            raise ValueError(f"must be {allowed}")
        return value

    return AfterValidator(check), Field(json_schema_extra=schema)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _temperature(value: Any) -> Any:
    if value is None or value == "auto":
        return None
    if _is_number(value) and limits.is_temperature(value):
        return float(value)
    raise ValueError(f'{limits.TEMPERATURE_RULE}, or "auto" or null to let the policy decide')


def _names(value: str) -> str:
    if not limits.is_name(value):
        raise ValueError(f"must be {limits.NAME_RULE}")
    return value


def _stops(value: Any) -> Any:
    stops = [value] if isinstance(value, str) else value
    if stops is None:
        return []
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise ValueError("must be a text or a list of texts")
    if len(stops) > limits.MAX_STOPS:
        raise ValueError(f"has at most {limits.MAX_STOPS} members")
    if not all(1 <= len(stop.encode()) <= limits.MAX_STOP_BYTES for stop in stops):
        raise ValueError(f"each must have 1 to {limits.MAX_STOP_BYTES} bytes")
    return stops


def _logit_bias(value: Any) -> Any:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("must be an object of token id to bias")  # noqa: TRY004  # pydantic's way
    if len(value) > limits.MAX_LOGIT_BIASES:
        raise ValueError(f"has at most {limits.MAX_LOGIT_BIASES} entries")
    if not all(isinstance(key, str) and key.isascii() and key.isdigit() for key in value):
        raise ValueError('keys must be token ids, such as "42"')
    if not all(_is_number(bias) and limits.LOGIT_BIAS.admits(bias) for bias in value.values()):
        raise ValueError(f"values must be numbers {limits.LOGIT_BIAS}")
    return {int(key): float(bias) for key, bias in value.items()}


def _text_not_empty(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    return value


def unsupported(advice: str) -> BeforeValidator:
    """Refuse every value but null, telling what to do instead."""

    def check(value: Any) -> None:
        if value is not None:
            raise ValueError(f"is not supported; {advice}")

    return BeforeValidator(check)


def exactly(expected: Any, advice: str) -> Callable[[Any], Any]:
    """Return a check that lets only `expected` and null pass."""

    def check(value: Any) -> Any:
        if value is not None and (value != expected or isinstance(value, bool)):
            raise ValueError(f"must be {expected!r}; {advice}")
        return value

    return check


def unless_false(advice: str) -> Callable[[Any], Any]:
    """Return a check that lets only false and null pass."""

    def check(value: Any) -> Any:
        if value is not None and value is not False:
            raise ValueError(f"must be false; {advice}")
        return value

    return check


_nullable = {"type": "null"}
_text = {"type": "string"}

Temperature = Annotated[
    float | None,
    BeforeValidator(_temperature),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "enum": [0]},
                {"type": "number", "minimum": 0.1, "maximum": 2.0},
                {"type": "string", "enum": ["auto"]},
                _nullable,
            ],
            "description": "0 is greedy; a number pins; absent, null or `auto`: the policy decides",
        }
    ),
]
PinnedTemperature = Annotated[
    float,
    AfterValidator(_temperature),
    Field(description="0 is greedy, else from 0.1 to 2.0"),
]
TopP = Annotated[float, *ranged(limits.TOP_P)]
TopK = Annotated[int, *ranged(limits.TOP_K)]
MinP = Annotated[float, *ranged(limits.MIN_P)]
TopNSigma = Annotated[float, *ranged(limits.TOP_N_SIGMA)]
MaxTokens = Annotated[int, *ranged(limits.MAX_TOKENS)]
Seed = Annotated[int, *ranged(limits.SEED)]
Presence = Annotated[float, *ranged(limits.PRESENCE)]
Frequency = Annotated[float, *ranged(limits.FREQUENCY)]
Repetition = Annotated[float, *ranged(limits.REPETITION)]
AnswerCount = Annotated[int, *ranged(limits.ANSWERS)]
CandidateCount = Annotated[int, *ranged(limits.CANDIDATES)]
EnvelopeTemperature = Annotated[float, *ranged(limits.TEMPERATURE)]
Theta = Annotated[float, *ranged(limits.THETA)]
ResidualSlope = Annotated[float, *ranged(limits.RESIDUAL_SLOPE)]
ResidualCentre = Annotated[float, *ranged(limits.RESIDUAL_CENTRE)]
ResidualRange = Annotated[float, *ranged(limits.RESIDUAL_RANGE)]
DynatempRange = Annotated[float, *ranged(limits.DYNATEMP_RANGE)]
Exponent = Annotated[float, *ranged(limits.EXPONENT)]
Score = Annotated[float, *ranged(limits.SCORE)]
DeadlineMs = Annotated[int, *ranged(Range(1, 3_600_000))]
Name = Annotated[
    str, AfterValidator(_names), Field(json_schema_extra={"pattern": limits.NAME_PATTERN})
]
NonEmptyText = Annotated[str, AfterValidator(_text_not_empty)]
Stops = Annotated[
    list[str],
    BeforeValidator(_stops),
    WithJsonSchema({"anyOf": [_text, {"type": "array", "items": _text}, _nullable]}),
]
LogitBias = Annotated[
    dict[int, float],
    BeforeValidator(_logit_bias),
    WithJsonSchema(
        {"anyOf": [{"type": "object", "additionalProperties": {"type": "number"}}, _nullable]}
    ),
]
NoEffort = Annotated[
    Literal["none"] | None, BeforeValidator(exactly("none", "models here do not reason apart"))
]
MediumVerbosity = Annotated[
    Literal["medium"] | None, BeforeValidator(exactly("medium", "models here are not asked for it"))
]
OneAnswer = Annotated[
    Literal[1] | None, BeforeValidator(exactly(1, "ask again for another answer"))
]
