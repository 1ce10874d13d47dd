"""The OpenAPI document for readers of version 3.0, such as the bundled Swagger UI 4.

FastAPI writes 3.1, whose schemas are JSON Schema 2020-12; 3.0 spells null,
constants and exclusive bounds in its own way (OpenAPI 3.0.3, schema object).
"""

from __future__ import annotations

from typing import Any

VERSION = "3.0.3"


def as_version_3_0(document: dict[str, Any]) -> dict[str, Any]:
    """Return `document` in the words of OpenAPI 3.0."""
    converted: dict[str, Any] = _convert(document)
    return converted | {"openapi": VERSION}


def _convert(node: Any) -> Any:
    if isinstance(node, list):
        return [_convert(member) for member in node]
    if not isinstance(node, dict):
        return node
    converted = {key: _convert(member) for key, member in node.items()}
    for rule in (_nullable, _constant, _exclusive_minimum):
        converted = rule(converted)
    return converted


def _nullable(node: dict[str, Any]) -> dict[str, Any]:
    if node.get("type") == "null":
        others = {key: value for key, value in node.items() if key != "type"}
        return {**others, "nullable": True, "enum": [None]}
    branches = node.get("anyOf")
    if not isinstance(branches, list):
        return node
    null = {"nullable": True, "enum": [None]}
    kept = [branch for branch in branches if branch != null]
    if len(kept) == len(branches):
        return node
    others = {key: value for key, value in node.items() if key != "anyOf"}
    if len(kept) == 1 and "$ref" not in kept[0]:
        return {**others, **kept[0], "nullable": True}
    return {**others, "anyOf": kept, "nullable": True}


def _constant(node: dict[str, Any]) -> dict[str, Any]:
    if "const" not in node or isinstance(node["const"], dict):
        return node
    others = {key: value for key, value in node.items() if key != "const"}
    return {**others, "enum": [node["const"]]}


def _exclusive_minimum(node: dict[str, Any]) -> dict[str, Any]:
    bound = node.get("exclusiveMinimum")
    if isinstance(bound, bool) or not isinstance(bound, int | float):
        return node
    return {**node, "minimum": bound, "exclusiveMinimum": True}
