"""The client without asyncio, in threads of its own, against the server of test_client."""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
import threading

import pytest

from thermesh import client
from thermesh.client import End, Plan, Tokens, conversation, sync
from thermesh.errors import FailedPrecondition, InvalidArgument
from thermesh.events import Fixed
from thermesh.testing import eventually

from .test_client import Gateway, gateway, unsteered

__all__ = ["gateway"]


async def in_thread(work, target):
    """Run `work(client)` in a thread."""

    def run():
        with sync.MeshClient(target, timeout=30) as mesh:
            return work(mesh)

    return await asyncio.to_thread(run)


def clients():
    """Names of the background threads that are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name == "thermesh-client"]


async def test_an_answer_is_iterated_over_and_steered(gateway):
    """The same events and words, and no thread is left."""

    def ask(mesh):
        turn, events = mesh.converse("Hi", temperature=0.5), []
        for event in turn:
            events.append(event)
            if isinstance(event, Plan):
                assert turn.update(program=Fixed(1.2)) == 1
                turn.credit(5)
                turn.interrupt(1)
        with pytest.raises(FailedPrecondition, match="over"):
            turn.cancel()
        return events

    events = await in_thread(ask, gateway.target)
    assert isinstance(events[-1], End)
    assert "".join(event.text for event in events if isinstance(event, Tokens)) == "Paris"
    assert [request.WhichOneof("message") for request in gateway.received] == ["update", "credit"]
    assert clients() == []


async def test_leaving_the_loop_ends_the_call(gateway):
    """A break frees the server at once, while the client is still open."""
    gateway.endless = True
    left, done = threading.Event(), threading.Event()

    def ask(mesh):
        for event in mesh.converse("Hi"):
            if isinstance(event, Tokens):
                break
        left.set()
        assert done.wait(30)

    asking = asyncio.create_task(in_thread(ask, gateway.target))
    await asyncio.to_thread(left.wait, 30)
    await eventually(lambda: gateway.open_streams == 0)
    done.set()
    await asking


async def test_one_client_serves_many_threads(gateway, monkeypatch):
    """Eight threads ask at once; each has its whole answer."""
    monkeypatch.setattr(Gateway, "answer", unsteered)

    def text(mesh):
        events = mesh.converse("Hi")
        return "".join(event.text for event in events if isinstance(event, Tokens))

    def ask(mesh):
        return asyncio.run(several(mesh))

    async def several(mesh):
        return await asyncio.gather(*(asyncio.to_thread(text, mesh) for _ in range(8)))

    assert await in_thread(ask, gateway.target) == ["Paris"] * 8


async def test_closing_ends_what_other_threads_read(gateway):
    """Who waits for an event is told that the client is closed."""
    gateway.endless = True
    began, told = threading.Event(), []

    def read(mesh):
        try:
            for _ in mesh.converse("Hi"):
                began.set()
        except FailedPrecondition as error:
            told.append(error.message)

    def ask(mesh):
        reader = threading.Thread(target=read, args=[mesh])
        reader.start()
        assert began.wait(30)
        mesh.close()
        reader.join(30)
        with pytest.raises(FailedPrecondition, match="closed"):
            mesh.models()

    await in_thread(ask, gateway.target)
    await eventually(lambda: gateway.open_streams == 0)
    assert [message for message in told if "closed" in message] == told != []


async def test_unary_calls_and_errors_are_the_same(gateway):
    """Values come back, MeshErrors are raised in the thread that asked."""

    def ask(mesh):
        gateway.failure = InvalidArgument("at most 2.0", field="constraints.temperature")
        with pytest.raises(InvalidArgument, match="at most"):
            list(mesh.converse("Hi"))
        receipt = mesh.feedback("dec-1", 1.0)
        return mesh.models(), mesh.feedback_state(receipt.feedback_id)

    [model], state = await in_thread(ask, gateway.target)
    assert (model.id, state.state) == ("tiny", "applied")


@pytest.mark.parametrize(
    ("blocking", "asynchronous"),
    [(sync.MeshClient, client.MeshClient), (sync.Conversation, conversation.Conversation)],
)
def test_both_clients_have_the_same_words(blocking, asynchronous):
    """Every public method of one is one of the other, with the same parameters."""

    def words(kind):
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {
            name: list(inspect.signature(method).parameters.values())
            for name, method in methods
            if not name.startswith("_")
        }

    expected = words(asynchronous)
    assert {name: words(blocking)[name] for name in expected} == expected


# A process that is started in the background may inherit that SIGINT is ignored.
CTRL_C = """
import signal, sys
from thermesh.client import Tokens
from thermesh.client.sync import MeshClient
signal.signal(signal.SIGINT, signal.default_int_handler)
with MeshClient(sys.argv[1]) as mesh:
    try:
        for event in mesh.converse("Hi"):
            if isinstance(event, Tokens):
                print("reading", flush=True)
    except KeyboardInterrupt:
        print(len(mesh.models()), flush=True)
"""


@pytest.mark.slow
async def test_ctrl_c_ends_the_answer_and_the_client_goes_on(gateway, pytestconfig):
    """SIGINT in a wait is KeyboardInterrupt there, and the same client can ask again."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CTRL_C, gateway.target),
        stdout=asyncio.subprocess.PIPE,
        cwd=pytestconfig.rootpath,
    )
    while b"reading" not in await process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    printed = await asyncio.wait_for(process.stdout.read(), 30)

    assert printed.split()[-1] == b"1"
    assert await process.wait() == 0
    await eventually(lambda: gateway.open_streams == 0)
