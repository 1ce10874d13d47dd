"""Real children are started, restarted, drained in order, and never left behind."""

import asyncio
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from thermesh.cli.lifecycle import Limits, State
from thermesh.cli.supervisor import Program, Supervisor
from thermesh.clock import SystemClock
from thermesh.testing import eventually

QUICK = Limits(
    start_seconds=10,
    grace_seconds=0.3,
    first_backoff_seconds=0.01,
    max_backoff_seconds=0.05,
    max_failed_starts=2,
)
SERVE = """
import pathlib, signal, sys
def drain(number, frame):
    pathlib.Path(sys.argv[2]).open("a").write(sys.argv[3] + "\\n")
    sys.exit()
signal.signal(signal.SIGTERM, drain)
pathlib.Path(sys.argv[1]).touch()
while True:
    signal.pause()
"""
STUBBORN = """
import pathlib, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).touch()
while True:
    signal.pause()
"""


@pytest.fixture
def make(tmp_path):
    """Return programs that are ready once they have written a file of their name."""

    def program(name, code=SERVE):
        flag = tmp_path / name
        (tmp_path / f"{name}.code").write_text(code)
        command = (sys.executable, "-S", "-c", code, str(flag), str(tmp_path / "order"), name)

        async def is_ready():
            return flag.exists()

        return Program(name, command, os.environ, tmp_path / "logs" / name, is_ready)

    return program


@pytest.fixture
async def supervisor():
    """A supervisor with short limits that remembers what it said."""
    heard = []
    supervisor = Supervisor(
        SystemClock(), lambda program, state: heard.append((program.name, state)), QUICK
    )
    supervisor.heard = heard
    yield supervisor
    await supervisor.kill()


async def test_children_become_ready_and_drain_in_reverse_order(supervisor, make, tmp_path):
    """All start side by side; the last started is the first asked to end."""
    children = supervisor.start([make("redis"), make("gateway")])
    assert await supervisor.ready(children) is None
    await supervisor.drain()
    assert (tmp_path / "order").read_text().split() == ["gateway", "redis"]
    assert {child.state for child in children} == {State.STOPPED}


async def test_a_crashed_child_is_restarted(supervisor, make):
    """A child killed by somebody comes back as another process."""
    [child] = supervisor.start([make("feature")])
    await supervisor.ready([child])
    first = child.pid
    os.kill(first, signal.SIGKILL)
    await child.reached(State.BACKING_OFF)
    await child.reached(State.READY)
    assert child.pid != first
    assert child.exit_status == -signal.SIGKILL
    assert ("feature", State.BACKING_OFF) in supervisor.heard


async def test_a_child_that_cannot_start_is_given_up(supervisor, make, tmp_path):
    """`ready` returns at once which one failed, though another still starts; its words are kept."""
    slow = make("slow", "import signal; signal.pause()")
    bad = make("bad", "import sys; sys.exit('bad setting')")
    failed = await supervisor.ready(supervisor.start([slow, bad]))
    assert failed.program.name == "bad"
    assert failed.exit_status == 1
    assert (tmp_path / "logs" / "bad").read_text().splitlines() == ["bad setting"] * 2


async def test_a_child_that_ignores_the_signal_is_killed(supervisor, make):
    """After its grace a child is killed, so that a drain always ends."""
    [child] = supervisor.start([make("stubborn", STUBBORN)])
    await supervisor.ready([child])
    await asyncio.wait_for(supervisor.drain(), 30)
    assert child.exit_status == -signal.SIGKILL


async def test_stopping_while_starting_leaves_nothing(supervisor, make):
    """A drain in the middle of a start ends the children too."""
    children = supervisor.start([make("one"), make("two", "import signal; signal.pause()")])
    await asyncio.wait_for(supervisor.drain(), 30)
    assert {child.state for child in children} == {State.STOPPED}
    assert all(child.pid is None for child in children)


PARENT = """
import asyncio, os, pathlib, sys
from thermesh.cli.supervisor import Program, Supervisor
from thermesh.clock import SystemClock
async def ready():
    return True
async def main():
    code = "import os, signal, sys; print(os.getpid(), flush=True); signal.pause()"
    log = pathlib.Path(sys.argv[1])
    program = Program("child", (sys.executable, "-S", "-c", code), os.environ, log, ready)
    Supervisor(SystemClock(), lambda *_: None).start([program])
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture
def parent(tmp_path):
    """A supervisor in a process of its own, with one child that writes its id."""
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "log")]) as process:
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
async def test_children_die_with_a_killed_supervisor(parent, tmp_path):
    """kill -9 of the supervisor takes its children along."""
    log = tmp_path / "log"
    await eventually(lambda: log.exists() and log.read_text().endswith("\n"), 30, "a child")
    child = pathlib.Path("/proc", log.read_text().strip())
    assert is_running(child)
    parent.kill()
    await eventually(lambda: not is_running(child), 30, "the end of the child")


def is_running(process):
    """Whether a process lives; one that nobody has waited for yet does not."""
    try:
        return process.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
