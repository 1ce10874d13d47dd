"""`thermesh up`: the whole mesh on this machine, one process a service."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import pathlib
import signal
import time
from collections.abc import Coroutine, Iterator, Sequence

from thermesh import models
from thermesh.cli import console, keys, logs, mesh, ports, room_settings
from thermesh.cli.config import UpConfig
from thermesh.cli.lifecycle import Limits, State
from thermesh.cli.supervisor import Program, Supervised, Supervisor
from thermesh.clock import SystemClock
from thermesh.errors import AlreadyExists
from thermesh.settings import from_env, state_dir

HELP = "start the whole mesh on this machine"
LOG_CHECK_SECONDS = 60.0
STUCK_SECONDS = 10.0
NO_ENCODER = "none"  # feature then reads words alone
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHOWN = {
    State.READY: "good",
    State.BACKING_OFF: "warn",
    State.GIVEN_UP: "bad",
    State.STOPPED: "dim",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `up`."""
    parser.description = __doc__
    parser.add_argument("--no-fetch", action="store_true", help="fail rather than download a model")


def run(arguments: argparse.Namespace) -> int:
    """Run the mesh until a signal; return the exit status."""
    began = time.monotonic()
    room_settings.check()
    config = from_env(UpConfig)
    state = state_dir()
    (state / "logs").mkdir(parents=True, exist_ok=True)
    with only_one(state):
        chosen = ports.chosen(config)
        for name in needed_models(config):
            bring(name, may_fetch=not arguments.no_fetch)
        return asyncio.run(Mesh(config, chosen, state, began).run())


@contextlib.contextmanager
def only_one(state: pathlib.Path) -> Iterator[None]:
    """Hold the state folder; raise AlreadyExists where another `up` does."""
    with (state / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise AlreadyExists(
                f"a mesh already runs on {state} (process {file.read().strip() or 'unknown'}):"
                " stop it, or set THERMESH_STATE_DIR to another folder"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def needed_models(config: UpConfig) -> tuple[str, ...]:
    """Return the names or paths of the models that the mesh would load."""
    return tuple(name for name in (config.model, config.encoder) if name != NO_ENCODER)


def bring(name: str, *, may_fetch: bool) -> None:
    """Make sure that a model is on this machine; raise NotFound where it cannot be."""
    if may_fetch and name in models.MODELS and not models.present(name):
        with console.progress(name) as progress:
            models.fetch(name, progress)
    models.locate(name)


class Mesh:
    """One run of the mesh, from the first process to the last."""

    def __init__(
        self, config: UpConfig, chosen: Sequence[ports.Port], state: pathlib.Path, began: float
    ) -> None:
        self._config = config
        self._ports = chosen
        self._state = state
        self._began = began
        # A process that takes longer than the grace it gives its calls is stuck.
        stop_seconds = config.grace_seconds + STUCK_SECONDS
        limits = Limits(start_seconds=config.start_seconds, grace_seconds=stop_seconds)
        self._supervisor = Supervisor(SystemClock(), self._changed, limits)
        self._asked_to_end = asyncio.Event()
        self._asked_to_hurry = asyncio.Event()

    async def run(self) -> int:
        """Start everything, stay until a signal, drain; return the exit status."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._signalled)
        failed = None
        try:
            failed = await self._unless_asked(self._start())
            if failed is None and not self._asked_to_end.is_set():
                say(welcome(self._config, self._ports, self._state, self._seconds()))
                await self._attend()
        finally:
            await self._end()
        if failed:
            say(explanation(failed))
        return int(failed is not None)

    async def _start(self) -> Supervised | None:
        """Start all; return the process that was given up, None when all are ready."""
        redis_url = self._config.redis_url
        if not redis_url:
            port = next(port for port in self._ports if port.name == "redis").number
            redis_url = f"redis://127.0.0.1:{port}/0"
            keys.remember_address(self._state, redis_url)
            failed = await self._begin([mesh.redis_program(self._state, port)])
            if failed:
                return failed
        return await self._begin(mesh.programs(self._config, self._ports, redis_url, self._state))

    async def _begin(self, programs: Sequence[Program]) -> Supervised | None:
        for program in programs:
            logs.rotate(program.log_path)
        return await self._supervisor.ready(self._supervisor.start(programs))

    async def _unless_asked(
        self, work: Coroutine[None, None, Supervised | None]
    ) -> Supervised | None:
        """Do `work`; leave it where a signal comes first."""
        task = asyncio.create_task(work)
        asked = asyncio.create_task(self._asked_to_end.wait())
        await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if task.done():
            return task.result()
        task.cancel()
        return None

    async def _attend(self) -> None:
        """Keep the logs bounded until a signal comes."""
        while not self._asked_to_end.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked_to_end.wait(), LOG_CHECK_SECONDS)
            for child in self._supervisor.children:
                logs.shorten(child.program.log_path)

    async def _end(self) -> None:
        """Drain in order; a second signal ends everything at once."""
        say("stopping; once more to stop at once")
        drain = asyncio.create_task(self._supervisor.drain())
        hurry = asyncio.create_task(self._asked_to_hurry.wait())
        await asyncio.wait({drain, hurry}, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not drain.done():
            await self._supervisor.kill()
        await drain
        keys.forget_address(self._state)

    def _signalled(self) -> None:
        (self._asked_to_hurry if self._asked_to_end.is_set() else self._asked_to_end).set()

    def _changed(self, program: Program, state: State) -> None:
        if style := SHOWN.get(state):
            said = console.styled(f"{state.value:<10}", style)
            after = console.styled(f"{self._seconds():6.1f} s", "dim")
            say(f"  {program.name:<10} {said} {after}  {program.address}")

    def _seconds(self) -> float:
        return time.monotonic() - self._began


def welcome(
    config: UpConfig, chosen: Sequence[ports.Port], state: pathlib.Path, seconds: float
) -> str:
    """Return what to do with a mesh that is ready."""
    numbers = {port.variable: port.number for port in chosen}
    address = mesh.join(config.host, numbers["THERMESH_GATEWAY_HTTP_PORT"])
    page = f"{config.scheme}://{address}"
    door = mesh.join(config.host, numbers["THERMESH_GATEWAY_GRPC_PORT"])
    secure = " --tls" if config.tls_certificate else ""
    return f"""
ready after {seconds:.1f} s

  page     {page}/
  chat     thermesh chat --server {door}{secure}
  curl     curl -N {page}/v1/chat/completions -H 'content-type: application/json' \\
             -d '{{"stream": true, "messages": [{{"role": "user", "content": "Hello!"}}]}}'
  openai   OpenAI(base_url="{page}/v1", api_key="none")
  logs     {state / "logs"}

Ctrl-C stops it.
"""


def explanation(failed: Supervised) -> str:
    """Return why a process did not start, with the last lines it wrote."""
    log_path = failed.program.log_path
    last = "\n".join(f"    {line}" for line in logs.tail(log_path))
    return (
        f"{failed.program.name} did not start (exit status {failed.exit_status});"
        f" the end of {log_path}:\n{last}"
    )


def say(text: str) -> None:
    """Print; a terminal that is gone must not keep the mesh from draining."""
    with contextlib.suppress(OSError):
        print(text, flush=True)
