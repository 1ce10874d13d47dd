"""The examples of other languages, against the real gateway."""

from __future__ import annotations

import asyncio
import os
import pathlib
import shutil

import pytest

pytestmark = pytest.mark.slow

DEBIAN_GO = pathlib.Path("/usr/share/gocode")
"""Where Debian's packages put the sources of gRPC and protobuf."""


async def printed(*command, **environment):
    """Run a command to its end; return what it printed, also to standard error."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | environment,
    )
    try:
        text = (await asyncio.wait_for(process.stdout.read(), 100)).decode()
        assert await process.wait() == 0, text
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return text


@pytest.fixture
async def typescript(pytestconfig):
    """The command of the TypeScript example, built."""
    folder = pytestconfig.rootpath / "clients/typescript"
    compiler = folder / "node_modules/typescript/bin/tsc"
    node = shutil.which("node")
    if node is None or not compiler.exists():
        pytest.skip("needs node, and `npm ci` in clients/typescript")
    await printed(node, compiler, "--project", folder)
    return [node, folder / "dist/examples/steer.js"]


@pytest.fixture
async def go(pytestconfig, tmp_path):
    """The command of the Go example, built without modules from Debian's packages."""
    tool = shutil.which("go")
    if tool is None or not (DEBIAN_GO / "src/google.golang.org/grpc").exists():
        pytest.skip("needs golang-go, golang-google-grpc-dev and golang-google-protobuf-dev")
    root = pytestconfig.rootpath
    (tmp_path / "src/thermesh").mkdir(parents=True)
    (tmp_path / "src/thermesh/clients").symlink_to(root / "clients")
    await printed(
        *(tool, "build", "-o", tmp_path / "steer", "thermesh/clients/go/examples/steer"),
        GO111MODULE="off",
        GOFLAGS="",
        GOPATH=f"{tmp_path}:{DEBIAN_GO}",
        GOCACHE=str(root / "build/go"),
    )
    return [tmp_path / "steer"]


async def check(native, command):
    """Run an example: tokens with temperatures, an update from its token on, feedback."""
    native.inference.hangs_after = 2
    text = await printed(*command, f"127.0.0.1:{native.grpc_port}", THERMESH_API_KEY="")

    assert text.splitlines() == [
        '0  T 0.30  "Paris"',
        '1  T 0.30  " is"',
        "update 1 holds from 2 on",
        '2  T 1.20  " it"',
        '3  T 1.20  "."',
        "feedback: FEEDBACK_STATE_PENDING",
    ]
    [stored] = native.controller.feedback.values()
    assert (stored.score, stored.decision_id) == (1.0, "dec-" + "0" * 32)


async def test_typescript_streams_steers_and_rates(native, typescript):
    """What the TypeScript example prints, and the feedback that arrived."""
    await check(native, typescript)


async def test_go_streams_steers_and_rates(native, go):
    """What the Go example prints, and the feedback that arrived."""
    await check(native, go)
