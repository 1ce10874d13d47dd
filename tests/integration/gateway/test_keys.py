"""Keys at both doors: who is let in, in whose name, and what is written down of it."""

from __future__ import annotations

import logging

import openai
import pytest
import redis
from gateway_fakes import MODEL, bearer, make_key

from thermesh import keys
from thermesh.client import MeshClient, Options
from thermesh.errors import PermissionDenied, Unauthenticated
from thermesh.testing import FakeClock, redis_server
from thermesh.v1 import common_pb2

BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server():
    """A Redis of this module's own."""
    with redis_server() as running:
        yield running


@pytest.fixture
async def guarded(serve_app, server):
    """A gateway that asks for keys."""
    return await serve_app(redis_url=server.url, require_keys=True)


async def test_without_a_key_nothing_of_the_api_answers(guarded):
    """401 in OpenAI's form, before the body is looked at."""
    for method, path in (("POST", CHAT), ("GET", "/v1/models"), ("GET", "/v1/policies")):
        answer = await guarded.http.request(method, path, content=b"{")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        error = answer.json()["error"]
        assert error["type"] == "authentication_error"
        assert error["code"] == "missing_api_key"
    assert guarded.inference.calls == []


@pytest.mark.parametrize(
    "header", ["Bearer sk-wrong", "Bearer tm-" + "A" * 43, "Basic abc", "Bearer", "", "Bearer \t"]
)
async def test_a_wrong_key_is_refused_like_none(guarded, header):
    """Whatever is wrong with it, the answer is 401 and tells nothing more."""
    answer = await guarded.http.post(CHAT, json=BODY, headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] in {"invalid_api_key", "missing_api_key"}


async def test_health_and_page_need_no_key(guarded):
    """What a balancer and a browser ask first is open."""
    for path in ("/healthz", "/readyz", "/metrics", "/", "/docs"):
        assert (await guarded.http.get(path)).status_code == 200


async def test_tenant_and_priority_come_from_the_key(guarded, server):
    """The mesh behind sees whose key it was."""
    secret = make_key(server.url, "acme", "batch")
    answer = await guarded.http.post(CHAT, json=BODY, headers=bearer(secret))
    assert answer.status_code == 200
    context = guarded.inference.calls[-1].start.context
    assert context.tenant == "acme"
    assert context.priority == common_pb2.PRIORITY_BATCH


async def test_a_requests_own_priority_wins(guarded, server):
    """The key's is only the default."""
    secret = make_key(server.url, "acme", "batch")
    body = BODY | {"thermesh": {"priority": "voice", "tenant": "acme"}}
    await guarded.http.post(CHAT, json=body, headers=bearer(secret))
    assert guarded.inference.calls[-1].start.context.priority == common_pb2.PRIORITY_VOICE


async def test_another_tenant_is_forbidden(guarded, server):
    """403 names the field, for requests and for feedback."""
    headers = bearer(make_key(server.url, "acme"))
    body = BODY | {"thermesh": {"tenant": "rival"}}
    answer = await guarded.http.post(CHAT, json=body, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["param"] == "thermesh.tenant"
    answer = await guarded.http.get("/v1/feedback/fb-1?tenant=rival", headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["type"] == "permission_error"


async def test_a_revoked_key_ends_within_the_fresh_time(serve_app, server):
    """What was looked up is believed for seconds only."""
    clock = FakeClock()
    guarded = await serve_app(redis_url=server.url, require_keys=True, clock=clock)
    headers = bearer(make_key(server.url, "acme"))
    assert (await guarded.http.get("/v1/models", headers=headers)).status_code == 200
    with redis.Redis.from_url(server.url) as connection:
        connection.delete(keys.KEYS_HASH)
    assert (await guarded.http.get("/v1/models", headers=headers)).status_code == 200
    clock.advance(5.1)
    assert (await guarded.http.get("/v1/models", headers=headers)).status_code == 401


async def test_known_keys_outlive_redis_and_unknown_ones_are_told_to_wait(serve_app):
    """Redis away: who was let in stays in; nobody new can be checked."""
    clock = FakeClock()
    with redis_server() as passing:
        secret, late = make_key(passing.url, "acme"), make_key(passing.url, "late")
        guarded = await serve_app(redis_url=passing.url, require_keys=True, clock=clock)
        assert (await guarded.http.get("/v1/models", headers=bearer(secret))).status_code == 200
        passing.stop()
        clock.advance(60)
        for _ in range(5):
            answer = await guarded.http.get("/v1/models", headers=bearer(secret))
            assert answer.status_code == 200
        answer = await guarded.http.get("/v1/models", headers=bearer(late))
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
        passing.start()
        clock.advance(10)
        assert (await guarded.http.get("/v1/models", headers=bearer(late))).status_code == 200


async def test_the_official_clients_see_their_own_errors(serve, server):
    """openai: AuthenticationError and PermissionDeniedError; a good key works."""
    served = await serve(redis_url=server.url, require_keys=True)
    base = f"http://127.0.0.1:{served.http_port}/v1"
    async with openai.AsyncOpenAI(base_url=base, api_key="sk-no", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
    secret = make_key(server.url, "acme")
    async with openai.AsyncOpenAI(base_url=base, api_key=secret, max_retries=0) as client:
        assert (await client.chat.completions.create(**BODY)).choices[0].message.content
        with pytest.raises(openai.PermissionDeniedError):
            await client.chat.completions.create(**BODY, extra_body={"thermesh": {"tenant": "x"}})
    await _native(served, secret)


async def _native(served, secret):
    """The same at the gRPC door."""
    target = f"127.0.0.1:{served.grpc_port}"
    async with MeshClient(target) as stranger:
        with pytest.raises(Unauthenticated):
            await stranger.models()
        with pytest.raises(Unauthenticated):
            [event async for event in stranger.converse("hello")]
    async with MeshClient(target, api_key=secret) as known:
        assert [event async for event in known.converse("hello")]
        assert served.inference.calls[-1].start.context.tenant == "acme"
    async with MeshClient(target, api_key=secret, tenant="rival") as liar:
        with pytest.raises(PermissionDenied):
            [event async for event in liar.converse("hello", Options())]


async def test_no_key_is_ever_written_down(guarded, server, caplog, spans):
    """Neither good nor bad keys are in logs, spans, metrics or answers."""
    good, bad = make_key(server.url, "acme"), keys.new_secret()
    with caplog.at_level(logging.DEBUG):
        for secret in (good, bad):
            for body in (BODY, BODY | {"model": "gpt-9"}, {"api_key": secret}):
                answer = await guarded.http.post(CHAT, json=body, headers=bearer(secret))
                assert secret not in answer.text.replace(repr(body), "")
                assert secret not in repr(answer.headers)
    written = caplog.text + repr([dict(span.attributes) for span in spans.get_finished_spans()])
    written += (await guarded.http.get("/metrics")).text
    for secret in (good, bad):
        assert secret not in written
        assert keys.digest(secret) not in written
