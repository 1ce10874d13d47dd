"""`thermesh up` with a real redis-server and trivial processes in place of the rooms."""

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import signal
import sys
import time

import pytest

from thermesh.cli import mesh, ports, up
from thermesh.cli.__main__ import main
from thermesh.cli.config import UpConfig
from thermesh.cli.supervisor import Program
from thermesh.testing import eventually

CONFIG = UpConfig(
    gateway_http_port=0, gateway_grpc_port=0, feature_port=0, controller_port=0, inference_port=0
)
SLEEP = "import signal; signal.pause()"


@pytest.fixture
def rooms(monkeypatch):
    """Replace the rooms by one process running `code`; ready once `is_ready` says so."""

    def replace(code, is_ready):
        def programs(config, chosen, redis_url, state):
            command = (sys.executable, "-S", "-c", code)
            log_path = state / "logs" / "room.log"
            return (Program("room", command, os.environ, log_path, is_ready),)

        monkeypatch.setattr(mesh, "programs", programs)

    return replace


@pytest.fixture
def make(tmp_path):
    """Return meshes on a state folder of the test's own."""
    return lambda config=CONFIG: up.Mesh(config, ports.chosen(config), tmp_path, time.monotonic())


@contextlib.asynccontextmanager
async def running(made):
    """The exit status of a mesh as a future; it is stopped at the end."""
    task = asyncio.create_task(made.run())
    yield task
    if not task.done():
        os.kill(os.getpid(), signal.SIGTERM)
    await task


async def yes():
    return True


async def test_up_welcomes_and_a_signal_ends_it(rooms, make, capsys, tmp_path):
    """Once all are ready it prints where to go; a signal drains and the status is 0."""
    rooms(SLEEP, yes)
    printed = []

    def is_welcome():
        printed.append(capsys.readouterr().out)
        return "ready after" in "".join(printed)

    async with running(make()) as status:
        await eventually(is_welcome, 30, "the welcome")
        os.kill(os.getpid(), signal.SIGTERM)
        assert await asyncio.wait_for(status, 30) == 0
    words = "".join(printed) + capsys.readouterr().out
    assert "/v1/chat/completions" in words
    assert words.index("room       stopped") < words.index("redis      stopped")
    assert any((tmp_path / "redis").glob("appendonly*"))


@pytest.mark.slow
async def test_up_explains_a_room_that_does_not_start(rooms, make, capsys):
    """It ends with status 1, everything stopped, and the last words of the room."""
    rooms("import sys; sys.exit('THERMESH_MODEL is no model')", yes_never)
    assert await asyncio.wait_for(make().run(), 30) == 1
    printed = capsys.readouterr().out
    assert "room did not start (exit status 1)" in printed
    assert "THERMESH_MODEL is no model" in printed
    assert "redis      stopped" in printed


async def yes_never():
    return False


async def test_a_signal_while_starting_ends_it(rooms, make, tmp_path):
    """Ctrl-C before the mesh is ready stops what was started, without a welcome."""
    rooms(SLEEP, yes_never)
    async with running(make()) as status:
        log = tmp_path / "logs" / "room.log"
        await eventually(log.exists, 30, "the room's start")
        os.kill(os.getpid(), signal.SIGINT)
        assert await asyncio.wait_for(status, 30) == 0


async def test_a_second_signal_does_not_wait(rooms, make, tmp_path):
    """A room that ignores the first signal is killed by the second."""
    flag = tmp_path / "deaf"
    rooms(
        "import pathlib, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"pathlib.Path({str(flag)!r}).touch(); signal.pause(); signal.pause()",
        yes_never,
    )
    patient = dataclasses.replace(CONFIG, grace_seconds=600)
    async with running(make(patient)) as status:
        await eventually(flag.exists, 30, "the room's start")
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(3):
            await asyncio.sleep(0)  # the loop reads the signals one after another
        os.kill(os.getpid(), signal.SIGINT)
        assert await asyncio.wait_for(status, 30) == 0


def test_up_without_a_model_says_how_to_get_it(monkeypatch, tmp_path, capsys):
    """Forbidden to fetch, it names the command, and starts nothing."""
    monkeypatch.setenv("THERMESH_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("THERMESH_MODELS_DIR", raising=False)
    for variable in ("GATEWAY_HTTP", "GATEWAY_GRPC", "FEATURE", "CONTROLLER", "INFERENCE"):
        monkeypatch.setenv(f"THERMESH_{variable}_PORT", "0")
    assert main(["up", "--no-fetch"]) == 1
    assert "thermesh models fetch smollm2-135m-instruct" in capsys.readouterr().err
    assert not (tmp_path / "redis").exists()


def test_a_second_up_is_refused(monkeypatch, tmp_path, capsys):
    """One state folder has one mesh."""
    monkeypatch.setenv("THERMESH_STATE_DIR", str(tmp_path))
    with up.only_one(tmp_path):
        assert main(["up"]) == 1
    assert f"already runs on {pathlib.Path(tmp_path)}" in capsys.readouterr().err
