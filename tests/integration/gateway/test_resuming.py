"""Turns that outlive their connection: read on, owned, bounded, forgotten."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from gateway_fakes import bearer, fixed, make_key
from lines import Line

from thermesh import rpc
from thermesh.testing import eventually, redis_server
from thermesh.v1 import chat_pb2, chat_pb2_grpc, common_pb2

from .conftest import native_door
from .test_converse import Client, start

GRACE_MS = 60_000


def resumable(text="What is the capital of France?", request_id="turn-1", **members):
    """A start that outlives its connection."""
    context = common_pb2.RequestContext(request_id=request_id)
    return start(text, **{"context": context, "resume_grace_ms": GRACE_MS} | members)


def resume(after, request_id="turn-1", tenant=""):
    """A first message that goes on after message `after`."""
    return chat_pb2.ConverseResume(request_id=request_id, last_sequence_number=after, tenant=tenant)


@contextlib.asynccontextmanager
async def calling(port, key=""):
    """A channel of its own, closed at the end."""
    channel = rpc.connect(f"127.0.0.1:{port}")
    stub = chat_pb2_grpc.ChatServiceStub(channel)
    client = Client(stub, metadata=tuple(bearer(key).items()) if key else ())
    try:
        yield client
    finally:
        client.call.cancel()
        await channel.close()


@contextlib.asynccontextmanager
async def torn(port, message=None, until=1):
    """A turn whose line was torn after the token before index `until`; its client."""
    line = Line(port)
    async with calling(await line.start()) as client:
        client.say(start=message or resumable())
        while (await client.until("tokens")).tokens[-1].index < until - 1:
            pass
        line.reset()
        assert (await client.error()).code.name == "UNAVAILABLE"
        yield client
    await line.stop()


def numbers(*clients):
    """The numbers of all messages, in the order of the clients."""
    return [response.sequence_number for client in clients for response in client.responses]


async def test_a_torn_line_is_resumed_without_a_gap(native):
    """The answer goes on with the next number, as one stream; the grace was told."""
    native.inference.hangs_after = 2
    async with torn(native.grpc_port, until=2) as first, calling(native.grpc_port) as second:
        second.say(resume=resume(numbers(first)[-1]))
        second.say(update=common_pb2.ParameterUpdate(update_id=1, program=fixed(1.5)))
        end = await second.until("end")

    seen = numbers(first, second)
    assert seen == list(range(1, len(seen) + 1))
    assert first.responses[0].accepted.resume_grace_ms == 10_000
    assert {r.request_id for r in first.responses + second.responses} == {"turn-1"}
    assert end.text == "Paris is it."
    assert second.responses[-2].tokens.tokens[0].temperature == 1.5
    assert [call.was_cancelled for call in native.inference.calls] == [False]


async def test_an_answer_can_be_read_again_from_the_start(native):
    """Also one that is over, for a client that lost its end."""
    async with calling(native.grpc_port) as first:
        first.say(start=resumable())
        await first.until("end")
    await eventually(lambda: native.gateway.admission.inside == 0)
    async with calling(native.grpc_port) as second:
        second.say(resume=resume(0))
        await second.until("end")

    assert second.responses == first.responses


async def test_a_resumed_turn_is_interrupted_at_what_was_heard(native):
    """The heard tokens count over both connections."""
    native.inference.hangs_after = 3
    async with torn(native.grpc_port, until=3) as first, calling(native.grpc_port) as second:
        second.say(resume=resume(numbers(first)[-1]))
        second.say(interrupt=chat_pb2.Interrupt(heard_tokens=2))
        end = await second.until("end")

    assert end.text == "Paris is"
    assert native.inference.calls[0].cancel_asked.is_set()


async def test_words_are_awaited_over_a_torn_line(native):
    """Input goes on after a tear; saying the final words again is harmless."""
    line = Line(native.grpc_port)
    async with calling(await line.start()) as first, calling(native.grpc_port) as second:
        first.say(start=resumable(text=None, awaiting_input=True))
        first.say(append=chat_pb2.AppendInput(text="What is"))
        await eventually(lambda: native.feature.heard == ["What is"])
        line.reset()
        await first.error()
        second.say(resume=resume(0))
        for _ in range(2):
            second.say(append=chat_pb2.AppendInput(text="What is it?", is_final=True))
        end = await second.until("end")
    await line.stop()

    assert end.text == "Paris is it."


async def test_a_second_reader_takes_the_turn_over(native):
    """The call that read so far is told so; the answer itself goes on."""
    native.inference.hangs_after = 1
    async with calling(native.grpc_port) as first, calling(native.grpc_port) as second:
        first.say(start=resumable())
        await first.until("tokens")
        second.say(resume=resume(0))
        error = await first.error()
        second.say(cancel=chat_pb2.CancelConversation())
        await second.until("end")

    assert (error.code.name, error.reason) == ("ABORTED", "TAKEN_OVER")


@pytest.mark.parametrize(
    ("wish", "code", "field"),
    [
        (resume(0, "turn-2"), "NOT_FOUND", "resume.request_id"),
        (resume(0, tenant="other"), "NOT_FOUND", "resume.request_id"),
        (resume(99), "INVALID_ARGUMENT", "resume.last_sequence_number"),
    ],
)
async def test_what_is_not_there_cannot_be_resumed(native, wish, code, field):
    """Unknown turns, those of another tenant, and numbers never sent."""
    native.inference.hangs_after = 1
    async with torn(native.grpc_port), calling(native.grpc_port) as second:
        second.say(resume=wish)
        error = await second.error()

    assert (error.code.name, error.field) == (code, field)


async def test_a_turn_in_the_middle_cannot_become_another(native):
    """Resume is a first message only."""
    native.inference.hangs_after = 1
    async with calling(native.grpc_port) as client:
        client.say(start=resumable())
        await client.until("tokens")
        client.say(resume=resume(0))
        error = await client.error()

    assert (error.code.name, error.field) == ("FAILED_PRECONDITION", "resume")


async def test_after_the_grace_decoding_is_cancelled(native):
    """Nobody came back: inference hears of it, and the turn is not found any more."""
    native.inference.hangs_after = 1
    message = resumable(resume_grace_ms=1)
    async with torn(native.grpc_port, message) as first, calling(native.grpc_port) as second:
        await native.inference.calls[0].over.wait()
        second.say(resume=resume(numbers(first)[-1]))
        error = await second.error()

    assert error.code.name == "NOT_FOUND"
    assert native.inference.calls[0].was_cancelled
    assert native.gateway.admission.inside == 0


async def test_who_did_not_ask_is_not_waited_for(native):
    """Without a grace a torn line ends the turn at once, as ever."""
    native.inference.hangs_after = 1
    async with torn(native.grpc_port, resumable(resume_grace_ms=0)) as first:
        await asyncio.wait_for(native.inference.calls[0].over.wait(), 30)

    assert first.responses[0].accepted.resume_grace_ms == 0


async def test_a_failed_turn_is_told_once(native):
    """The error that ends a turn reaches its reader, and then nothing is kept."""
    native.inference.refusal = RuntimeError("broken")
    async with calling(native.grpc_port) as first, calling(native.grpc_port) as second:
        first.say(start=resumable())
        failure = await first.error()
        second.say(resume=resume(0))
        error = await second.error()

    assert (failure.code.name, error.code.name) == ("INTERNAL", "NOT_FOUND")


async def test_an_unread_answer_waits_within_its_window(neighbours):
    """Without a reader no more is made than the window takes; all of it is read later."""
    neighbours.inference.texts = [f"{number} " for number in range(400)]
    async with (
        native_door(neighbours, resume_events=16) as served,
        torn(served.grpc_port) as first,
        calling(served.grpc_port) as second,
    ):
        second.say(resume=resume(numbers(first)[-1]))
        end = await second.until("end")

    seen = numbers(first, second)
    assert seen == list(range(1, len(seen) + 1))
    assert end.text == "".join(neighbours.inference.texts)


async def test_what_was_long_read_is_not_kept(neighbours):
    """The error names what is."""
    neighbours.inference.texts = ["x"] * 100
    async with (
        native_door(neighbours, resume_events=16) as served,
        calling(served.grpc_port) as first,
        calling(served.grpc_port) as second,
    ):
        first.say(start=resumable())
        await first.until("end")
        second.say(resume=resume(1))
        error = await second.error()
    newest = numbers(first)[-1]

    assert (error.code.name, error.reason) == ("FAILED_PRECONDITION", "OUT_OF_WINDOW")
    assert f"from {newest - 16} to {newest}" in error.message


async def test_only_so_many_turns_are_kept(neighbours):
    """The next is refused at once; one that is over makes room, a name in use does not."""
    async with native_door(neighbours, max_resumable=1) as served:
        neighbours.inference.hangs_after = 1
        async with calling(served.grpc_port) as first, calling(served.grpc_port) as second:
            first.say(start=resumable())
            await first.until("tokens")
            second.say(start=resumable(request_id="turn-2"))
            full = await second.error()
            async with calling(served.grpc_port) as same:
                same.say(start=resumable())
                taken = await same.error()
            first.say(cancel=chat_pb2.CancelConversation())
            await first.until("end")
            assert await first.rest() == []
        neighbours.inference.hangs_after = None
        async with calling(served.grpc_port) as third:
            third.say(start=resumable(request_id="turn-3"))
            end = await third.until("end")

    assert (full.code.name, full.reason, full.retry_after) == (
        "RESOURCE_EXHAUSTED",
        "RESUMABLE_LIMIT",
        1.0,
    )
    assert taken.code.name == "ALREADY_EXISTS"
    assert end.text == "Paris is it."


@pytest.mark.slow
async def test_another_key_does_not_find_the_turn(neighbours):
    """A turn belongs to the key it was begun with, also within its tenant."""
    neighbours.inference.hangs_after = 1
    with redis_server() as redis:
        mine, theirs = (make_key(redis.url, "acme") for _ in range(2))
        async with native_door(neighbours, redis_url=redis.url, require_keys=True) as served:
            port = served.grpc_port
            async with calling(port, mine) as first, calling(port, theirs) as second:
                first.say(start=resumable())
                await first.until("tokens")
                second.say(resume=resume(0))
                error = await second.error()
                async with calling(port, mine) as third:
                    third.say(resume=resume(0))
                    await third.until("tokens")

    assert error.code.name == "NOT_FOUND"
