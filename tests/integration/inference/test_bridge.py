"""The contract of inference kept by a bridge: real gRPC in front, a scripted server behind."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys

import fake_vllm
import httpx
import pytest
from fake_upstream import FakeUpstream
from fake_vllm import FakeVllm

from services.inference.bridge.bridge import Bridge
from services.inference.bridge.config import BridgeConfig
from services.inference.bridge.dialect import DIALECTS
from services.inference.bridge.rest import RestUpstream
from services.inference.bridge.server import BridgeService, add_to
from services.inference.bridge.service import upstream_of
from services.inference.bridge.vllm import starting
from services.inference.bridge.vllm.upstream import VllmUpstream
from thermesh import errors, rpc
from thermesh.clock import SystemClock
from thermesh.testing import eventually
from thermesh.v1 import common_pb2, inference_pb2, inference_pb2_grpc

from .conftest import Call, fixed, start_message

pytestmark = pytest.mark.timeout(120)


class Wire(httpx.AsyncBaseTransport):
    """Carries requests to the fake server as they come, and tells it when a caller leaves.

    `httpx.ASGITransport` would wait for the whole answer first.
    """

    def __init__(self, application):
        self.application = application

    async def handle_async_request(self, request):
        body, head = await request.aread(), asyncio.get_running_loop().create_future()
        parts = asyncio.Queue(maxsize=1)

        async def receive():
            return {"type": "http.request", "body": body}

        async def send(message):
            if message["type"] == "http.response.start":
                head.set_result(message)
            else:
                await parts.put(message)

        headers = [(name.lower(), value) for name, value in request.headers.raw]
        scope = {"path": request.url.path, "headers": headers}
        task = asyncio.create_task(self.application(scope, receive, send))
        start = await head
        return httpx.Response(start["status"], headers=start["headers"], stream=Answer(task, parts))


class Answer(httpx.AsyncByteStream):
    """The body of one answer; closing it cancels who sends it."""

    def __init__(self, task, parts):
        self.task, self.parts = task, parts

    async def __aiter__(self):
        while True:
            part = await self.parts.get()
            yield part["body"]
            if not part.get("more_body"):
                return

    async def aclose(self):
        self.task.cancel()
        await asyncio.wait([self.task])


class Bridged:
    """A running bridge: `server` behind, `stub` in front, `outcomes` it told of."""

    def __init__(self, server, upstream):
        self.server = server
        self.outcomes = []
        self.upstream = upstream
        self.bridge = Bridge(
            self.upstream, SystemClock(), max_requests=2, account=self.outcomes.append
        )
        self.grpc = rpc.Server("test", "127.0.0.1", 0, 0.1)
        add_to(self.grpc, BridgeService(self.bridge))

    async def start(self):
        """Serve."""
        port = await self.grpc.start()
        self.channel = rpc.connect(f"127.0.0.1:{port}")
        self.stub = inference_pb2_grpc.InferenceServiceStub(self.channel)

    async def stop(self):
        """End everything."""
        await self.channel.close()
        await self.grpc.drain()
        await self.upstream.close()

    async def open(self, **start):
        """Open a call with a start message."""
        call = Call(self.stub.Generate())
        await call.say(start=start_message(**start))
        return call

    def is_idle(self):
        """Whether nothing of any request is left."""
        load = self.bridge.load()
        return not (load.running or load.open_streams)


def over_rest():
    """A server that speaks like vLLM's, and the bridge's end of it."""
    server = FakeUpstream()
    wire = Wire(server)
    return server, RestUpstream("http://behind/v1", DIALECTS["vllm"], transport=wire)


def in_process():
    """vLLM's own engine, and the bridge's end of it."""
    engine = FakeVllm()
    return engine, VllmUpstream(engine, fake_vllm.parameters, "behind", 4096)


@contextlib.asynccontextmanager
async def bridging(make):
    """A running bridge to what `make` gives."""
    made = Bridged(*make())
    await made.start()
    yield made
    made.server.gate.set()
    await made.stop()


@pytest.fixture(params=[over_rest, in_process], ids=lambda make: make.__name__)
async def bridged(request):
    """A bridge to vLLM, over REST and in this process: one contract."""
    async with bridging(request.param) as made:
        yield made


def plan(temperature=0.3, **more):
    """A plan of the controller."""
    sampling = common_pb2.Sampling(
        program=fixed(temperature), guard=common_pb2.Guard(top_n_sigma=1.0, min_p=0.1)
    )
    return common_pb2.DecodingPlan(decision_id="dec-" + "0" * 32, sampling=sampling, seed=5, **more)


async def error_of(call):
    """The error that a call ends with."""
    with pytest.raises(errors.MeshError) as refused, rpc.translated():
        await call.hear_all()
    return refused.value


async def test_a_request_streams_to_its_end(bridged):
    """Accepted, tokens, end with the server's own count; nothing stays behind."""
    call = await bridged.open(max_tokens=8, stop=["\n"])
    messages = await call.hear_all()
    [end] = call.of("end")
    [(_, body)] = bridged.server.asked
    assert [message.sequence_number for message in messages] == list(range(1, len(messages) + 1))
    assert call.text == "one two three"
    assert end.finish_reason == common_pb2.FINISH_REASON_STOP
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (9, 3)
    assert (body["max_tokens"], body["seed"]) == (8, 7)
    assert body["stop"] == ["\n"]
    await eventually(bridged.is_idle)


async def test_the_plan_decides_how_the_server_decodes(bridged):
    """The bridge waits for the plan, uses what the server can do of it, and says what that was."""
    call = await bridged.open(expects_plan=True, plan_grace_ms=1000)
    await call.say(plan=plan(token_budget=6))
    await call.hear_all()
    [applied] = call.of("applied")
    [(_, body)] = bridged.server.asked
    assert (body["temperature"], body["min_p"], body["max_tokens"]) == (0.3, 0.1, 6)
    assert "top_n_sigma" not in body
    assert applied.source == common_pb2.UPDATE_SOURCE_PLAN
    assert applied.sampling.guard == common_pb2.Guard(min_p=0.1)
    assert {round(token.temperature, 6) for token in call.tokens} == {0.3}
    await eventually(lambda: bridged.outcomes)
    [outcome] = bridged.outcomes
    assert outcome.plan.decision_id == "dec-" + "0" * 32
    assert outcome.temperatures == (0.3, 0.3, 0.3)


async def test_without_a_plan_in_time_the_request_goes_on_as_it_is(bridged):
    """Decoding never waits for the mesh; a plan that comes later is refused by name."""
    bridged.server.hold_after = 1
    call = await bridged.open(expects_plan=True, plan_grace_ms=1)
    await call.hear_tokens(1)
    await call.say(plan=plan())
    while not call.of("rejected"):
        await call.hear()
    bridged.server.gate.set()
    await call.hear_all()
    assert call.of("rejected")[0].field == "plan"
    assert bridged.server.asked[0][1]["temperature"] == 1.0
    assert call.text == "one two three"


async def test_a_running_request_takes_a_budget_and_refuses_the_rest(bridged):
    """The bridge can end a request itself; temperature belongs to the server."""
    bridged.server.hold_after = 1
    call = await bridged.open()
    await call.hear_tokens(1)
    warmer = common_pb2.ParameterUpdate(update_id=1, program=fixed(1.5))
    await call.say(update=warmer)
    await call.say(update=common_pb2.ParameterUpdate(update_id=2, token_budget=2))
    while not call.of("applied"):
        await call.hear()
    bridged.server.gate.set()
    await call.hear_all()
    assert [(one.update_id, one.field) for one in call.of("rejected")] == [(1, "program")]
    assert [one.update_id for one in call.of("applied")] == [2]
    assert call.text == "one two"
    assert call.of("end")[0].finish_reason == common_pb2.FINISH_REASON_LENGTH


async def test_an_abandoned_request_ends_behind_too(bridged):
    """Client gone: the server's connection is closed and every place is free again."""
    bridged.server.hold_after = 1
    call = await bridged.open()
    await call.hear_tokens(1)
    call.call.cancel()
    await eventually(bridged.server.abandoned.is_set)
    await eventually(bridged.is_idle)


async def test_a_cancelled_request_is_told_its_end(bridged):
    """`cancel` gives the end with its reason and the account so far."""
    bridged.server.hold_after = 1
    call = await bridged.open()
    await call.hear_tokens(1)
    await call.say(cancel=inference_pb2.CancelGeneration())
    await call.hear_all()
    [end] = call.of("end")
    assert end.finish_reason == common_pb2.FINISH_REASON_CANCELLED
    assert end.usage.completion_tokens == 1
    assert bridged.server.abandoned.is_set()


async def test_a_cancellation_says_what_was_kept(bridged):
    """A token that was on its way when the client interrupted is not counted."""
    bridged.server.hold_after = 2
    call = await bridged.open()
    await call.hear_tokens(2)
    await call.say(cancel=inference_pb2.CancelGeneration(kept_tokens=1))
    await call.hear_all()
    [end] = call.of("end")
    assert (end.usage.completion_tokens, end.discarded_tokens) == (1, 1)


async def test_a_deadline_ends_it_in_mid_answer(bridged):
    """The server never goes on; the client hears why it got no more."""
    bridged.server.hold_after = 1
    clock = SystemClock()
    context = common_pb2.RequestContext(deadline_unix_ms=clock.unix_ms() + 300)
    call = await bridged.open(context=context)
    await call.hear_all()
    assert call.of("end")[0].finish_reason == common_pb2.FINISH_REASON_DEADLINE
    await eventually(bridged.is_idle)


async def test_credit_holds_the_server_back(bridged):
    """Without credit nothing is read from behind, so nothing piles up."""
    bridged.server.say(*(f" {number}" for number in range(100)))
    call = await bridged.open(initial_credit=2, max_tokens=200)
    await call.hear_tokens(2)
    stalled_at = bridged.server.sent
    await call.say(credit=common_pb2.Credit(tokens=200))
    await call.hear_all()
    assert stalled_at < 20
    assert len(call.tokens) == 100


async def test_what_it_cannot_do_is_declared_and_refused(bridged):
    """DescribeModel says it before; errors name the field."""
    described = await bridged.stub.DescribeModel(inference_pb2.DescribeModelRequest())
    call = await bridged.open(constraint=common_pb2.OutputConstraint(lark="start: x"))
    refused = await error_of(call)
    unknown = await error_of(await bridged.open(model="other"))
    capabilities = described.capabilities
    assert (described.model, described.context_length) == ("behind", 4096)
    assert list(capabilities.programs) == [common_pb2.PROGRAM_KIND_FIXED]
    assert common_pb2.GUARD_MEMBER_TOP_N_SIGMA not in capabilities.guards
    assert not capabilities.can_update
    assert refused.field == "start.constraint.lark"
    assert isinstance(unknown, errors.NotFound)
    with pytest.raises(errors.FailedPrecondition), rpc.translated():
        await bridged.stub.Tokenize(inference_pb2.TokenizeRequest(text="a"))


async def test_more_requests_than_it_may_have_are_refused_at_once(bridged):
    """A third request gets RESOURCE_EXHAUSTED with a time to retry, while two run."""
    bridged.server.hold_after = 1
    calls = [await bridged.open() for _ in range(2)]
    for call in calls:
        await call.hear_tokens(1)
    refused = await error_of(await bridged.open())
    assert isinstance(refused, errors.ResourceExhausted)
    assert refused.retry_after == 1.0
    bridged.server.gate.set()
    for call in calls:
        await call.hear_all()
    await eventually(bridged.is_idle)


async def test_a_refusal_from_behind_reaches_the_client(bridged):
    """What the server objects to is said in its own words, and accounted for."""
    await bridged.bridge.served()
    bridged.server.refuse("top_p must be in (0, 1]")
    refused = await error_of(await bridged.open())
    assert isinstance(refused, errors.InvalidArgument)
    assert "top_p must be in (0, 1]" in refused.message
    assert [outcome.finish_reason.value for outcome in bridged.outcomes] == ["error"]


async def test_a_failure_nobody_foresaw_is_logged_and_not_told(bridged, caplog):
    """The client hears that it failed; why is in the log alone."""
    await bridged.bridge.served()

    def broken(completion):
        raise ZeroDivisionError("secret of the inside")

    bridged.upstream.stream = broken
    failed = await error_of(await bridged.open())
    assert isinstance(failed, errors.Internal)
    assert "secret" not in failed.message
    assert "secret of the inside" in caplog.text


def test_a_bridge_runs_without_torch():
    """An image that only bridges carries no engine."""
    program = "import sys, services.inference.bridge.service; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


async def test_vllm_in_this_process_says_more_than_over_rest():
    """Token ids, log-probabilities and candidates, and languages that OpenAI has no words for."""
    async with bridging(in_process) as bridged:
        turn = common_pb2.ChatMessage(role=common_pb2.ROLE_USER, content="hi")
        call = await bridged.open(
            chat=common_pb2.ChatInput(messages=[turn]),
            candidate_count=1,
            constraint=common_pb2.OutputConstraint(regex="[a-z ]+"),
            sampling=common_pb2.Sampling(program=fixed(0.7), logit_bias={5: -100.0}),
        )
        await call.hear_all()
        [(prompt, fields)] = bridged.server.asked
        described = await bridged.stub.DescribeModel(inference_pb2.DescribeModelRequest())
        assert prompt == {"prompt_token_ids": [ord("h"), ord("i")]}
        assert fields["structured_outputs"] == {"regex": "[a-z ]+"}
        assert (fields["logit_bias"], fields["logprobs"]) == ({5: -100.0}, 1)
        assert [token.token_id for token in call.tokens] == [100, 101, 102]
        assert {round(token.model_log_probability, 6) for token in call.tokens} == {-0.5}
        assert [one.token_id for one in call.tokens[0].candidates] == [100]
        assert described.kernels == "bridge:vllm-in-process"
    assert bridged.server.is_shut_down


async def test_several_tokens_at_once_keep_their_count():
    """A client that was slow gets what piled up in one piece; each token still counts."""
    async with bridging(in_process) as bridged:
        outputs = bridged.server._output(0, "one two", True)
        outputs.outputs[0].token_ids = [100, 101]
        outputs.outputs[0].logprobs = None
        bridged.server._output = lambda *_: outputs
        bridged.server.say("one two")
        call = await bridged.open()
        await call.hear_all()
        assert call.text == "one two"
        assert [token.index for token in call.tokens] == [0, 1]


async def test_a_dead_engine_is_unavailable():
    """Health follows it, and a request is told so without its inner troubles."""
    async with bridging(in_process) as bridged:
        bridged.server.failure = RuntimeError("secret of the inside")
        with pytest.raises(errors.Unavailable):
            await bridged.upstream.models()
        bridged.server.failure, bridged.server.refusal = None, RuntimeError("secret")
        failed = await error_of(await bridged.open())
        assert isinstance(failed, errors.Unavailable)
        assert "secret" not in failed.message


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"vllm_model": "m"}, "pip install vllm"),
        ({"vllm_model": "m", "url": "http://x/v1"}, "are both set"),
    ],
)
def test_what_cannot_be_started_says_what_to_do(settings, says, monkeypatch):
    """One line names the setting."""
    monkeypatch.setattr(starting, "is_installed", lambda: False)
    with pytest.raises(errors.FailedPrecondition, match=says):
        upstream_of(BridgeConfig(**settings))


def test_a_broken_installation_is_told_in_one_line(monkeypatch, tmp_path):
    """vllm is there but cannot be imported: the reason, and no traceback."""
    package = tmp_path / "vllm"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('built for another torch')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("VLLM_WORKER_MULTIPROC_METHOD", raising=False)
    with pytest.raises(errors.FailedPrecondition, match="built for another torch"):
        upstream_of(BridgeConfig(vllm_model="m"))
