"""The REST application: routes, guards and how errors are told."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from services.gateway.realtime import door as realtime
from services.gateway.rest import admin, completions, embeddings, operations, pages, responses
from services.gateway.rest.doors import Doors
from services.gateway.rest.middleware import BodyLimits, Keys, Net, Tracing
from services.gateway.rest.problems import (
    Problem,
    error_response,
    problem_response,
    validation_response,
)
from thermesh import __version__
from thermesh.errors import MeshError

# Spans and metrics of a request are the gateway's own; FastAPI's would tell the same again.
_NO_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False}

_DESCRIPTION = (
    "OpenAI-compatible answers whose decoding is decided per request. An absent"
    " temperature is adaptive, a number pins it; every answer tells its plan."
)

# Shown in the schema; the middleware `Keys` is what asks for it.
_KEY = Depends(HTTPBearer(auto_error=False, description="a key, where the server asks for one"))


def create_app(doors: Doors) -> FastAPI:
    """Return the application in front of `doors`."""
    app = FastAPI(
        title="Thermesh",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        telemetry=_NO_TELEMETRY,
    )
    app.state.doors = doors
    app.include_router(completions.router, dependencies=[_KEY])
    app.include_router(responses.router, dependencies=[_KEY])
    app.include_router(embeddings.router, dependencies=[_KEY])
    app.include_router(operations.router, dependencies=[_KEY])
    app.include_router(admin.router, dependencies=[_KEY])
    app.include_router(realtime.router)
    pages.mount(app)
    app.add_exception_handler(MeshError, _mesh_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    # The last added is the outermost.
    app.add_middleware(BodyLimits, max_bytes=doors.max_body_bytes)
    app.add_middleware(Keys, gate=doors.gate)
    app.add_middleware(Net)
    app.add_middleware(Tracing)
    return app


async def _mesh_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, MeshError)
    return error_response(error)


async def _validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return validation_response(error.errors())


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        problem = Problem(404, f"there is no {request.url.path}", "unknown_url")
    elif error.status_code == 405:
        method, path = request.method, request.url.path
        problem = Problem(405, f"{method} is not a method of {path}", "method_not_allowed")
    else:
        problem = Problem(error.status_code, str(error.detail), "http_error")
    response = problem_response(problem)
    response.headers.update(error.headers or {})
    return response
