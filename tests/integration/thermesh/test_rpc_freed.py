"""A server that nobody stopped, freed while all is logged and every record kept."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import asyncio, gc, logging

from thermesh import rpc

class Keeping(logging.Handler):
    records = []

    def emit(self, record):
        self.records.append(record)

logging.basicConfig(level=logging.DEBUG, handlers=[Keeping()])

async def lose_servers():
    for _ in range(20):
        rpc.Server("lost", "127.0.0.1", 0)
        gc.collect()

asyncio.run(lose_servers())
assert Keeping.records, "nothing was logged"
Keeping.records.clear()
others = [object() for _ in range(100_000)]
gc.collect()
print("alive")
"""


def test_logging_everything_leaves_memory_whole() -> None:
    """gRPC's own record of it would hold freed memory, and the collection at the end crash."""
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout) == (0, "alive\n"), result.stderr
