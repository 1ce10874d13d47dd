"""The pages a browser sees: chat at `/`, the operator's at `/operator`, the reference at `/docs`.

Everything comes from this server: no script, style or font of anybody else.
"""

from __future__ import annotations

import pathlib

import swagger_ui_bundle
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from services.gateway.rest.openapi import as_version_3_0
from thermesh.errors import NotFound

PAGE_FOLDER = pathlib.Path(__file__).resolve().parents[1] / "page"

_COMMON = "default-src 'none'; connect-src 'self'; img-src 'self' data:; base-uri 'none'"
_SEALED = f"{_COMMON}; form-action 'none'; frame-ancestors 'none'; script-src 'self'"
PAGE_POLICY = f"{_SEALED}; style-src 'self'"
# Swagger UI sets style attributes from its scripts.
DOCS_POLICY = f"{_SEALED}; style-src 'self' 'unsafe-inline'"

_DOCS = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Thermesh API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/docs/assets/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script></body>
</html>
"""
_DOCS_START = """window.ui = SwaggerUIBundle({
  url: "/docs/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null
});
"""


class Assets(StaticFiles):
    """Static files with a content security policy."""

    def __init__(self, directory: pathlib.Path, policy: str) -> None:
        super().__init__(directory=directory)
        self._policy = policy

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file with headers that keep other origins out."""
        return secured(await super().get_response(path, scope), self._policy)


router = APIRouter(include_in_schema=False)


@router.get("/")
async def page() -> Response:
    """Return the chat page."""
    return _page("index.html")


@router.get("/operator")
async def operator() -> Response:
    """Return the operator's page; what it shows needs a key where keys are asked for."""
    return _page("operator.html")


@router.get("/docs")
async def docs() -> Response:
    """Return the reference."""
    return secured(HTMLResponse(_DOCS), DOCS_POLICY)


@router.get("/docs/start.js")
async def docs_start() -> Response:
    """Return the script that opens the reference, for a policy without inline scripts."""
    return secured(Response(_DOCS_START, media_type="text/javascript"), DOCS_POLICY)


@router.get("/docs/openapi.json")
async def docs_schema(request: Request) -> Response:
    """Return the schema in the version that the bundled reference reads."""
    return JSONResponse(as_version_3_0(request.app.openapi()))


def _page(name: str) -> Response:
    file = PAGE_FOLDER / name
    if not file.is_file():
        raise NotFound("this installation has no pages; the API's reference is at /docs")
    return secured(FileResponse(file), PAGE_POLICY)


def mount(app: FastAPI) -> None:
    """Add the pages and their files to `app`."""
    app.include_router(router)
    assets = pathlib.Path(str(swagger_ui_bundle.swagger_ui_path))
    app.mount("/docs/assets", Assets(assets, DOCS_POLICY))
    if PAGE_FOLDER.is_dir():
        app.mount("/page", Assets(PAGE_FOLDER, PAGE_POLICY))


def secured(response: Response, policy: str) -> Response:
    """Add the headers that keep other origins' scripts and guesses out."""
    response.headers["Content-Security-Policy"] = policy
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
