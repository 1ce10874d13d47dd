"""Limits of tenants at the REST door: who floods waits, who does not is served."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from gateway_fakes import MODEL, bearer, make_key

from services.gateway.rest.headers import duration
from thermesh.keys import Allowance
from thermesh.testing import FakeClock, eventually, redis_server

BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 20}
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server():
    """A Redis of this module's own."""
    with redis_server() as running:
        yield running


async def ask(served, secret, **options):
    """One chat completion with a key."""
    return await served.http.post(CHAT, json=BODY | options, headers=bearer(secret))


async def test_what_is_left_is_told_as_openai_tells_it(serve_app, server):
    """Both buckets, before and after; unused tokens come back."""
    served = await serve_app(redis_url=server.url, require_keys=True)
    secret = make_key(server.url, "told", allowance=Allowance(10, 1000))
    first = await ask(served, secret)
    assert first.headers["x-ratelimit-limit-requests"] == "10"
    assert first.headers["x-ratelimit-remaining-requests"] == "9"
    assert first.headers["x-ratelimit-limit-tokens"] == "1000"
    assert first.headers["x-ratelimit-remaining-tokens"] == "978"
    assert first.headers["x-ratelimit-reset-requests"].endswith("s")
    await served.gateway._quotas.close()  # what is being settled
    second = await ask(served, secret)
    # Nine were used (five of the prompt, four of the answer), 22 are taken again.
    assert 969 <= int(second.headers["x-ratelimit-remaining-tokens"]) <= 972


async def test_over_the_limit_is_refused_at_once_with_the_true_wait(serve_app, server):
    """429 in OpenAI's form; Retry-After is when the next request fits."""
    served = await serve_app(redis_url=server.url, require_keys=True)
    secret = make_key(server.url, "slow", allowance=Allowance(requests_per_minute=2))
    assert [(await ask(served, secret)).status_code for _ in range(2)] == [200, 200]
    refused = await ask(served, secret)
    assert refused.status_code == 429
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert 28 <= int(refused.headers["retry-after"]) <= 30
    assert 28_000 <= int(refused.headers["retry-after-ms"]) <= 30_000
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(served.inference.calls) == 2


async def test_a_refused_request_leaves_its_place(serve_app, server):
    """Neither admission nor inference holds anything of it."""
    served = await serve_app(redis_url=server.url, require_keys=True)
    secret = make_key(server.url, "gone", allowance=Allowance(requests_per_minute=1))
    await ask(served, secret)
    await ask(served, secret)
    assert served.gateway.admission.inside == 0
    await eventually(lambda: served.inference.open_calls == 0, what="no generation")


async def test_one_flooding_tenant_leaves_the_other_served(serve_app, server):
    """A hundred requests of one at once: the other's all succeed meanwhile."""
    served = await serve_app(redis_url=server.url, require_keys=True, max_requests=8)
    flooding = make_key(server.url, "flood", allowance=Allowance(60, 0, 4))
    modest = make_key(server.url, "modest", allowance=Allowance(60, 0, 4))
    served.inference.go.clear()
    flood = [asyncio.create_task(ask(served, flooding)) for _ in range(100)]
    await eventually(lambda: sum(task.done() for task in flood) == 96, 30, "refusals")
    calm = [asyncio.create_task(ask(served, modest)) for _ in range(4)]
    await eventually(lambda: served.inference.open_calls == 8, 30, "all places taken")
    served.inference.go.set()
    answers = await asyncio.gather(*calm)
    flooded = [answer.status_code for answer in await asyncio.gather(*flood)]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert sorted(flooded) == [200] * 4 + [429] * 96


async def test_without_redis_each_gateway_counts_its_share(serve_app):
    """Redis away: no request fails or waits for it; the share of the limit holds."""
    clock = FakeClock()
    with redis_server() as passing:
        options = {"require_keys": True, "replicas": 2, "clock": clock}
        served = await serve_app(redis_url=passing.url, **options)
        secret = make_key(passing.url, "shared", allowance=Allowance(requests_per_minute=8))
        assert (await ask(served, secret)).headers["x-ratelimit-limit-requests"] == "8"
        passing.stop()
        answers = [await ask(served, secret) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 2
        assert answers[0].headers["x-ratelimit-limit-requests"] == "4"


async def test_a_paused_redis_costs_no_request_more_than_its_budget(serve_app):
    """After three waits of 50 ms the breaker spares the rest."""
    with redis_server() as passing:
        served = await serve_app(redis_url=passing.url, requests_per_minute=1000)
        assert (await served.chat()).status_code == 200
        passing.pause()
        try:
            answers = [await served.chat() for _ in range(8)]
        finally:
            passing.resume()
        assert [answer.status_code for answer in answers] == [200] * 8


async def test_usual_limits_hold_without_keys(serve_app, server):
    """The gateway's own settings count for whatever tenant a request names."""
    served = await serve_app(redis_url=server.url, requests_per_minute=1)
    body = BODY | {"thermesh": {"tenant": "open-1"}}
    answers: list[httpx.Response] = [await served.http.post(CHAT, json=body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]


async def test_streams_tell_their_limits_too(serve_app, server):
    """The headers are there before the first token."""
    served = await serve_app(redis_url=server.url, requests_per_minute=5)
    body = BODY | {"stream": True, "thermesh": {"tenant": "open-2"}}
    answer = await served.http.post(CHAT, json=body)
    assert answer.headers["x-ratelimit-remaining-requests"] == "4"
    assert "[DONE]" in answer.text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.12, "120ms"), (1.5, "1.5s"), (59.94, "59.94s"), (360, "6m0s")],
)
def test_durations_are_written_as_openai_writes_them(seconds, text):
    """Milliseconds, seconds, minutes."""
    assert duration(seconds) == text
