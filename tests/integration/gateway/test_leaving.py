"""Clients that go away: inference hears of it at once and nothing is left behind."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from gateway_fakes import MODEL

from thermesh.testing import eventually
from thermesh.v1 import chat_pb2, common_pb2


def request_bytes(stream):
    """One HTTP request as bytes, for a client that is no library."""
    messages = [{"role": "user", "content": "hello"}]
    body = json.dumps({"model": MODEL, "messages": messages, "stream": stream}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def gateway_tasks():
    """Names of the gateway's tasks that are alive."""
    names = {"decide", "relay", "answer", "watch-client", "steer", "listening"}
    return [task for task in asyncio.all_tasks() if task.get_name() in names]


def senders():
    """gRPC's own tasks that feed open calls."""
    return [task for task in asyncio.all_tasks() if "consume_request" in repr(task.get_coro())]


async def test_finished_answers_leave_no_task(app):
    """A call that ended well leaves no sender waiting for more to send."""
    for stream in (True, False):
        assert (await app.chat(stream=stream)).status_code == 200
    await eventually(lambda: not senders(), what="no sender of a call")

    assert gateway_tasks() == []
    assert [call.was_cancelled for call in app.inference.calls] == [False, False]


async def leave(served, stream):
    """Close the socket of one request; return once inference knows."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.http_port)
    asked_before = len(served.inference.calls)
    writer.write(request_bytes(stream))
    await eventually(lambda: len(served.inference.calls) > asked_before)
    call = served.inference.calls[-1]
    await asyncio.wait_for(call.plan_came.wait(), 30)
    if stream:
        await reader.readuntil(b" is")
    writer.close()
    await asyncio.wait_for(call.over.wait(), 30)
    await writer.wait_closed()
    assert call.was_cancelled


@pytest.mark.parametrize("stream", [True, False])
async def test_closing_the_socket_cancels_generation(served, stream):
    """Inference sees the cancellation, whether the answer streams or not."""
    served.inference.hangs_after = 2
    for _ in range(5):
        await leave(served, stream)
    await eventually(lambda: served.gateway.admission.inside == 0)

    assert served.count("thermesh.requests", **{"thermesh.reason": "cancelled"}) == 5


@pytest.mark.slow
async def test_three_hundred_abandoned_streams_leave_no_task(served):
    """Streams abandoned before, at and after the first token leave no task, call or place."""
    served.inference.hangs_after = 3
    limits = httpx.Limits(max_connections=50)
    url = f"http://127.0.0.1:{served.http_port}"
    messages = [{"role": "user", "content": "hello"}]
    body = {"model": MODEL, "messages": messages, "stream": True}
    turns = asyncio.Semaphore(16)
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as client:

        async def abandon(lines_wanted):
            async with (
                turns,
                client.stream("POST", "/v1/chat/completions", json=body) as response,
            ):
                lines = response.aiter_lines()
                for _ in range(lines_wanted):
                    await anext(lines)

        await asyncio.gather(*(abandon(number % 4) for number in range(300)))
    await eventually(lambda: served.gateway.admission.inside == 0, what="no request inside")
    await eventually(lambda: served.inference.open_calls == 0, what="no open call")
    await eventually(lambda: not gateway_tasks(), what="no task of the gateway")
    await eventually(lambda: not senders(), what="no sender of a call")

    assert len(served.inference.calls) == 300
    assert served.count("thermesh.requests") == 300


async def leave_natively(served, stub):
    """Cancel one Converse call; return once inference knows."""
    start = chat_pb2.ConverseStart(model=MODEL)
    start.messages.add(role=common_pb2.ROLE_USER, content="hello")
    call = stub.Converse(iter([chat_pb2.ConverseRequest(start=start)]))
    async for response in call:
        if response.tokens.tokens and response.tokens.tokens[-1].index == 1:
            break
    call.cancel()
    await asyncio.wait_for(served.inference.calls[-1].over.wait(), 30)


async def test_cancelling_a_native_call_cancels_generation(native, chat_stub):
    """Inference sees the cancellation of a Converse call, as above."""
    native.inference.hangs_after = 2
    for _ in range(5):
        await leave_natively(native, chat_stub)
    await eventually(lambda: not gateway_tasks(), what="no task of the gateway")

    assert native.gateway.admission.inside == 0


async def test_draining_lets_open_answers_finish(serve):
    """On shutdown readiness goes first, open streams end well, new requests are refused."""
    served = await serve(grace_s=5)
    served.inference.go.clear()
    answer = asyncio.create_task(served.chat())
    await eventually(lambda: served.gateway.admission.inside == 1)
    draining = asyncio.create_task(served.gateway.drain())
    await eventually(lambda: not served.gateway.admission.is_open)
    served.inference.go.set()
    response = await answer
    await draining

    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["content"] == "Paris is it."
