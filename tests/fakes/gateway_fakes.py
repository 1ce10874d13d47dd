"""The neighbours of the gateway as scripts: slow, failing, dead, over real gRPC.

Each fake is a real servicer on a real port, so that deadlines, cancellation and
errors take the way they take in the mesh. A test sets the members before it
asks and reads what was received afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import redis

from thermesh import keys, rpc
from thermesh.errors import Aborted, AlreadyExists, FailedPrecondition, MeshError, NotFound
from thermesh.v1 import (
    common_pb2,
    controller_pb2,
    controller_pb2_grpc,
    feature_pb2,
    feature_pb2_grpc,
    feedback_pb2,
    feedback_pb2_grpc,
    inference_pb2,
    inference_pb2_grpc,
)

MODEL = "fake-model"
FEATURES = 25


class FakeFeature(feature_pb2_grpc.FeatureServiceServicer):
    """Reads every text as a question."""

    def __init__(self) -> None:
        self.error: MeshError | None = None
        self.hangs = False
        self.calls = 0
        self.heard: list[str] = []
        self.never = asyncio.Event()

    async def Extract(self, request, context):
        """Answer, fail or hang, as told."""
        self.calls += 1
        await self._trouble()
        return feature_pb2.ExtractResponse(features=vector())

    async def Embed(self, request, context):
        """A vector that points into the direction of the text's length."""
        self.calls += 1
        await self._trouble()
        if request.model not in {"", "fake-encoder"}:
            raise NotFound("the encoder is fake-encoder", field="model")
        embeddings = [feature_pb2.Embedding(values=[len(text), 0.5]) for text in request.texts]
        return feature_pb2.EmbedResponse(
            model="fake-encoder", embeddings=embeddings, token_count=3 * len(embeddings)
        )

    async def ExtractStream(self, request_iterator, context):
        """Answer every partial text."""
        async for request in request_iterator:
            await self._trouble()
            if request.HasField("partial"):
                self.heard.append(request.partial.text)
                is_final = request.partial.is_final
                yield feature_pb2.ExtractStreamResponse(features=vector(), is_final=is_final)

    async def _trouble(self):
        if self.error:
            raise self.error
        if self.hangs:
            await self.never.wait()


class FakeController(
    controller_pb2_grpc.ControllerServiceServicer,
    feedback_pb2_grpc.FeedbackServiceServicer,
):
    """Decides temperature 0.4 with an explored policy plan, or as told."""

    def __init__(self) -> None:
        self.error: MeshError | None = None
        self.hangs = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.temperature = 0.4
        self.scenario = "dialogue"
        self.requests: list[controller_pb2.DecideRequest] = []
        self.feedback: dict[str, feedback_pb2.SubmitFeedbackRequest] = {}
        self.modes = {"*": common_pb2.MODE_APPLY}
        self.published: list[controller_pb2.PolicySummary] = []
        self.rollout: controller_pb2.Rollout | None = None
        self.never = asyncio.Event()

    async def Decide(self, request, context):
        """Answer, fail or hang, as told; the user's own values win."""
        self.requests.append(request)
        await self._trouble()
        await self.gate.wait()
        return controller_pb2.DecideResponse(plan=self.plan(request.constraints))

    def plan(self, constraints):
        """The plan for some constraints."""
        pinned = constraints.HasField("temperature")
        temperature = constraints.temperature if pinned else self.temperature
        return common_pb2.DecodingPlan(
            decision_id="dec-" + "0" * 32,
            policy_version=7,
            source=common_pb2.PLAN_SOURCE_PINNED if pinned else common_pb2.PLAN_SOURCE_POLICY,
            sampling=common_pb2.Sampling(program=fixed(temperature)),
            token_budget=constraints.max_tokens or 128,
            compute_path=common_pb2.COMPUTE_PATH_STANDARD,
            task=common_pb2.TASK_QUESTION_ANSWERING,
            scenario=self.scenario,
            log_density=-0.5,
            explored=not pinned,
            seed=11,
            policy_temperature=self.temperature,
        )

    async def ListPolicies(self, request, context):
        """One version, one mode."""
        await self._trouble()
        policy = controller_pb2.PolicySummary(
            version=7, kind="squashed_gaussian", reason="learned", parent_version=6, live=True
        )
        return controller_pb2.ListPoliciesResponse(
            policies=[policy, *self.published], modes=self.modes
        )

    async def PromotePolicy(self, request, context):
        """Version 7 is live and version 6 is stored."""
        await self._trouble()
        if request.expected_live_version not in {0, 7}:
            raise Aborted("version 7 is live", field="expected_live_version")
        if request.version not in {6, 7}:
            raise NotFound("there is no such version", field="version")
        return controller_pb2.PromotePolicyResponse(policy=self._publish("promoted"))

    async def RollbackPolicy(self, request, context):
        """There is always a version before."""
        await self._trouble()
        return controller_pb2.RollbackPolicyResponse(policy=self._publish("rolled_back"))

    async def SetMode(self, request, context):
        """Keep it."""
        await self._trouble()
        if request.mode:
            self.modes[request.route] = request.mode
        else:
            self.modes.pop(request.route, None)
        return controller_pb2.SetModeResponse(modes=self.modes)

    async def GetRollout(self, request, context):
        """The trial, where a test began one."""
        await self._trouble()
        if self.rollout is None:
            raise NotFound("there was no trial")
        return controller_pb2.GetRolloutResponse(rollout=self.rollout)

    async def StartRollout(self, request, context):
        """Version 7 is live and version 6 is stored."""
        await self._trouble()
        if request.version == 7:
            raise FailedPrecondition("version 7 is live", field="version")
        self.rollout = controller_pb2.Rollout(
            number=1,
            candidate_version=request.version,
            stage=request.stage,
            share=request.share,
            promotes=request.promotes,
        )
        return controller_pb2.StartRolloutResponse(rollout=self.rollout)

    async def StopRollout(self, request, context):
        """End it."""
        await self._trouble()
        if self.rollout is None:
            raise FailedPrecondition("no trial is running")
        self.rollout.stage = controller_pb2.ROLLOUT_STAGE_STOPPED
        return controller_pb2.StopRolloutResponse(rollout=self.rollout)

    def _publish(self, reason):
        policy = controller_pb2.PolicySummary(
            version=8, kind="squashed_gaussian", reason=reason, parent_version=6, live=True
        )
        self.published.append(policy)
        return policy

    async def SubmitFeedback(self, request, context):
        """Keep feedback once per id."""
        await self._trouble()
        if request.decision_id == "dec-unknown":
            raise NotFound("decision is not known", field="decision_id")
        content = (request.decision_id, request.score)
        known = self.feedback.get(request.feedback_id)
        if known and (known.decision_id, known.score) != content:
            raise AlreadyExists("feedback_id has other content", field="feedback_id")
        self.feedback[request.feedback_id] = request
        state = feedback_pb2.FEEDBACK_STATE_PENDING
        return feedback_pb2.SubmitFeedbackResponse(duplicate=known is not None, state=state)

    async def GetFeedback(self, request, context):
        """Every known feedback is applied in version 8."""
        if request.feedback_id not in self.feedback:
            raise NotFound("feedback is not known", field="feedback_id")
        state = feedback_pb2.FEEDBACK_STATE_APPLIED
        return feedback_pb2.GetFeedbackResponse(state=state, applied_version=8)

    async def _trouble(self):
        if self.error:
            raise self.error
        if self.hangs:
            await self.never.wait()


@dataclass
class Call:
    """One Generate call as inference saw it."""

    start: inference_pb2.GenerationStart | None = None
    received: list[inference_pb2.GenerateRequest] = field(default_factory=list)
    plan_came: asyncio.Event = field(default_factory=asyncio.Event)
    cancel_asked: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    was_cancelled: bool = False

    @property
    def kinds(self):
        """Kinds of the client's messages, in order."""
        return [message.WhichOneof("message") for message in self.received]


class FakeInference(inference_pb2_grpc.InferenceServiceServicer):
    """Says the script's texts, one token each."""

    def __init__(self) -> None:
        self.texts = ["Paris", " is", " it", "."]
        self.refusal: MeshError | None = None
        self.fails_after: int | None = None
        self.failure: MeshError | None = None
        self.hangs_after: int | None = None
        self.accepts = asyncio.Event()
        self.accepts.set()
        self.go = asyncio.Event()
        self.go.set()
        self.steps: asyncio.Semaphore | None = None  # each token takes one, where there is one
        self.finish_reason = common_pb2.FINISH_REASON_STOP
        self.max_running = 0
        self.calls: list[Call] = []

    @property
    def open_calls(self):
        """How many handlers are alive."""
        return sum(not call.over.is_set() for call in self.calls)

    async def Generate(self, request_iterator, context):
        """Decode the script."""
        call = Call()
        self.calls.append(call)
        outgoing: asyncio.Queue = asyncio.Queue()
        reading = asyncio.create_task(self._read(call, request_iterator, outgoing))
        try:
            number = 0
            async for message in self._say(call, outgoing):
                number += 1
                message.sequence_number = number
                yield message
        except (asyncio.CancelledError, GeneratorExit):
            # A cancellation that meets the call while it writes closes the generator.
            call.was_cancelled = True
            raise
        finally:
            call.over.set()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _say(self, call: Call, outgoing: asyncio.Queue) -> AsyncIterator:
        await outgoing.get()  # the start
        if self.refusal:
            raise self.refusal
        if call.start.model not in {"", MODEL}:
            raise NotFound(f"model {call.start.model!r} is not served", field="model")
        await self.accepts.wait()
        accepted = inference_pb2.GenerationAccepted(prompt_tokens=5, model=MODEL)
        yield inference_pb2.GenerateResponse(accepted=accepted)
        await self.go.wait()
        await wait_at_most(call.plan_came, (call.start.plan_grace_ms or 25) / 1000)
        temperature, revision = call.start.sampling.program.fixed.temperature, 0
        said = 0
        for index, text in enumerate(self.texts):
            if index == self.fails_after:
                raise self.failure
            if index == self.hangs_after:
                await wait_for_either(call.cancel_asked, outgoing)
            while not outgoing.empty():
                change = outgoing.get_nowait()
                revision += 1
                temperature = change.sampling.program.fixed.temperature
                change.revision, change.token_index = revision, index
                yield inference_pb2.GenerateResponse(applied=change)
            if call.cancel_asked.is_set():
                break
            if self.steps:
                await self.steps.acquire()
            token = self._token(index, text, temperature, revision, call.start.candidate_count)
            yield inference_pb2.GenerateResponse(tokens=common_pb2.TokenChunk(tokens=[token]))
            said += 1
            await asyncio.sleep(0)
        cancelled = call.cancel_asked.is_set()
        reason = common_pb2.FINISH_REASON_CANCELLED if cancelled else self.finish_reason
        usage = common_pb2.Usage(prompt_tokens=5, completion_tokens=said, prefill_time_us=900)
        end = common_pb2.GenerationEnd(finish_reason=reason, usage=usage, mean_temperature=0.4)
        yield inference_pb2.GenerateResponse(end=end)

    async def _read(self, call: Call, requests, outgoing: asyncio.Queue) -> None:
        async for request in requests:
            call.received.append(request)
            kind = request.WhichOneof("message")
            if kind == "start":
                call.start = request.start
                outgoing.put_nowait(request.start)
            elif kind == "plan":
                source = common_pb2.UPDATE_SOURCE_PLAN
                change = common_pb2.ParametersApplied(source=source, sampling=request.plan.sampling)
                outgoing.put_nowait(change)
                call.plan_came.set()
            elif kind == "update":
                change = common_pb2.ParametersApplied(
                    source=common_pb2.UPDATE_SOURCE_CLIENT, update_id=request.update.update_id
                )
                change.sampling.program.CopyFrom(request.update.program)
                outgoing.put_nowait(change)
            elif kind == "cancel":
                call.cancel_asked.set()

    @staticmethod
    def _token(index, text, temperature, revision, candidates):
        best = common_pb2.TokenCandidate(token_id=index, text=text, log_probability=-0.1)
        return common_pb2.Token(
            index=index,
            token_id=index,
            text=text,
            temperature=temperature,
            entropy=1.5,
            log_probability=-0.2,
            model_log_probability=-0.1,
            revision=revision,
            step_time_us=1000,
            candidates=[best] * min(candidates, 1),
        )

    async def GetLoad(self, request, context):
        """A little busy."""
        if self.refusal:
            raise self.refusal
        load = common_pb2.LoadReport(running=2, waiting=1, kv_pages_used=30, kv_pages_total=120)
        return inference_pb2.GetLoadResponse(load=load)

    async def DescribeModel(self, request, context):
        """One model."""
        if self.refusal:
            raise self.refusal
        return inference_pb2.DescribeModelResponse(
            model=MODEL,
            context_length=2048,
            created_unix_s=1_700_000_000,
            max_running=self.max_running,
        )


def fixed(temperature):
    """A program of one temperature."""
    return common_pb2.TemperatureProgram(fixed=common_pb2.FixedProgram(temperature=temperature))


def vector():
    """A feature vector."""
    task = common_pb2.TASK_QUESTION_ANSWERING
    values = [0.5] * FEATURES
    return feature_pb2.FeatureVector(
        schema_version=1, values=values, task=task, task_confidence=0.9, encoder_used=True
    )


async def wait_at_most(event, seconds):
    """Wait for an event, but not longer."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


async def wait_for_either(event, queue):
    """Wait until the event is set; changes that come meanwhile end the wait too."""
    waiting = asyncio.create_task(event.wait())
    changed = asyncio.create_task(queue.get())
    try:
        await asyncio.wait({waiting, changed}, return_when=asyncio.FIRST_COMPLETED)
        if changed.done():
            queue.put_nowait(changed.result())
    finally:
        for task in (waiting, changed):
            task.cancel()
        await asyncio.gather(waiting, changed, return_exceptions=True)


class Neighbours:
    """Three servers of fakes on ports of their own, each of which can be stopped."""

    def __init__(self) -> None:
        self.feature = FakeFeature()
        self.controller = FakeController()
        self.inference = FakeInference()
        self.ports: dict[str, int] = {}
        self._servers: dict[str, rpc.Server] = {}

    async def start(self, name: str) -> None:
        """Start one neighbour, on the port it had before."""
        server = rpc.Server(name, "127.0.0.1", self.ports.get(name, 0), grace_seconds=0)
        fake = getattr(self, name)
        adders = {
            "feature": [("FeatureService", feature_pb2_grpc)],
            "controller": [
                ("ControllerService", controller_pb2_grpc),
                ("FeedbackService", feedback_pb2_grpc),
            ],
            "inference": [("InferenceService", inference_pb2_grpc)],
        }
        for service, module in adders[name]:
            adder = getattr(module, f"add_{service}Servicer_to_server")
            server.add(adder, fake, f"thermesh.v1.{service}")
        self.ports[name] = await server.start()
        self._servers[name] = server

    async def stop(self, name: str) -> None:
        """Stop one neighbour at once."""
        await self._servers.pop(name).drain()

    async def start_all(self) -> None:
        """Start all three."""
        for name in ("feature", "controller", "inference"):
            await self.start(name)

    async def stop_all(self) -> None:
        """Stop whatever runs."""
        for name in list(self._servers):
            await self.stop(name)


def make_key(url, tenant, priority="", allowance=None, admin=False):
    """Put a key into the Redis at `url` as `thermesh keys create` does; return it."""
    secret = keys.new_secret()
    key = keys.Key(keys.new_key_id(), tenant, tenant, priority, 1, admin)
    with redis.Redis.from_url(url) as connection:
        connection.hset(keys.KEYS_HASH, keys.digest(secret), keys.pack_key(key))
        if allowance:
            connection.hset(keys.TENANTS_HASH, tenant, keys.pack_allowance(allowance))
    return secret


def bearer(secret):
    """The header that carries a key."""
    return {"Authorization": f"Bearer {secret}"}
