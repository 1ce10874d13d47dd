"""The native door: who may say what when, and what comes back."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from gateway_fakes import MODEL, fixed

from thermesh import rpc
from thermesh.errors import MeshError
from thermesh.interceptors import from_rpc_error
from thermesh.testing import eventually
from thermesh.v1 import chat_pb2, chat_pb2_grpc, common_pb2, feedback_pb2

from .conftest import native_door


class Client:
    """One Converse call, spoken by hand."""

    def __init__(self, stub, timeout=60, metadata=()):
        self._queue = asyncio.Queue()
        self.call = stub.Converse(self._requests(), timeout=timeout, metadata=lowered(metadata))
        self.responses = []

    async def _requests(self):
        while (message := await self._queue.get()) is not None:
            yield message

    def say(self, **message):
        """Send one message."""
        self._queue.put_nowait(chat_pb2.ConverseRequest(**message))

    def half_close(self):
        """Say nothing more."""
        self._queue.put_nowait(None)

    async def until(self, kind):
        """Read until a message of a kind came; return it."""
        async for response in self.call:
            self.responses.append(response)
            if response.WhichOneof("message") == kind:
                return getattr(response, kind)
        raise AssertionError(f"no {kind} among {self.kinds}")

    async def rest(self):
        """Kinds of the messages that still come."""
        before = len(self.responses)
        async for response in self.call:
            self.responses.append(response)
        return self.kinds[before:]

    async def error(self) -> MeshError:
        """The error that ends the call."""
        try:
            async for response in self.call:
                self.responses.append(response)
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error)
        raise AssertionError(f"no error, but {self.kinds}")

    @property
    def kinds(self):
        """Kinds of the messages that came."""
        return [response.WhichOneof("message") for response in self.responses]


def lowered(metadata):
    """Headers as gRPC spells them; None for none."""
    return tuple((name.lower(), value) for name, value in metadata) or None


@pytest.fixture
async def client(chat_stub):
    """A call that is cancelled at the end."""
    opened = Client(chat_stub)
    yield opened
    opened.call.cancel()


def start(text="What is the capital of France?", **members):
    """A start."""
    message = chat_pb2.ConverseStart(model=MODEL, **members)
    if text is not None:
        message.messages.add(role=common_pb2.ROLE_USER, content=text)
    return message


async def test_a_turn_is_answered_in_order(client):
    """Accepted, plan, tokens and end come numbered under one request id."""
    client.say(start=start())
    end = await client.until("end")

    assert {"accepted", "plan", "applied", "tokens", "end"} == set(client.kinds)
    assert client.kinds.index("plan") < client.kinds.index("tokens")
    assert [r.sequence_number for r in client.responses] == list(
        range(1, len(client.responses) + 1)
    )
    assert len({r.request_id for r in client.responses}) == 1
    assert client.responses[0].request_id.startswith("req-")
    assert end.text == "Paris is it."
    assert end.generation.usage.completion_tokens == 4


async def test_acceptance_is_told_before_the_plan(native, client):
    """Even where the plan is there first."""
    native.inference.accepts.clear()
    client.say(start=start())
    await eventually(lambda: native.controller.requests and native.inference.calls)
    native.inference.accepts.set()
    await client.until("tokens")

    assert client.kinds[:2] == ["accepted", "plan"]


async def test_inference_hears_the_start_alone_until_it_answers(native, client):
    """Whoever may still refuse is not written to: its refusal would be lost on the way."""
    native.inference.accepts.clear()
    client.say(start=start())
    client.say(update=common_pb2.ParameterUpdate(update_id=5, program=fixed(1.5)))
    await eventually(lambda: native.controller.requests and native.inference.calls)
    [call] = native.inference.calls
    assert not call.plan_came.is_set()

    native.inference.accepts.set()
    await client.until("end")
    assert call.plan_came.is_set()
    assert "applied" in client.kinds


async def test_half_closing_does_not_stop_the_answer(client):
    """A client that has said everything still hears everything."""
    client.say(start=start())
    client.half_close()

    assert (await client.until("end")).text == "Paris is it."


async def test_an_update_is_acknowledged_and_used_from_its_token(native, client):
    """The acknowledgement names the token from which the new temperature holds."""
    native.inference.hangs_after = 2
    client.say(start=start())
    while (await client.until("tokens")).tokens[-1].index < 1:
        pass
    client.say(update=common_pb2.ParameterUpdate(update_id=5, program=fixed(1.5)))
    applied = await client.until("applied")
    token = (await client.until("tokens")).tokens[0]

    assert (applied.update_id, applied.token_index) == (5, 2)
    assert applied.source == common_pb2.UPDATE_SOURCE_CLIENT
    assert (token.index, token.temperature, token.revision) == (2, 1.5, applied.revision)


@pytest.mark.parametrize(
    ("program", "field"),
    [
        (fixed(0.05), "program.fixed.temperature"),
        (common_pb2.TemperatureProgram(), "program"),
    ],
)
async def test_a_bad_update_is_only_rejected(native, client, program, field):
    """The stream goes on with the parameters it had."""
    native.inference.go.clear()
    client.say(start=start())
    await client.until("accepted")
    client.say(update=common_pb2.ParameterUpdate(update_id=1, program=program))
    rejected = await client.until("rejected")
    native.inference.go.set()
    end = await client.until("end")

    assert (rejected.update_id, rejected.field) == (1, field)
    assert end.text == "Paris is it."


async def test_an_interrupt_keeps_the_heard_tokens_only(native, client):
    """The end says what the user heard; decoding is cancelled."""
    native.inference.hangs_after = 3
    client.say(start=start())
    while (await client.until("tokens")).tokens[-1].index < 2:
        pass
    client.say(interrupt=chat_pb2.Interrupt(heard_tokens=2))
    end = await client.until("end")

    assert end.text == "Paris is"
    assert end.generation.finish_reason == common_pb2.FINISH_REASON_CANCELLED
    assert native.inference.calls[0].cancel_asked.is_set()
    assert native.inference.calls[0].received[-1].cancel.kept_tokens == 3


async def test_a_cancel_ends_the_turn(native, client):
    """Cancel is answered by an end with the text so far."""
    native.inference.hangs_after = 1
    client.say(start=start())
    await client.until("tokens")
    client.say(cancel=chat_pb2.CancelConversation())
    end = await client.until("end")

    assert end.text == "Paris"


async def test_words_are_read_while_they_are_heard(native, client):
    """Partial texts reach the feature service; decoding begins with the final one."""
    client.say(start=start(text=None, awaiting_input=True))
    for text in ("What is", "What is the capital"):
        client.say(append=chat_pb2.AppendInput(text=text))
        await eventually(lambda text=text: text in native.feature.heard)
    before = len(native.inference.calls)
    client.say(append=chat_pb2.AppendInput(text="What is the capital?", is_final=True))
    await client.until("end")
    chat = native.inference.calls[0].start.chat.messages

    assert before == 0
    assert [message.content for message in chat] == ["What is the capital?"]
    assert native.controller.requests[0].HasField("features")
    assert native.feature.calls == 0


async def test_listening_survives_a_dead_feature_service(native, client):
    """Without features the controller still decides."""
    await native.neighbours.stop("feature")
    client.say(start=start(text=None, awaiting_input=True))
    client.say(append=chat_pb2.AppendInput(text="hello", is_final=True))
    plan = await client.until("plan")

    assert plan.source == common_pb2.PLAN_SOURCE_POLICY
    assert not native.controller.requests[0].HasField("features")


async def test_the_deadline_of_the_call_travels(native, chat_stub):
    """The gRPC deadline is the deadline of the request on every hop."""
    client = Client(chat_stub, timeout=5)
    client.say(start=start())
    await client.until("end")
    now = native.gateway.app.state.doors.pipeline.clock.unix_ms()

    # gRPC rounds a timeout up to its own units on the wire.
    assert 0 < native.inference.calls[0].start.context.deadline_unix_ms - now <= 5100


async def test_credit_is_handed_on(native, client):
    """Credits of the client are credits of inference."""
    native.inference.go.clear()
    client.say(start=start(initial_credit=8))
    client.say(credit=common_pb2.Credit(tokens=32))
    await eventually(lambda: native.inference.calls and "credit" in native.inference.calls[0].kinds)
    native.inference.go.set()
    await client.until("end")

    assert native.inference.calls[0].start.initial_credit == 8


async def test_a_second_start_is_a_failed_precondition(native, client):
    """A turn begins once."""
    native.inference.hangs_after = 1
    client.say(start=start())
    await client.until("tokens")
    client.say(start=start())
    error = await client.error()
    await eventually(lambda: native.inference.open_calls == 0)

    assert (error.code.name, error.field) == ("FAILED_PRECONDITION", "start")


@pytest.mark.parametrize(
    ("first", "code", "field"),
    [
        ({"credit": common_pb2.Credit(tokens=1)}, "FAILED_PRECONDITION", "start"),
        ({}, "INVALID_ARGUMENT", "message"),
        ({"start": start(text="")}, "INVALID_ARGUMENT", "messages[0].content"),
        ({"start": start(text=None)}, "INVALID_ARGUMENT", "messages"),
        ({"start": start(text="x" * 1_100_000)}, "INVALID_ARGUMENT", "messages[0].content"),
        ({"start": start(candidate_count=21)}, "INVALID_ARGUMENT", "candidate_count"),
        ({"start": start(stop=[""])}, "INVALID_ARGUMENT", "stop[0]"),
    ],
)
async def test_a_bad_first_message_is_refused(native, client, first, code, field):
    """The error names the field and nothing is opened for it."""
    client.say(**first)
    error = await client.error()

    assert (error.code.name, error.field) == (code, field)
    assert native.inference.calls == []


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        (lambda m: setattr(m, "model", "gpt-9"), "NOT_FOUND", "model"),
        (
            lambda m: setattr(m.constraints, "temperature", 0.05),
            "INVALID_ARGUMENT",
            "constraints.temperature",
        ),
        (
            lambda m: setattr(m.constraints.guard, "top_p", 1.5),
            "INVALID_ARGUMENT",
            "constraints.guard.top_p",
        ),
        (
            lambda m: m.constraints.program.SetInParent(),
            "INVALID_ARGUMENT",
            "constraints.program",
        ),
        (
            lambda m: setattr(m.constraints, "scenario", "poker"),
            "INVALID_ARGUMENT",
            "constraints.scenario",
        ),
        (
            lambda m: setattr(m.messages[0], "role", 0),
            "INVALID_ARGUMENT",
            "messages[0].role",
        ),
        (
            lambda m: setattr(m.context, "session_id", "a b"),
            "INVALID_ARGUMENT",
            "context.session_id",
        ),
        (
            lambda m: setattr(m.context, "deadline_unix_ms", 1),
            "DEADLINE_EXCEEDED",
            "deadline",
        ),
    ],
)
async def test_a_bad_start_names_its_field(client, change, code, field):
    """One member out of range is told by its path in the contract."""
    message = start()
    change(message)
    client.say(start=message)
    error = await client.error()

    assert (error.code.name, error.field) == (code, field)


async def test_the_order_of_input_is_kept(client):
    """While input is awaited only append may come; ending early is told."""
    client.say(start=start(text=None, awaiting_input=True))
    client.say(credit=common_pb2.Credit(tokens=1))
    error = await client.error()

    assert (error.code.name, error.field) == ("FAILED_PRECONDITION", "credit")


async def test_models_are_listed(chat_stub):
    """The native door lists what inference serves."""
    models = (await chat_stub.ListModels(chat_pb2.ListModelsRequest(), timeout=30)).models

    assert [(model.id, model.context_length) for model in models] == [(MODEL, 2048)]


async def test_native_feedback_is_passed_on(native, feedback_stub):
    """Once stored, a repetition is a duplicate, other content a conflict."""
    request = feedback_pb2.SubmitFeedbackRequest(feedback_id="fb-1", decision_id="dec-1", score=0.5)
    first = await feedback_stub.SubmitFeedback(request, timeout=30)
    second = await feedback_stub.SubmitFeedback(request, timeout=30)
    request.score = -1
    with pytest.raises(grpc.aio.AioRpcError) as conflict:
        await feedback_stub.SubmitFeedback(request, timeout=30)
    found = await feedback_stub.GetFeedback(
        feedback_pb2.GetFeedbackRequest(feedback_id="fb-1"), timeout=5
    )

    assert (first.duplicate, second.duplicate) == (False, True)
    assert conflict.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert found.applied_version == 8
    assert native.controller.feedback["fb-1"].context.tenant == "default"


async def test_a_silent_turn_says_that_it_lives(neighbours):
    """Proxies on the way close what is silent; a long prefill is."""
    neighbours.inference.go.clear()
    async with (
        native_door(neighbours, ping_s=0.05) as served,
        rpc.connect(f"127.0.0.1:{served.grpc_port}") as channel,
    ):
        client = Client(chat_pb2_grpc.ChatServiceStub(channel))
        client.say(start=start())
        await client.until("heartbeat")
        await client.until("heartbeat")
        neighbours.inference.go.set()
        assert (await client.rest())[-1] == "end"
    numbers = [response.sequence_number for response in client.responses]
    assert numbers == list(range(1, len(numbers) + 1))
