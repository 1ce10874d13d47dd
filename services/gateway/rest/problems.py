"""Errors as OpenAI's error object, with the status of `thermesh.errors`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse

from thermesh.errors import Code, MeshError

Json = dict[str, Any]

_TYPES = {
    Code.UNAUTHENTICATED: "authentication_error",
    Code.PERMISSION_DENIED: "permission_error",
    Code.RESOURCE_EXHAUSTED: "rate_limit_error",
    Code.UNAVAILABLE: "server_error",
    Code.INTERNAL: "server_error",
    Code.DEADLINE_EXCEEDED: "timeout_error",
}

# Paths in the contract that have another name over REST.
_PARAMS = (
    (r"^(start|generation)\.", ""),
    (r"^chat(\.messages)?(?=$|\[|\.)", "messages"),
    (r"^tokens(\.token_ids)?$", "prompt"),
    (r"^(sampling|constraints)\.", ""),
    (r"^constraint\.lark$", "tools"),
    (r"^constraint(\.json_schema)?$", "response_format"),
    (r"^guard\.top_n_sigma$", "thermesh.top_n_sigma"),
    (r"^guard\.", ""),
    (r"^penalties\.(\w+)$", r"\1_penalty"),
    (r"^candidate_count$", "top_logprobs"),
    (r"^program\.fixed\.temperature$", "temperature"),
    (r"^(program|temperature_range|scenario|mode)(?=$|\.)", r"thermesh.\1"),
    (r"^context\.(session_id|tenant|priority)$", r"thermesh.\1"),
    (r"^(context\.)?deadline(_unix_ms)?$", "thermesh.deadline_ms"),
    (r"^feedback_id$", "id"),
)


class Problem(Exception):
    """A request that HTTP itself refuses: its status has no code in the error tree."""

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


def body_of(message: str, kind: str, param: str | None, code: str | None) -> Json:
    """Return OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_body(error: MeshError) -> Json:
    """Return the body that tells of `error`."""
    param = rest_param(error.field) or None
    code = error.reason.lower()
    if error.code is Code.NOT_FOUND and param == "model":
        code = "model_not_found"
    kind = _TYPES.get(error.code, "invalid_request_error")
    return body_of(error.message, kind, param, code)


def error_response(error: MeshError) -> JSONResponse:
    """Return the response that tells of `error`."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
        # What official clients prefer, because seconds are coarse.
        headers["Retry-After-Ms"] = str(math.ceil(error.retry_after * 1000))
    if error.code is Code.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error_body(error), error.code.http_status, headers)


def problem_response(problem: Problem) -> JSONResponse:
    """Return the response that tells of a problem with HTTP itself."""
    body = body_of(problem.message, "invalid_request_error", None, problem.code)
    return JSONResponse(body, problem.status)


def validation_response(found: Sequence[Mapping[str, Any]]) -> JSONResponse:
    """Return the response for a body that does not fit its schema, naming the first field."""
    return JSONResponse(validation_body(found), 400)


def validation_body(found: Sequence[Mapping[str, Any]]) -> Json:
    """Return the body for what does not fit its schema; the first step of a path is left out."""
    first = found[0]
    if first["type"] == "json_invalid":
        message = f"the body is not valid JSON: {first.get('ctx', {}).get('error', 'malformed')}"
        return body_of(message, "invalid_request_error", None, "invalid_json")
    param = first.get("ctx", {}).get("param") or param_of(first["loc"])
    message = _message(param, first)
    code = "unknown_field" if first["type"] == "extra_forbidden" else "invalid_field"
    return body_of(message, "invalid_request_error", param or None, code)


def param_of(location: Sequence[str | int]) -> str:
    """Return the path of a field as a client writes it: `messages[0].role`.

    Steps that only name the branch of a union are left out.
    """
    path = ""
    for step in location[1:]:
        if isinstance(step, int):
            path += f"[{step}]"
        elif not step.startswith("<") and step not in {"fixed", "edt", "dynatemp", "residual"}:
            path += f".{step}" if path else step
    return path


def rest_param(field: str) -> str:
    """Return the REST name of a field of the contract."""
    for pattern, name in _PARAMS:
        field = re.sub(pattern, name, field)
    return field


def _message(param: str, found: Mapping[str, Any]) -> str:
    text: str = found["msg"]
    if found["type"] == "extra_forbidden":
        text = "is not a known field"
    elif found["type"] == "missing":
        text = "is required"
    elif found["type"] == "too_short":
        text = f"must have at least {found['ctx']['min_length']} members"
    elif found["type"] == "value_error":
        text = text.removeprefix("Value error, ")
    else:
        text = text.replace("Input should be", "must be", 1)
    return f"{param} {text}" if param and not text.startswith(param) else text
