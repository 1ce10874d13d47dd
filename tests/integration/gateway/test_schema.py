"""What the OpenAPI page promises, tried with generated requests.

Schemathesis makes requests that fit the schema and requests that do not. None
may end in a server error, and every answer is one that the schema describes.
"""

from __future__ import annotations

import asyncio

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from thermesh.testing import redis_server

EXAMPLES = 30
CHECKS = (not_a_server_error, response_schema_conformance)
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", MODES, ids=[mode.value for mode in MODES])
async def test_no_request_is_a_server_error(serve, mode):
    """Every operation, with neighbours and a Redis that answer."""
    with redis_server() as redis:
        served = await serve(redis_url=redis.url)
        await _try_every_operation(served, mode)


async def _try_every_operation(served, mode):
    tried = await asyncio.to_thread(try_all, f"http://127.0.0.1:{served.http_port}", mode)
    assert {"/v1/chat/completions", "/v1/responses", "/v1/embeddings"} <= tried
    assert "/v1/responses/{response_id}/input_items" in tried
    assert served.gateway.admission.inside == 0


def try_all(base_url, mode):
    """Try every operation of the schema; return the paths that were tried."""
    schema = schemathesis.openapi.from_url(f"{base_url}/openapi.json")
    tried = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        try_operation(operation.as_strategy(generation_mode=mode))
        tried.add(operation.path)
    return tried


def try_operation(strategy):
    """Send generated requests of one operation."""

    @given(case=strategy)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    def each(case):
        response = case.call(timeout=60)
        if response.status_code == 504:  # a generated deadline may be a millisecond away
            assert case.body["thermesh"]["deadline_ms"] > 0
            assert response.json()["error"]["code"] == "deadline_exceeded"
            return
        case.validate_response(response, checks=CHECKS)

    each()
