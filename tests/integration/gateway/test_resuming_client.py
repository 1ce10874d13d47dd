"""The client that resumes by itself, against the real gateway over lines that tear."""

from __future__ import annotations

import pytest
from lines import Line

from thermesh.client import Accepted, Applied, End, MeshClient, Tokens
from thermesh.errors import Unavailable
from thermesh.events import Fixed
from thermesh.testing import eventually


@pytest.fixture
async def line(native):
    """A line to the gateway."""
    opened = Line(native.grpc_port)
    opened.port = await opened.start()
    yield opened
    await opened.stop()


@pytest.fixture
async def mesh(line):
    """A client at the other end of it."""
    async with MeshClient(f"127.0.0.1:{line.port}") as client:
        yield client


async def test_an_answer_goes_on_over_torn_lines(native, mesh, line):
    """Torn twice, the answer has every token once, and an update said meanwhile holds."""
    native.inference.hangs_after = 2
    conversation = mesh.converse("Hi", resumable=True)
    tokens, applied, end = [], [], None
    async for event in conversation:
        if isinstance(event, Accepted):
            assert event.resume_seconds == 10.0
        if isinstance(event, Tokens):
            tokens += event.tokens
            line.reset() if len(tokens) in {1, 2} else None
            if len(tokens) == 2:
                await conversation.update(program=Fixed(1.5))
        elif isinstance(event, Applied) and event.source == "client":
            applied.append(event)
        elif isinstance(event, End):
            end = event

    assert [token.index for token in tokens] == [0, 1, 2, 3]
    assert [token.temperature for token in tokens[2:]] == [1.5, 1.5]
    assert [one.update_id for one in applied] == [1]
    assert end.text == "Paris is it."
    assert len(native.inference.calls) == 1


async def test_what_never_arrived_is_started(native, mesh, line):
    """A line that tears before the first event costs nothing but time."""
    native.inference.go.clear()
    events = aiter(mesh.converse("Hi", resumable=True))
    line.reset()
    assert isinstance(await anext(events), Accepted)
    native.inference.go.set()
    ends = [event async for event in events if isinstance(event, End)]

    assert [end.text for end in ends] == ["Paris is it."]


async def test_without_resumption_a_torn_line_is_an_error(native, mesh, line):
    """Tokens that were shown are not shown again."""
    native.inference.hangs_after = 1

    async def read():
        async for event in mesh.converse("Hi"):
            line.reset() if isinstance(event, Tokens) else None

    with pytest.raises(Unavailable):
        await read()
    await eventually(lambda: native.gateway.admission.inside == 0)

    assert len(native.inference.calls) == 1


async def test_leaving_a_resumable_answer_ends_it(native, mesh):
    """Who leaves the loop does not let it decode on for the grace."""
    native.inference.hangs_after = 1
    async for event in mesh.converse("Hi", resumable=True):
        if isinstance(event, Tokens):
            break
    await eventually(lambda: native.gateway.admission.inside == 0)

    assert native.inference.calls[0].cancel_asked.is_set()


async def test_a_gateway_that_stays_away_is_told(native, mesh, line):
    """After the grace the error is the one that broke the line."""
    native.inference.hangs_after = 1
    conversation = mesh.converse("Hi", resumable=True)

    async def read():
        async for event in conversation:
            if isinstance(event, Tokens):
                conversation._resume_seconds = 0.2
                await line.stop()

    with pytest.raises(Unavailable):
        await read()
