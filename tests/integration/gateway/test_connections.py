"""What a connection may cost: headers, bodies and idling are bounded."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from services.gateway import http_server
from services.gateway.rest import middleware
from thermesh.testing import eventually

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"


async def test_headers_over_the_bound_are_refused(served):
    """The connection is told 400 and closed; the gateway keeps nothing of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.http_port)
    writer.write(HEAD + b"x-long: " + b"a" * 2 * http_server.MAX_HEADER_BYTES)
    answer = await asyncio.wait_for(reader.read(), 30)
    assert answer.startswith(b"HTTP/1.1 400")
    writer.close()
    assert (await served.chat()).status_code == 200


async def test_headers_that_come_at_once_are_bounded_too(served):
    """Those that are just short enough are read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.http_port)
    for size, status in (
        (http_server.MAX_HEADER_BYTES - 100, 200),
        (http_server.MAX_HEADER_BYTES, 400),
    ):
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: test\r\nx-long: " + b"a" * size + b"\r\n\r\n")
        line = await asyncio.wait_for(reader.readline(), 30)
        assert line.startswith(b"HTTP/1.1 %d" % status)
        if status == 200:
            await reader.readuntil(b"}")
    writer.close()


@pytest.mark.parametrize("sent", ["whole", "in pieces"])
async def test_an_upgrade_nobody_offers_is_declined(served, sent):
    """The request is answered as if it had not asked, its body included; Java's client asks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.http_port)
    body = json.dumps({"messages": [{"role": "user", "content": "Hello?"}]}).encode()
    upgrade = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMA\r\n"
    head = HEAD + upgrade + b"content-length: %d\r\n\r\n" % len(body)
    for _ in range(2):
        pieces = [head + body] if sent == "whole" else [head[:40], head[40:], body[:9], body[9:]]
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        assert answer.startswith(b"HTTP/1.1 200")
        length = next(x for x in answer.lower().split(b"\r\n") if x.startswith(b"content-length:"))
        found = json.loads(await reader.readexactly(int(length.split()[1])))
        assert found["object"] == "chat.completion"
    writer.close()


async def test_nobody_tunnels(served):
    """CONNECT is no upgrade that could be declined."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.http_port)
    writer.write(b"CONNECT test:443 HTTP/1.1\r\nhost: test\r\n\r\n")
    line = await asyncio.wait_for(reader.readline(), 30)
    assert line.startswith(b"HTTP/1.1 400")
    writer.close()


async def test_a_body_that_does_not_come_is_given_up(served, monkeypatch):
    """408 in OpenAI's form after the time for bodies."""
    monkeypatch.setattr(middleware, "BODY_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.http_port)
    writer.write(HEAD + b"content-length: 100\r\n\r\n{")
    line = await asyncio.wait_for(reader.readline(), 30)
    assert line.startswith(b"HTTP/1.1 408")
    writer.close()


@pytest.mark.parametrize("sent", [b"", HEAD])
async def test_a_connection_that_says_nothing_is_closed(serve, monkeypatch, sent):
    """Also one that begins a request and never ends its headers."""
    monkeypatch.setattr(http_server, "HEADER_SECONDS", 0.1)
    served = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.http_port)
    writer.write(sent)
    await eventually(reader.at_eof, 30, "the end of the connection")
    writer.close()


async def test_what_is_written_leaves_at_once(served, monkeypatch):
    """Else each second write of an answer waits for the client's delayed acknowledgement."""
    noted = []
    made = http_server._Connection.connection_made

    def noting(connection, transport):
        made(connection, transport)
        accepted = transport.get_extra_info("socket")
        noted.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(http_server._Connection, "connection_made", noting)
    assert (await served.chat()).status_code == 200
    assert noted
    assert all(noted)
