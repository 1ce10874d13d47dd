"""Generate and its neighbours over real gRPC."""

from __future__ import annotations

import asyncio
import gc
import re
import time
from typing import Any

import grpc
import pytest
from fake_model import END_ID, VOCABULARY_SIZE
from lines import Line

from services.inference import prompt
from services.inference.stream import Stream
from thermesh import errors
from thermesh.rpc import translated
from thermesh.testing import eventually
from thermesh.v1 import common_pb2, inference_pb2, inference_pb2_grpc

from .conftest import Call, Served, fixed, start_message

pytestmark = pytest.mark.timeout(120)

NEVER_MS = 600_000


async def refusal(call: Any) -> errors.MeshError:
    """Read a call to its end, which must be an error."""
    with pytest.raises(errors.MeshError) as refused, translated():
        await call.hear_all()
    return refused.value


async def test_a_request_streams_to_its_end(served: Served) -> None:
    """Accepted, then tokens with telemetry, then the end with usage; numbered from 1."""
    call = await served.open(context=common_pb2.RequestContext(request_id="req-1"))
    messages = await call.hear_all()
    assert [message.sequence_number for message in messages] == list(range(1, len(messages) + 1))
    assert {message.request_id for message in messages} == {"req-1"}
    assert call.of("accepted") == [inference_pb2.GenerationAccepted(prompt_tokens=5, model="fake")]
    assert [token.index for token in call.tokens] == list(range(8))
    for token in call.tokens:
        assert token.temperature == 1.0
        assert token.entropy > 0 > token.log_probability
        assert token.model_log_probability < 0
    [end] = call.of("end")
    assert messages[-1].end == end
    assert end.finish_reason == common_pb2.FINISH_REASON_LENGTH
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (5, 8)
    assert end.mean_temperature == 1.0
    await eventually(served.is_idle)


async def test_the_same_seed_gives_the_same_tokens(served: Served) -> None:
    """Two calls with one seed are equal; without a seed they differ."""
    texts = []
    for start in ({"seed": 3}, {"seed": 3}, {"seed": None}, {"seed": None}):
        call = await served.open(max_tokens=20, **start)
        await call.hear_all()
        texts.append([token.token_id for token in call.tokens])
    assert texts[0] == texts[1]
    assert texts[2] != texts[3]


async def test_the_next_turn_does_not_read_the_first_again(served: Served) -> None:
    """Usage tells how much of a prompt the tenant's prefix cache had; tokens are those of
    a new engine, and an idle engine uses no pages."""
    prompt = "a conversation that is longer than two pages"
    usages, answers = [], []
    for tenant in ("a", "a", "b"):
        call = await served.open(prompt, context=common_pb2.RequestContext(tenant=tenant))
        await call.hear_all()
        usages.append(call.of("end")[0].usage.cached_prompt_tokens)
        answers.append([token.token_id for token in call.tokens])
    assert usages == [0, 32, 0]
    assert answers[0] == answers[1] == answers[2]
    await eventually(served.is_idle)


async def test_half_closing_does_not_stop_decoding(served: Served) -> None:
    """A client that has nothing more to say still gets its answer."""
    call = await served.open()
    await call.call.done_writing()
    await call.hear_all()
    assert len(call.tokens) == 8


async def test_chat_and_token_input(served: Served) -> None:
    """A conversation goes through the template; token ids are used as they are."""
    messages = [common_pb2.ChatMessage(role=common_pb2.ROLE_USER, content="hi")]
    chat = await served.open(chat=common_pb2.ChatInput(messages=messages))
    await chat.hear_all()
    assert chat.of("accepted")[0].prompt_tokens == 5
    tokens = await served.open(tokens=common_pb2.TokenInput(token_ids=list(b"hello")))
    await tokens.hear_all()
    text = await served.open("hello")
    await text.hear_all()
    assert tokens.text == text.text


async def test_an_update_holds_from_exactly_its_token(served: Served) -> None:
    """The acknowledgement names the token from which telemetry shows the new temperature."""
    call = await served.open(max_tokens=200, initial_credit=5)
    await call.hear_tokens(5)
    await call.say(update=common_pb2.ParameterUpdate(update_id=1, program=fixed(0.5)))
    await call.say(credit=common_pb2.Credit(tokens=195))
    await call.hear_all()
    [applied] = call.of("applied")
    assert (applied.revision, applied.update_id, applied.token_index) == (1, 1, 5)
    assert applied.source == common_pb2.UPDATE_SOURCE_CLIENT
    assert applied.sampling.program == fixed(0.5)
    assert [token.temperature for token in call.tokens] == [1.0] * 5 + [0.5] * 195
    assert [token.revision for token in call.tokens] == [0] * 5 + [1] * 195
    order = [message.WhichOneof("message") for message in call.seen]
    first = next(i for i, one in enumerate(call.seen) if any(t.revision for t in one.tokens.tokens))
    assert order.index("applied") < first


async def test_a_stale_update_is_dropped(served: Served) -> None:
    """An id that does not grow is not applied and not answered."""
    call = await served.open(max_tokens=20, initial_credit=2)
    await call.hear_tokens(2)
    for update_id, temperature in ((2, 0.5), (2, 0.6), (1, 0.7)):
        update = common_pb2.ParameterUpdate(update_id=update_id, program=fixed(temperature))
        await call.say(update=update)
    await call.say(credit=common_pb2.Credit(tokens=18))
    await call.hear_all()
    assert [applied.update_id for applied in call.of("applied")] == [2]
    assert call.tokens[-1].temperature == 0.5


async def test_an_invalid_update_is_rejected_and_the_stream_goes_on(served: Served) -> None:
    """The field is named for values out of range and for what cannot be read."""
    call = await served.open(max_tokens=20, initial_credit=2)
    await call.hear_tokens(2)
    await call.say(update=common_pb2.ParameterUpdate(update_id=1, program=fixed(9)))
    empty = common_pb2.TemperatureProgram()
    await call.say(update=common_pb2.ParameterUpdate(update_id=2, program=empty))
    await call.say(credit=common_pb2.Credit(tokens=18))
    await call.hear_all()
    rejected = {one.update_id: one for one in call.of("rejected")}
    assert rejected[1].field == "program.fixed.temperature"
    assert "[0.1, 2.0]" in rejected[1].message
    assert rejected[2].field == "program"
    assert {token.temperature for token in call.tokens} == {1.0}
    assert len(call.tokens) == 20


async def test_a_plan_governs_from_the_first_token(served: Served) -> None:
    """Sent as the second message, the plan comes before the first token is drawn."""
    call = await served.open(expects_plan=True, plan_grace_ms=1000)
    sampling = common_pb2.Sampling(program=fixed(0.3))
    plan = common_pb2.DecodingPlan(decision_id="dec-1", sampling=sampling, seed=1, token_budget=6)
    await call.say(plan=plan)
    await call.hear_all()
    [applied] = call.of("applied")
    assert (applied.source, applied.token_index) == (common_pb2.UPDATE_SOURCE_PLAN, 0)
    assert [token.temperature for token in call.tokens] == [pytest.approx(0.3)] * 6


async def test_without_a_plan_the_defaults_decode(served: Served) -> None:
    """When the grace is over the start's own sampling is used."""
    call = await served.open(expects_plan=True, plan_grace_ms=1)
    await call.hear_all()
    assert len(call.tokens) == 8
    assert call.of("applied") == []


async def test_a_plan_that_cannot_be_read_does_not_hold_the_stream(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is rejected with its field and the defaults decode, without waiting out the grace."""
    monkeypatch.setattr(prompt, "MAX_PLAN_GRACE_MS", NEVER_MS)
    call = await served.open(expects_plan=True, plan_grace_ms=NEVER_MS)
    await call.say(plan=common_pb2.DecodingPlan(decision_id="dec-1"))
    await call.hear_all()
    assert call.of("rejected")[0].field == "plan.sampling.program"
    assert len(call.tokens) == 8


async def test_credit_is_back_pressure(served: Served) -> None:
    """Not one token more than the credit is sent, and the engine stands still."""
    call = await served.open(max_tokens=100, initial_credit=10)
    await call.hear_tokens(10)
    steps = served.network.steps
    other = await served.open(max_tokens=1)
    await other.hear_all()
    assert len(call.tokens) == 10
    assert served.network.steps == steps + 1
    await call.say(credit=common_pb2.Credit(tokens=5))
    await call.hear_tokens(15)
    await call.say(cancel=inference_pb2.CancelGeneration())
    await call.hear_all()
    assert len(call.tokens) == 15


async def test_cancel_ends_with_its_reason(served: Served) -> None:
    """`cancel` is answered by an end, not an error."""
    call = await served.open(max_tokens=0)
    await call.hear_tokens(1)
    await call.say(cancel=inference_pb2.CancelGeneration())
    await call.hear_all()
    [end] = call.of("end")
    assert end.finish_reason == common_pb2.FINISH_REASON_CANCELLED
    assert end.usage.completion_tokens == len(call.tokens)
    await eventually(served.is_idle)


async def test_a_cancellation_says_what_was_kept(served: Served) -> None:
    """Tokens that were on their way when the client interrupted are not counted."""
    call = await served.open(max_tokens=0, initial_credit=10)
    await call.hear_tokens(10)
    await call.say(cancel=inference_pb2.CancelGeneration(kept_tokens=4))
    await call.hear_all()
    [end] = call.of("end")
    assert (end.usage.completion_tokens, end.discarded_tokens) == (4, 6)


async def test_stop_strings_and_end(served: Served) -> None:
    """The stop string is not sent; the end of the model's turn has its own reason."""
    plain = await served.open(max_tokens=30)
    await plain.hear_all()
    stop = plain.text[4:6]
    call = await served.open(max_tokens=30, stop=[stop])
    await call.hear_all()
    assert call.text == plain.text[: plain.text.index(stop)]
    assert call.of("end")[0].finish_reason == common_pb2.FINISH_REASON_STOP_STRING
    sampling = common_pb2.Sampling(program=fixed(0), logit_bias={END_ID: 100})
    ended = await served.open(sampling=sampling)
    await ended.hear_all()
    assert ended.of("end")[0].finish_reason == common_pb2.FINISH_REASON_STOP
    assert ended.text == ""


@pytest.mark.parametrize("leave", ["cancel", "drop", "reset"])
async def test_a_client_that_goes_away_frees_its_sequence(served: Served, leave: str) -> None:
    """Cancelling the call, dropping it or losing the connection frees everything."""
    # A channel without interceptors, as any client may have: interceptors hold calls.
    line = Line(served.service.server.port)
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{await line.start()}")
    call = Call(inference_pb2_grpc.InferenceServiceStub(channel).Generate())
    await call.say(start=start_message(max_tokens=0))
    await call.hear_tokens(3)
    if leave == "cancel":
        call.call.cancel()
    elif leave == "drop":
        del call
        gc.collect()
    else:
        line.reset()
    await eventually(served.is_idle, 30)
    await channel.close()
    await line.stop()


def living(kind: type) -> int:
    """Count the objects of one class that are still referenced."""
    gc.collect()
    return sum(type(one) is kind for one in gc.get_objects())


@pytest.mark.slow
async def test_200_abandoned_streams_leave_nothing(served: Served) -> None:
    """No task, no handler, no sequence and no stream object is left of them."""
    tasks, streams = len(asyncio.all_tasks()), living(Stream)
    for _ in range(50):
        calls = [
            await served.open(max_tokens=0, context=common_pb2.RequestContext()) for _ in "abcd"
        ]
        for call in calls:
            await call.hear()
            call.call.cancel()
        await eventually(served.is_idle)
    del calls, call
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
    await eventually(lambda: living(Stream) <= streams)
    assert served.engine.decoder._by_reader == {}
    assert served.engine.decoder._by_request_id == {}


async def test_a_full_queue_is_refused_at_once(served: Served) -> None:
    """The request that has no place gets RESOURCE_EXHAUSTED with a time to retry."""
    served.network.gate.clear()
    calls = [await served.open() for _ in range(6)]
    for call in calls:
        await call.hear()
    refused = await refusal(await served.open())
    assert isinstance(refused, errors.ResourceExhausted)
    assert refused.retry_after == 1.0
    served.network.gate.set()
    for call in calls:
        await call.hear_all()
        assert len(call.tokens) == 8


async def test_deadlines_end_the_call(served: Served) -> None:
    """The call's own deadline and the context's both end it as DEADLINE_EXCEEDED."""
    served.network.gate.clear()
    soon = time.time_ns() // 1_000_000 + 150
    by_context = await served.open(context=common_pb2.RequestContext(deadline_unix_ms=soon))
    await by_context.hear()
    asyncio.get_running_loop().call_later(0.2, served.network.gate.set)
    assert isinstance(await refusal(by_context), errors.DeadlineExceeded)
    late = await served.open(context=common_pb2.RequestContext(deadline_unix_ms=1))
    assert isinstance(await refusal(late), errors.DeadlineExceeded)
    served.network.gate.clear()
    call = served.stub.Generate(timeout=0.1)
    await call.write(inference_pb2.GenerateRequest(start={"prompt": "x", "max_tokens": 0}))
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    served.network.gate.set()
    await eventually(served.is_idle)


async def test_an_engine_failure_is_internal_and_passes(served: Served) -> None:
    """The affected request gets INTERNAL without details; the next one is served."""
    served.network.failing_id = ord("!")
    failed = await refusal(await served.open("oh!"))
    assert isinstance(failed, errors.Internal)
    assert "fake" not in failed.message
    call = await served.open()
    await call.hear_all()
    assert len(call.tokens) == 8


CHAT = common_pb2.ChatInput
MESSAGE = common_pb2.ChatMessage


@pytest.mark.parametrize(
    ("start", "kind", "field"),
    [
        ({"model": "gpt-9"}, errors.NotFound, ""),
        ({"prompt": ""}, errors.InvalidArgument, "start.prompt"),
        ({"prompt": None}, errors.InvalidArgument, "start.input"),
        ({"prompt": "x" * 2048}, errors.InvalidArgument, "start.prompt"),
        ({"prompt": "x" * (1024 * 1024 + 1)}, errors.InvalidArgument, "start.prompt"),
        ({"chat": CHAT()}, errors.InvalidArgument, "start.chat.messages"),
        (
            {"chat": CHAT(messages=[MESSAGE(content="x")])},
            errors.InvalidArgument,
            "start.chat.messages[0].role",
        ),
        ({"tokens": {"token_ids": []}}, errors.InvalidArgument, "start.tokens.token_ids"),
        (
            {"tokens": {"token_ids": [VOCABULARY_SIZE]}},
            errors.InvalidArgument,
            "start.tokens.token_ids",
        ),
        (
            {"sampling": common_pb2.Sampling(program=fixed(2.5))},
            errors.InvalidArgument,
            "start.sampling.program.fixed.temperature",
        ),
        (
            {"sampling": common_pb2.Sampling(guard={"top_p": 0.5})},
            errors.InvalidArgument,
            "start.sampling.program",
        ),
        ({"stop": [""]}, errors.InvalidArgument, "start.stop[0]"),
        ({"stop": ["x"] * 17}, errors.InvalidArgument, "start.stop"),
        ({"candidate_count": 21}, errors.InvalidArgument, "start.candidate_count"),
        ({"plan_grace_ms": 1001}, errors.InvalidArgument, "start.plan_grace_ms"),
        (
            {"context": {"request_id": "no spaces"}},
            errors.InvalidArgument,
            "start.context.request_id",
        ),
        ({"context": {"priority": 99}}, errors.InvalidArgument, "start.context.priority"),
    ],
)
async def test_bad_starts_name_their_field(
    served: Served, start: dict[str, Any], kind: type[errors.MeshError], field: str
) -> None:
    """Each bad start ends the call with its status and field, and the engine stays well."""
    refused = await refusal(await served.open(**start))
    assert type(refused) is kind
    if field:
        assert refused.field == field
        assert field in refused.message
    assert served.is_idle()


@pytest.mark.parametrize(
    ("message", "kind", "field"),
    [
        ({"start": {"prompt": "again"}}, errors.FailedPrecondition, "start"),
        ({"credit": {"tokens": 0}}, errors.InvalidArgument, "credit.tokens"),
        ({"credit": {"tokens": 65537}}, errors.InvalidArgument, "credit.tokens"),
        ({}, errors.InvalidArgument, "message"),
    ],
)
async def test_messages_out_of_order_end_the_call(
    served: Served, message: dict[str, Any], kind: type[errors.MeshError], field: str
) -> None:
    """What may not be said in a stream ends it and frees its sequence."""
    call = await served.open(max_tokens=0, initial_credit=1)
    await call.hear_tokens(1)
    await call.say(**message)
    refused = await refusal(call)
    assert (type(refused), refused.field) == (kind, field)
    await eventually(served.is_idle)


async def test_a_second_plan_ends_the_call(served: Served) -> None:
    """A plan may be sent once; later changes are updates."""
    call = await served.open(max_tokens=0, initial_credit=1)
    plan = common_pb2.DecodingPlan(sampling=common_pb2.Sampling(program=fixed(0.3)))
    await call.say(plan=plan)
    await call.say(plan=plan)
    assert isinstance(await refusal(call), errors.FailedPrecondition)


@pytest.mark.parametrize("first", [{"credit": {"tokens": 1}}, {}, None])
async def test_start_must_come_first(served: Served, first: dict[str, Any] | None) -> None:
    """Anything before start, or nothing at all, is FAILED_PRECONDITION."""
    call = served.stub.Generate()
    if first is not None:
        await call.write(inference_pb2.GenerateRequest(**first))
    await call.done_writing()
    with pytest.raises(errors.FailedPrecondition), translated():
        async for _ in call:
            pass


async def test_describe_model(served: Served) -> None:
    """The description is that of the model and the engine's limits."""
    described = await served.stub.DescribeModel(inference_pb2.DescribeModelRequest())
    assert (described.model, described.architecture) == ("fake", "fake")
    assert (described.max_running, described.max_waiting, described.page_size) == (4, 2, 16)
    assert list(described.compute_paths) == [
        common_pb2.COMPUTE_PATH_LIGHT,
        common_pb2.COMPUTE_PATH_STANDARD,
    ]


async def test_tokenize(served: Served) -> None:
    """Text and conversations give the ids that Generate would use, with their pieces."""
    text = await served.stub.Tokenize(inference_pb2.TokenizeRequest(text="hé"))
    assert bytes(text.token_ids).decode() == "hé"
    assert list(text.pieces) == ["h", "\ufffd", "\ufffd"]
    chat = CHAT(messages=[MESSAGE(role=common_pb2.ROLE_USER, content="a")])
    tokens = await served.stub.Tokenize(inference_pb2.TokenizeRequest(chat=chat))
    assert list(tokens.token_ids) == [258, 97, END_ID, 259]
    with pytest.raises(errors.InvalidArgument), translated():
        await served.stub.Tokenize(inference_pb2.TokenizeRequest())


async def test_score_agrees_with_decoding(served: Served) -> None:
    """The log-probability of a decoded token is the same when it is scored."""
    call = await served.open("ab", max_tokens=3)
    await call.hear_all()
    ids = [*b"ab", *(token.token_id for token in call.tokens)]
    scored = await served.stub.Score(inference_pb2.ScoreRequest(tokens={"token_ids": ids}))
    decoded = [token.model_log_probability for token in call.tokens]
    assert list(scored.log_probabilities)[1:] == pytest.approx(decoded, abs=1e-5)
    assert list(scored.entropies)[1:] == pytest.approx(
        [token.entropy for token in call.tokens], abs=1e-5
    )
    with pytest.raises(errors.InvalidArgument) as refused, translated():
        await served.stub.Score(inference_pb2.ScoreRequest(text="x"))
    assert refused.value.field == "text"


async def test_get_load(served: Served) -> None:
    """The gauges count what is open, and return to zero."""
    call = await served.open(max_tokens=0, initial_credit=1)
    await call.hear_tokens(1)
    answer = await served.stub.GetLoad(inference_pb2.GetLoadRequest())
    load = answer.load
    assert (load.running, load.open_streams, load.kv_pages_total) == (1, 1, 512)
    assert load.kv_pages_used == 1
    call.call.cancel()
    await eventually(served.is_idle)


CONSTRAINED = [
    ("no kind", {}, "start.constraint", "json_object, json_schema, regex, choice, lark"),
    ("bad schema", {"json_schema": '{"type": 1}'}, "start.constraint.json_schema", "compile"),
    ("bad regex", {"regex": "("}, "start.constraint.regex", "compile"),
    ("no options", {"choice": {}}, "start.constraint.choice.options", "1 to 256"),
]


@pytest.mark.parametrize(
    ("constraint", "field", "told"),
    [case[1:] for case in CONSTRAINED],
    ids=[case[0] for case in CONSTRAINED],
)
async def test_a_constraint_that_does_not_compile_is_refused(served, constraint, field, told):
    """INVALID_ARGUMENT names the member and says what is wrong with it."""
    call = await served.open(constraint=common_pb2.OutputConstraint(**constraint))
    refused = await refusal(call)
    assert isinstance(refused, errors.InvalidArgument)
    assert refused.field == field
    assert told in refused.message
    await eventually(served.is_idle, what="nothing left of the request")


async def test_a_constrained_output_ends_with_its_language(served):
    """Over the wire the output fits the constraint and ends with STOP."""
    constraint = common_pb2.OutputConstraint(regex="[0-9]{4}-[0-9]{2}")
    call = await served.open(constraint=constraint, max_tokens=50)
    await call.hear_all()
    assert re.fullmatch("[0-9]{4}-[0-9]{2}", call.text)
    assert call.of("end")[0].finish_reason == common_pb2.FINISH_REASON_STOP
