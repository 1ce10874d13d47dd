"""OpenAPI 3.1 in the words of 3.0."""

from __future__ import annotations

import pytest

from services.gateway.rest.openapi import as_version_3_0


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (
            {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "T"},
            {"type": "string", "nullable": True, "title": "T"},
        ),
        (
            {"anyOf": [{"$ref": "#/x"}, {"type": "null"}]},
            {"anyOf": [{"$ref": "#/x"}], "nullable": True},
        ),
        ({"type": "null"}, {"nullable": True, "enum": [None]}),
        ({"const": "text"}, {"enum": ["text"]}),
        ({"exclusiveMinimum": 0}, {"minimum": 0, "exclusiveMinimum": True}),
        ({"anyOf": [{"type": "string"}]}, {"anyOf": [{"type": "string"}]}),
    ],
)
def test_each_word_has_its_older_form(schema, expected):
    """Null, constants and exclusive bounds are spelt differently."""
    assert as_version_3_0({"s": schema}) == {"s": expected, "openapi": "3.0.3"}
