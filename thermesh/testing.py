"""What tests of the mesh and of programs on top of it need: time, Redis, patience."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator

from thermesh import bundled_redis


class FakeClock:
    """A clock that goes on only when told to."""

    def __init__(self, monotonic: float = 1000.0, unix_ms: int = 1_700_000_000_000) -> None:
        self._monotonic = monotonic
        self._unix_ms = unix_ms

    def monotonic(self) -> float:
        """Return the seconds so far."""
        return self._monotonic

    def unix_ms(self) -> int:
        """Return the milliseconds so far."""
        return self._unix_ms

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self._monotonic += seconds
        self._unix_ms += int(seconds * 1000)


async def eventually(
    condition: Callable[[], bool | Awaitable[bool]],
    timeout: float = 30.0,
    what: str = "the condition",
) -> None:
    """Return once `condition` holds; raise AssertionError after `timeout` seconds.

    For conditions without an event to wait for: another process, a socket.
    """
    deadline = time.monotonic() + timeout
    while True:
        held = condition()
        if inspect.isawaitable(held):
            held = await held
        if held:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not hold within {timeout} s")
        await asyncio.sleep(0.005)


def free_port() -> int:
    """Return a TCP port of the loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """A real redis-server on the loopback whose data survives `stop` and `start`."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = [
            str(bundled_redis.binary()),
            "--port",
            str(self.port),
            "--dir",
            str(self._folder),
        ]
        command += ["--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "always"]
        self._process = subprocess.Popen([*command, "--save", ""], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self._answers():
            if time.monotonic() > deadline:
                raise TimeoutError(f"redis-server on port {self.port} did not start")
            time.sleep(0.01)

    def stop(self) -> None:
        """Kill the server as a crash would."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Freeze the server: connections stay open, nothing answers."""
        os.kill(self._pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        os.kill(self._pid, signal.SIGCONT)

    @property
    def _pid(self) -> int:
        if not self._process:
            raise RuntimeError("the server is not running")
        return self._process.pid

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextlib.contextmanager
def redis_server() -> Iterator[RedisServer]:
    """Run a real redis-server for the length of the block."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(pathlib.Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
