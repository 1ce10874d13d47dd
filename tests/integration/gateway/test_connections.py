"""What a connection may cost: headers, bodies and idling are bounded."""

from __future__ import annotations

import asyncio
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
