"""Processes that a room starts while its gRPC threads are busy."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

STARTING = """
import services  # first, as in every room
import asyncio, sys
import grpc, uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

async def asking(stub):
    while True:
        await stub.Check(health_pb2.HealthCheckRequest())

async def main():
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        calls = [asyncio.create_task(asking(health_pb2_grpc.HealthStub(channel))) for _ in range(8)]
        ends = [await one() for _ in range(200)]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    await server.stop(None)
    print(sum(end != 0 for end in ends))

async def one():
    process = await asyncio.create_subprocess_exec("true")
    return await process.wait()

uvloop.run(main())
"""


def test_processes_start_while_grpc_is_busy():
    """All of 200 run: none dies of gRPC's handlers between fork and exec."""
    found = subprocess.run(
        [sys.executable, "-c", STARTING], capture_output=True, text=True, check=True, timeout=100
    )
    assert found.stdout.split() == ["0"]
