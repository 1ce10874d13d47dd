"""How to tell that a process of the mesh is ready; every probe returns, none raises for long.

OSError and TimeoutError mean "not yet" and are the supervisor's to catch.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import ssl
from collections.abc import Awaitable, Callable

from thermesh import rpc

Probe = Callable[[], Awaitable[bool]]

# Celery writes this when it consumes; `inspect ping` would cost a second process.
WORKER_READY = b" ready."


def grpc(target: str) -> Probe:
    """Ask grpc.health.v1 at `target`."""

    async def is_ready() -> bool:
        channel = rpc.connect(target)
        try:
            return await rpc.is_serving(channel)
        finally:
            await channel.close()

    return is_ready


def http(host: str, port: int, path: str = "/readyz", *, tls: bool = False) -> Probe:
    """Ask for a 200 over HTTP, or over HTTPS from a process of our own, whoever it says it is."""
    context = _unverified() if tls else None

    async def is_ready() -> bool:
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        answer = await _exchange(host, port, request.encode(), context)
        return answer.startswith(b"HTTP/1.1 200")

    return is_ready


def redis(port: int) -> Probe:
    """Ask a redis-server on the loopback for PONG; while it loads its data it answers otherwise."""

    async def is_ready() -> bool:
        return (await _exchange("127.0.0.1", port, b"PING\r\n")).startswith(b"+PONG")

    return is_ready


def worker(log_path: pathlib.Path) -> Probe:
    """Look for the line that a Celery worker logs when it begins to consume."""

    async def is_ready() -> bool:
        return WORKER_READY in await asyncio.to_thread(log_path.read_bytes)

    return is_ready


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _exchange(
    host: str, port: int, request: bytes, context: ssl.SSLContext | None = None
) -> bytes:
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        writer.write(request)
        return await reader.readline()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
