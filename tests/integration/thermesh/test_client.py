"""MeshClient against a real gRPC server that plays the gateway."""

import asyncio
import pathlib
import runpy
import sys

import pytest

from thermesh import rpc
from thermesh.cli.__main__ import main
from thermesh.client import (
    Accepted,
    Applied,
    End,
    MeshClient,
    Options,
    Plan,
    Rejected,
    Tokens,
)
from thermesh.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from thermesh.events import Dynatemp, Edt, Fixed, Guard, Penalties, Residual
from thermesh.testing import eventually
from thermesh.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    common_pb2,
    controller_pb2,
    controller_pb2_grpc,
    feedback_pb2,
    feedback_pb2_grpc,
)

PROGRAMS = [Fixed(0.5), Edt(0.9, 1.0), Dynatemp(0.7, 0.2, 2.0), Residual(0.7, -0.5, 1.5, 0.2)]
EXAMPLES = pathlib.Path(__file__).resolve().parents[3] / "examples"
FIXED = common_pb2.TemperatureProgram(fixed=common_pb2.FixedProgram(temperature=0.5))


class Gateway(
    chat_pb2_grpc.ChatServiceServicer,
    feedback_pb2_grpc.FeedbackServiceServicer,
    controller_pb2_grpc.ControllerServiceServicer,
):
    """Plays one scripted answer, and remembers what it was told."""

    def __init__(self):
        self.starts, self.received, self.metadata = [], [], []
        self.open_streams = 0
        self.endless = False
        self.failure = None
        self.failures_left = None

    async def Converse(self, requests, context):
        self.open_streams += 1
        try:
            self.metadata.append(dict(context.invocation_metadata()))
            self.starts.append((await anext(requests)).start)
            if self.failure and self.failures_left != 0:
                self.failures_left = (self.failures_left or 0) - 1
                raise self.failure
            async for response in self.answer(requests):
                yield response
        finally:
            self.open_streams -= 1

    async def answer(self, requests):
        def say(**message):
            return chat_pb2.ConverseResponse(request_id="req-1", **message)

        yield say(accepted=chat_pb2.ConversationAccepted(model="tiny", prompt_tokens=3))
        yield say(plan=plan())
        yield say(tokens=chunk(0, "Par"))
        while self.endless:
            yield say(tokens=chunk(1, "."))
            await asyncio.sleep(0)
        async for request in requests:
            self.received.append(request)
            if request.HasField("update"):
                yield self.judge(say, request.update)
            else:
                break
        yield say(tokens=chunk(1, "is"))
        yield say(end=end())

    def judge(self, say, update):
        if update.program.fixed.temperature > 2:
            rejected = common_pb2.UpdateRejected(
                update_id=update.update_id, field="program.fixed.temperature", message="at most 2"
            )
            return say(rejected=rejected)
        applied = common_pb2.ParametersApplied(
            revision=2,
            token_index=1,
            source=common_pb2.UPDATE_SOURCE_CLIENT,
            update_id=update.update_id,
            sampling=common_pb2.Sampling(program=update.program),
        )
        return say(applied=applied)

    async def ListModels(self, request, context):
        return chat_pb2.ListModelsResponse(models=[chat_pb2.Model(id="tiny", context_length=64)])

    async def SubmitFeedback(self, request, context):
        self.received.append(request)
        if request.feedback_id == "taken":
            raise AlreadyExists("the id is taken", field="feedback_id")
        return feedback_pb2.SubmitFeedbackResponse(state=feedback_pb2.FEEDBACK_STATE_PENDING)

    async def GetFeedback(self, request, context):
        return feedback_pb2.GetFeedbackResponse(
            state=feedback_pb2.FEEDBACK_STATE_APPLIED, applied_version=4
        )

    async def ListPolicies(self, request, context):
        summary = controller_pb2.PolicySummary(version=2, kind="squashed_gaussian", live=True)
        modes = {"*": common_pb2.MODE_APPLY}
        return controller_pb2.ListPoliciesResponse(policies=[summary], modes=modes)

    async def SetMode(self, request, context):
        return controller_pb2.SetModeResponse(modes={request.route: request.mode})

    async def PromotePolicy(self, request, context):
        policy = controller_pb2.PolicySummary(version=request.version + 10)
        return controller_pb2.PromotePolicyResponse(policy=policy)


def plan():
    """A plan of the policy."""
    return common_pb2.DecodingPlan(
        decision_id="dec-1",
        policy_version=3,
        source=common_pb2.PLAN_SOURCE_POLICY,
        sampling=common_pb2.Sampling(program=FIXED, guard=common_pb2.Guard(min_p=0.05)),
        task=common_pb2.TASK_CHAT,
        scenario="dialogue",
    )


def chunk(index, text):
    """One token."""
    candidate = common_pb2.TokenCandidate(token_id=1, text=text, log_probability=-0.1)
    token = common_pb2.Token(index=index, text=text, temperature=0.5, candidates=[candidate])
    return common_pb2.TokenChunk(tokens=[token])


def end():
    """The end of the scripted answer."""
    generation = common_pb2.GenerationEnd(
        finish_reason=common_pb2.FINISH_REASON_STOP,
        usage=common_pb2.Usage(prompt_tokens=3, completion_tokens=2),
        mean_temperature=0.5,
    )
    return chat_pb2.ConversationEnd(generation=generation, text="Paris")


@pytest.fixture
async def gateway():
    """A served Gateway and its address."""
    servicer = Gateway()
    server = rpc.Server("gateway", "127.0.0.1", 0, grace_seconds=0.1)
    server.add(chat_pb2_grpc.add_ChatServiceServicer_to_server, servicer, "thermesh.v1.ChatService")
    server.add(
        feedback_pb2_grpc.add_FeedbackServiceServicer_to_server,
        servicer,
        "thermesh.v1.FeedbackService",
    )
    server.add(
        controller_pb2_grpc.add_ControllerServiceServicer_to_server,
        servicer,
        "thermesh.v1.ControllerService",
    )
    servicer.target = f"127.0.0.1:{await server.start()}"
    yield servicer
    await server.drain()


@pytest.fixture
async def mesh(gateway):
    """A client of it."""
    async with MeshClient(gateway.target, api_key="key", tenant="acme", timeout=30) as client:
        yield client


async def test_a_conversation_yields_typed_events(mesh, gateway):
    """Accepted, plan, tokens and end come as values, in order."""
    conversation = mesh.converse("What is the capital of France?")
    events = []
    async for event in conversation:
        events.append(event)
        if isinstance(event, Plan):
            await conversation.credit(5)
    accepted, decided, first, second, last = events
    assert accepted == Accepted("req-1", "tiny", 3)
    assert (decided.source, decided.temperature, decided.task) == ("policy", 0.5, "chat")
    assert decided.sampling.guard.top_k is None
    assert isinstance(first, Tokens)
    assert first.text + second.text == "Paris"
    assert isinstance(last, End)
    assert (last.finish_reason, last.text, last.usage.completion_tokens) == ("stop", "Paris", 2)


async def test_what_the_user_sets_is_sent_and_no_more(mesh, gateway):
    """A temperature left out stays absent on the wire; key, tenant and deadline travel."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    async for _ in mesh.converse(messages, max_tokens=5):
        break
    async for _ in mesh.converse("Hi", Options(temperature=0.0, seed=7)):
        break
    adaptive, pinned = gateway.starts
    assert [turn.role for turn in adaptive.messages] == [
        common_pb2.ROLE_SYSTEM,
        common_pb2.ROLE_USER,
    ]
    assert not adaptive.constraints.HasField("temperature")
    assert not adaptive.constraints.HasField("guard")
    assert pinned.constraints.HasField("temperature")
    assert pinned.constraints.seed == 7
    assert adaptive.context.tenant == "acme"
    assert adaptive.context.deadline_unix_ms > 0
    assert gateway.metadata[0]["authorization"] == "Bearer key"


async def test_an_update_is_acknowledged_or_rejected(mesh, gateway):
    """Updates have growing ids, and come back with them."""
    conversation = mesh.converse("Hi")
    answers = []
    async for event in conversation:
        if isinstance(event, Plan):
            assert await conversation.update(program=Fixed(1.2)) == 1
            assert await conversation.update(program=Fixed(9.0)) == 2
            await conversation.interrupt(heard_tokens=1)
        if isinstance(event, Applied | Rejected):
            answers.append(event)
    applied, rejected = answers
    assert (applied.update_id, applied.source, applied.token_index) == (1, "client", 1)
    assert applied.sampling.program == Fixed(1.2)
    assert (rejected.update_id, rejected.field) == (2, "program.fixed.temperature")
    assert gateway.received[-1].interrupt.heard_tokens == 1


@pytest.mark.parametrize("program", PROGRAMS)
async def test_every_program_survives_the_wire(mesh, gateway, program):
    """A program sent as an update comes back the same."""
    conversation = mesh.converse("Hi")
    async for event in conversation:
        if isinstance(event, Plan):
            await conversation.update(
                program=program, guard=Guard(top_k=5), penalties=Penalties(1.1)
            )
            await conversation.cancel()
        if isinstance(event, Applied):
            assert event.sampling.program == program
    update = gateway.received[0].update
    assert update.guard.top_k == 5
    assert not update.guard.HasField("top_p")
    assert not update.HasField("token_budget")


async def test_leaving_the_loop_cancels_the_call(mesh, gateway):
    """A reader that goes away leaves no stream open on the server."""
    gateway.endless = True
    async for event in mesh.converse("Hi"):
        if isinstance(event, Tokens):
            break
    await eventually(lambda: gateway.open_streams == 0)


async def test_closing_the_client_cancels_what_is_open(gateway):
    """Leaving the client's block ends conversations that are still held."""
    gateway.endless = True
    async with MeshClient(gateway.target) as mesh:
        events = aiter(mesh.converse("Hi"))
        await anext(events)
        assert gateway.open_streams == 1
    await eventually(lambda: gateway.open_streams == 0)
    await events.aclose()


async def test_cancelling_the_task_is_a_cancellation(mesh, gateway):
    """CancelledError passes through, and the call ends."""
    gateway.endless = True
    begun = asyncio.Event()

    async def read():
        async for _ in mesh.converse("Hi"):
            begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: gateway.open_streams == 0)


async def test_errors_are_ours(mesh, gateway):
    """A refused start raises the MeshError with its field."""
    gateway.failure = InvalidArgument("at most 2.0", field="constraints.temperature")
    with pytest.raises(InvalidArgument, match=r"at most 2\.0") as caught:
        async for _ in mesh.converse("Hi"):
            pass
    assert caught.value.field == "constraints.temperature"


@pytest.mark.parametrize(
    "failure", [Unavailable("away", retry_after=0.0), ResourceExhausted("full", retry_after=0.0)]
)
async def test_what_failed_before_its_first_event_is_tried_again(mesh, gateway, failure):
    """Twice by default, and with the words that were said meanwhile."""
    gateway.failure, gateway.failures_left = failure, 2
    conversation = mesh.converse("Hi")
    async for event in conversation:
        if isinstance(event, Plan):
            await conversation.cancel()
    assert len(gateway.starts) == 3
    assert gateway.starts[0] == gateway.starts[2]


async def test_patience_ends(mesh, gateway):
    """The third failure is raised; a mistake is raised at once."""
    gateway.failure = Unavailable("away", retry_after=0.0)
    with pytest.raises(Unavailable, match="away"):
        await anext(aiter(mesh.converse("Hi")))
    assert len(gateway.starts) == 3
    gateway.failure = ResourceExhausted("too large to ever fit")
    with pytest.raises(ResourceExhausted):
        await anext(aiter(mesh.converse("Hi")))
    assert len(gateway.starts) == 4


async def test_a_stream_that_began_is_not_tried_again(mesh, gateway, monkeypatch):
    """Its tokens may have been shown."""
    monkeypatch.setattr(Gateway, "answer", broken)
    with pytest.raises(Unavailable, match="gone"):
        async for _ in mesh.converse("Hi"):
            pass
    assert len(gateway.starts) == 1


async def broken(self, requests):
    """An answer that fails after its first token."""
    yield chat_pb2.ConverseResponse(tokens=chunk(0, "Par"))
    raise Unavailable("gone", retry_after=0.0)


async def test_an_absent_mesh_is_unavailable():
    """Nobody listening is Unavailable, at once."""
    async with MeshClient("127.0.0.1:1", retries=0) as mesh:
        with pytest.raises(Unavailable):
            await mesh.models()
        with pytest.raises(Unavailable):
            async for _ in mesh.converse("Hi"):
                pass


async def test_steering_at_the_wrong_time_is_refused(mesh):
    """Before the first and after the last event there is nothing to steer."""
    conversation = mesh.converse("Hi")
    with pytest.raises(FailedPrecondition, match="begins"):
        await conversation.update(program=Fixed(1.0))
    async for event in conversation:
        if isinstance(event, Plan):
            await conversation.cancel()
    with pytest.raises(FailedPrecondition, match="over"):
        await conversation.update(program=Fixed(1.0))
    with pytest.raises(FailedPrecondition, match="only once"):
        await anext(aiter(conversation))


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([{"role": "robot", "content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0]"),
    ],
)
async def test_bad_turns_are_refused_before_anything_is_sent(mesh, gateway, messages, field):
    """An unknown role or a missing content names the turn."""
    with pytest.raises(InvalidArgument) as caught:
        mesh.converse(messages)
    assert caught.value.field == field
    assert gateway.starts == []


async def test_models_and_feedback(mesh, gateway):
    """The unary calls return values; ids are made where none is given."""
    [model] = await mesh.models()
    assert (model.id, model.context_length) == ("tiny", 64)
    receipt = await mesh.feedback("dec-1", 1.0, signal="verifier")
    assert (receipt.state, receipt.duplicate) == ("pending", False)
    assert receipt.feedback_id == gateway.received[-1].feedback_id
    state = await mesh.feedback_state(receipt.feedback_id)
    assert (state.state, state.applied_version) == ("applied", 4)
    with pytest.raises(AlreadyExists, match="taken"):
        await mesh.feedback("dec-1", 1.0, feedback_id="taken")
    with pytest.raises(InvalidArgument, match="verifier"):
        await mesh.feedback("dec-1", 1.0, signal="applause")


async def command(*arguments):
    """Run a command of the command line beside the server of this test."""
    return await asyncio.to_thread(main, list(arguments))


async def test_the_terminal_prints_plan_and_answer(gateway, capsys, monkeypatch):
    """`thermesh chat MESSAGE` prints the plan, the tokens and how it ended."""
    monkeypatch.setattr(Gateway, "answer", unsteered)
    assert await command("chat", "Hello", "--server", gateway.target) == 0
    printed = capsys.readouterr().out
    assert "plan: T 0.50 by policy" in printed
    assert "Paris" in printed
    assert "stop: 2 tokens" in printed


@pytest.mark.parametrize("name", ["client", "steer", "blocking"])
async def test_the_examples_run(gateway, capsys, monkeypatch, name):
    """What the examples show is what the client does."""
    monkeypatch.setattr(sys, "argv", [name, gateway.target])
    monkeypatch.setattr(Gateway, "answer", steered if name == "steer" else unsteered)
    await asyncio.to_thread(runpy.run_path, str(EXAMPLES / f"{name}.py"))
    expected = {
        "client": "chosen by policy\nParis",
        "steer": "holds from token 1 on",
        "blocking": "Paris\nfeedback fb-",
    }
    assert expected[name] in capsys.readouterr().out


async def steered(self, requests):
    """An answer that takes one update."""
    yield chat_pb2.ConverseResponse(tokens=chunk(0, "Par"))
    update = (await anext(requests)).update
    yield self.judge(chat_pb2.ConverseResponse, update)
    yield chat_pb2.ConverseResponse(end=end())


async def unsteered(self, requests):
    """An answer that waits for nothing."""
    yield chat_pb2.ConverseResponse(plan=plan())
    yield chat_pb2.ConverseResponse(tokens=chunk(0, "Par"))
    yield chat_pb2.ConverseResponse(tokens=chunk(1, "is"))
    yield chat_pb2.ConverseResponse(end=end())


async def test_the_policy_command_reads_and_changes(gateway, capsys):
    """List, promote and mode speak to the controller and print what is now so."""
    assert await command("policy", "--controller", gateway.target, "list") == 0
    assert await command("policy", "--controller", gateway.target, "promote", "2") == 0
    assert await command("policy", "--controller", gateway.target, "mode", "*", "observe") == 0
    printed = capsys.readouterr().out
    assert "squashed_gaussian" in printed
    assert "modes: * apply" in printed
    assert "version 12 is live" in printed
    assert "modes: * observe" in printed
