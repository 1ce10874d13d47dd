"""Runs programs as child processes: starts, watches, restarts and ends them.

The rules are in `thermesh.cli.lifecycle`; here are the processes. Each child
is the leader of a session of its own, so that Ctrl-C on the terminal reaches
the supervisor alone, which then ends the children in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from thermesh.cli import lifeline
from thermesh.cli.lifecycle import Action, Lifecycle, Limits, State
from thermesh.clock import Clock

POLL_SECONDS = 0.1
CHECK_SECONDS = 2.0


@dataclass(frozen=True)
class Program:
    """What to run, and how to know that it is ready.

    `command[0]` is an absolute path. `is_ready` is asked every 0.1 s while the
    program starts.
    """

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    log_path: pathlib.Path
    is_ready: Callable[[], Awaitable[bool]]
    address: str = ""


Listener = Callable[[Program, State], None]


class Supervised:
    """One program and the process that runs it now."""

    def __init__(self, program: Program, limits: Limits, clock: Clock, listen: Listener) -> None:
        self.program = program
        self.exit_status: int | None = None
        self._life = Lifecycle(limits)
        self._clock = clock
        self._listen = listen
        self._process: asyncio.subprocess.Process | None = None
        self._wake = asyncio.Event()
        self._changed = asyncio.Condition()

    @property
    def state(self) -> State:
        """Where the program is in its life."""
        return self._life.state

    @property
    def pid(self) -> int | None:
        """Id of the running process; None where there is none."""
        return self._process.pid if self._process else None

    async def run(self) -> None:
        """Keep the program running until `stop`, or until it is given up."""
        try:
            await self._act(self._life.start(self._clock.monotonic()))
            while not self._life.is_over:
                await self._next_event()
                await self._act(self._life.tick(self._clock.monotonic()))
        finally:
            self._signal(signal.SIGKILL)

    async def stop(self) -> None:
        """End the program: ask, wait out the grace, then kill; return when it is gone."""
        await self._act(self._life.stop(self._clock.monotonic()))
        self._wake.set()
        await self.reached(State.STOPPED, State.GIVEN_UP)

    async def kill(self) -> None:
        """End the program at once."""
        await self._act(self._life.stop(self._clock.monotonic()))
        self._signal(signal.SIGKILL)
        self._wake.set()

    async def reached(self, *states: State) -> State:
        """Wait until the program is in one of `states`; return which."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.state in states)
        return self.state

    async def _act(self, action: Action | None) -> None:
        if action is Action.START:
            self._process = await _spawn(self.program)
            if self.state is State.STOPPING:  # asked while it was being made
                self._signal(signal.SIGKILL)
        elif action is Action.TERMINATE:
            self._signal(signal.SIGTERM)
        elif action is Action.KILL:
            self._signal(signal.SIGKILL)
        await self._announce()

    async def _next_event(self) -> None:
        await self._pause()
        now = self._clock.monotonic()
        if self._process and self._process.returncode is not None:
            self.exit_status, self._process = self._process.returncode, None
            self._life.exited(now)
        elif self.state is State.STARTING and await self._answers():
            self._life.ready(self._clock.monotonic())
        await self._announce()

    async def _pause(self) -> None:
        """Wait for the end of the process, for `stop`, or for the time that matters next."""
        waiting: list[asyncio.Future[object]] = [asyncio.ensure_future(self._wake.wait())]
        if self._process:
            waiting.append(asyncio.ensure_future(self._process.wait()))
        try:
            await asyncio.wait(
                waiting, timeout=self._pause_seconds(), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            self._wake.clear()
            for task in waiting:
                task.cancel()

    async def _answers(self) -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CHECK_SECONDS):
                return await self.program.is_ready()
        return False

    def _pause_seconds(self) -> float | None:
        if self.state is State.STARTING:
            return POLL_SECONDS
        due = self._life.due
        return None if due is None else max(0.0, due - self._clock.monotonic())

    async def _announce(self) -> None:
        async with self._changed:
            self._changed.notify_all()
        self._listen(self.program, self.state)

    def _signal(self, number: signal.Signals) -> None:
        if self._process and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                # To the whole session for a kill: nothing of it may stay behind.
                send = os.killpg if number is signal.SIGKILL else os.kill
                send(self._process.pid, number)


class Supervisor:
    """Several programs: started together, ended one after another."""

    def __init__(self, clock: Clock, listen: Listener, limits: Limits | None = None) -> None:
        self.children: list[Supervised] = []
        self._clock = clock
        self._listen = listen
        self._limits = limits or Limits()
        self._tasks: list[asyncio.Task[None]] = []
        self._last: dict[str, State] = {}

    def start(self, programs: Sequence[Program]) -> list[Supervised]:
        """Start `programs` side by side; they end in the reverse order of being added."""
        added = [Supervised(one, self._limits, self._clock, self._heard) for one in programs]
        self.children += added
        self._tasks += [asyncio.create_task(child.run()) for child in added]
        return added

    async def ready(self, children: Sequence[Supervised]) -> Supervised | None:
        """Wait until all `children` were ready; return the first that was given up."""
        settled = (State.READY, State.GIVEN_UP, State.STOPPED)

        async def settle(child: Supervised) -> Supervised | None:
            return None if await child.reached(*settled) is State.READY else child

        tasks = [asyncio.create_task(settle(child)) for child in children]
        try:
            for done in asyncio.as_completed(tasks):
                if failed := await done:
                    return failed
        finally:
            for task in tasks:
                task.cancel()
        return None

    async def drain(self) -> None:
        """End all programs in reverse order of start, each within its grace."""
        for child in reversed(self.children):
            await child.stop()
        await asyncio.gather(*self._tasks)

    async def kill(self) -> None:
        """End all programs at once."""
        for child in self.children:
            await child.kill()
        await asyncio.gather(*self._tasks)

    def _heard(self, program: Program, state: State) -> None:
        if self._last.get(program.name) is not state:
            self._last[program.name] = state
            self._listen(program, state)


async def _spawn(program: Program) -> asyncio.subprocess.Process:
    tie = (sys.executable, "-I", "-S", lifeline.__file__, str(os.getpid()))
    program.log_path.parent.mkdir(parents=True, exist_ok=True)
    with program.log_path.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *tie,
            *program.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(program.environ),
            start_new_session=True,
        )
