"""The reference, the pages and their security policy."""

from __future__ import annotations

import jsonschema
import pytest
from fastapi.openapi.models import OpenAPI

from services.gateway.rest import pages


def references(node):
    """Every $ref below a node."""
    if isinstance(node, list):
        return [ref for member in node for ref in references(member)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [ref for member in node.values() for ref in references(member)]


async def test_the_openapi_document_is_valid(app):
    """It has the form of OpenAPI 3.1, its schemas are JSON Schema, its references resolve."""
    document = (await app.http.get("/openapi.json")).json()
    OpenAPI.model_validate(document)
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    names = {ref.rsplit("/", 1)[1] for ref in references(document)}

    assert document["openapi"].startswith("3.1")
    assert names <= set(schemas)
    assert {"/v1/chat/completions", "/v1/completions", "/v1/feedback", "/v1/models"} <= set(
        document["paths"]
    )


async def test_the_schema_tells_the_ranges(app):
    """A reader of the schema learns what the server enforces."""
    document = (await app.http.get("/openapi.json")).json()
    chat = document["components"]["schemas"]["ChatBody"]["properties"]

    assert chat["top_p"]["anyOf"][0]["exclusiveMinimum"] == 0
    assert chat["max_tokens"]["anyOf"][0]["minimum"] == 1
    assert {"type": "string", "enum": ["auto"]} in chat["temperature"]["anyOf"]


async def test_the_bundled_reference_gets_version_3_0(app):
    """No 3.1 word is left in the document that Swagger UI 4 reads."""
    document = (await app.http.get("/docs/openapi.json")).json()
    text = str(document)

    assert document["openapi"] == "3.0.3"
    assert "'type': 'null'" not in text
    assert "'const'" not in text


async def test_the_reference_loads_from_this_server_only(app):
    """Page, scripts and styles are local and the policy forbids others."""
    page = await app.http.get("/docs")
    script = await app.http.get("/docs/assets/swagger-ui-bundle.js")
    start = await app.http.get("/docs/start.js")

    assert "http" not in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert script.status_code == start.status_code == 200
    assert start.headers["content-type"].startswith("text/javascript")


@pytest.fixture
def page_folder(tmp_path, monkeypatch):
    """A chat page of one file."""
    (tmp_path / "index.html").write_text("<!doctype html><title>chat</title>")
    monkeypatch.setattr(pages, "PAGE_FOLDER", tmp_path)
    return tmp_path


async def test_the_chat_page_is_served_with_its_policy(page_folder, app):
    """`/` and `/page/` come with a policy that allows no foreign script."""
    index = await app.http.get("/")
    asset = await app.http.get("/page/index.html")

    for response in (index, asset):
        assert response.status_code == 200
        assert "script-src 'self'" in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"


async def test_metrics_are_prometheus_text(app):
    """Whatever the process measures is offered as text."""
    response = await app.http.get("/metrics")

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
