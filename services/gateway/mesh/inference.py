"""Inference: open generations and what it serves."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable

from services.gateway.asking import Ask
from services.gateway.decoding import Plan, Update
from services.gateway.events import Event
from services.gateway.feedback import Capabilities, ModelCard
from services.gateway.mesh.outbox import Outbox
from services.gateway.mesh.peer import CALLERS_FAULT, Peer
from services.gateway.observability.operating import EngineLoad
from services.gateway.wire import catalog, events, operating, requests
from thermesh.clock import Clock
from thermesh.errors import MeshError, NotFound
from thermesh.rpc import translated
from thermesh.v1 import inference_pb2, inference_pb2_grpc

CARD_LIFETIME_SECONDS = 5.0

# Clients of either door wrote `messages`, not the start message made of it.
_START = re.compile(r"^start\.(chat\.)?")


class InferenceClient:
    """The link to inference.

    Its breaker only keeps the log: without inference there is no answer to
    fall back on, and a dead process refuses at once because no call waits for it.
    `saw_card` is told what inference says of itself, whenever it does.
    """

    def __init__(
        self,
        peer: Peer,
        clock: Clock,
        plan_grace_ms: int,
        timeout_seconds: float,
        saw_card: Callable[[ModelCard], None] = lambda _: None,
    ) -> None:
        self.peer = peer
        self._stub = inference_pb2_grpc.InferenceServiceStub(peer.channel)
        self._saw_card = saw_card
        self._clock = clock
        self._plan_grace_ms = plan_grace_ms
        self._timeout_seconds = timeout_seconds
        self._card: ModelCard | None = None
        self._card_read_at = 0.0
        self._reading: asyncio.Task[None] | None = None

    @property
    def capabilities(self) -> Capabilities | None:
        """What the engine can do, as far as it said so yet; asked again behind the request
        that finds the answer old. Nothing waits for it.
        """
        self.describe()
        return self._card.capabilities if self._card else None

    def describe(self) -> None:
        """Ask inference what it is, where the last answer is old; nothing waits for it."""
        now = self._clock.monotonic()
        is_old = self._card is None or now - self._card_read_at > CARD_LIFETIME_SECONDS
        if is_old and (self._reading is None or self._reading.done()):
            self._reading = asyncio.create_task(self._reread(now), name="describe")

    async def close(self) -> None:
        """Stop asking."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    def generate(self, ask: Ask, initial: Plan, timeout_seconds: float) -> OpenGeneration:
        """Open a generation that decodes as `initial` says until a plan arrives."""
        start = requests.start_message(ask, initial, self._plan_grace_ms)
        return OpenGeneration(self.peer, self._stub, start, timeout_seconds)

    async def models(self) -> list[ModelCard]:
        """Return what is served, the default first; a card is kept for some seconds.

        Raises MeshError where inference cannot be asked and never could.
        """
        now = self._clock.monotonic()
        if self._card is None or now - self._card_read_at > CARD_LIFETIME_SECONDS:
            await self._read_card(now)
        return [self._card] if self._card else []

    async def model(self, model_id: str) -> ModelCard:
        """Return one model; raise NotFound naming those that are served."""
        cards = await self.models()
        for card in cards:
            if card.id == model_id:
                return card
        served = ", ".join(card.id for card in cards)
        raise NotFound(f"model {model_id!r} is not served; served: {served}", field="model")

    async def load(self) -> EngineLoad:
        """Return how busy the engine is; raise MeshError where it cannot be asked."""
        return await self.peer.call(
            self._stub.GetLoad,
            inference_pb2.GetLoadRequest(),
            self._timeout_seconds,
            operating.engine_load,
        )

    async def _reread(self, now: float) -> None:
        with contextlib.suppress(MeshError):
            await self._read_card(now)

    async def _read_card(self, now: float) -> None:
        request = inference_pb2.DescribeModelRequest()
        try:
            self._card = await self.peer.call(
                self._stub.DescribeModel,
                request,
                self._timeout_seconds,
                catalog.model_card,
            )
        except MeshError:
            if self._card is None:
                raise
        else:
            self._saw_card(self._card)
        self._card_read_at = now


class OpenGeneration:
    """One open call of Generate.

    What follows the start waits until inference has said something. grpc.aio loses
    the status of a server that refuses while its client writes
    (https://github.com/grpc/grpc/issues/36066): a full engine would look broken.
    """

    def __init__(
        self,
        peer: Peer,
        stub: inference_pb2_grpc.InferenceServiceStub,
        start: inference_pb2.GenerateRequest,
        timeout_seconds: float,
    ) -> None:
        self._peer = peer
        self._outbox: Outbox[inference_pb2.GenerateRequest] = Outbox()
        self._outbox.send(start)
        self._is_heard = asyncio.Event()
        self._call = stub.Generate(self._spoken(), timeout=timeout_seconds)

    async def events(self) -> AsyncIterator[Event]:
        """Yield what inference says; raise MeshError where the call fails."""
        try:
            with translated():
                async for response in self._call:
                    self._is_heard.set()
                    event = events.event(response)
                    if event is not None:
                        yield event
        except MeshError as error:
            if error.code not in CALLERS_FAULT:
                self._peer.failed(error)
            _name_as_written(error)
            raise
        self._peer.answered()

    def plan(self, plan: Plan) -> None:
        """Send the plan."""
        self._outbox.send(requests.plan_message(plan))

    def update(self, update: Update) -> None:
        """Send a change of parameters."""
        self._outbox.send(requests.update_message(update))

    def credit(self, tokens: int) -> None:
        """Let inference send more tokens."""
        self._outbox.send(requests.credit_message(tokens))

    def cancel(self, kept_tokens: int) -> None:
        """Ask inference to end and to count so many tokens; its end still comes."""
        self._outbox.send(requests.cancel_message(kept_tokens))

    def finish(self) -> None:
        """Say that nothing more will be sent."""
        self._outbox.close()

    def close(self) -> None:
        """Cancel the call; harmless when it is over."""
        self._outbox.close()
        self._is_heard.set()
        self._call.cancel()

    async def _spoken(self) -> AsyncIterator[inference_pb2.GenerateRequest]:
        async for message in self._outbox.messages():
            yield message
            await self._is_heard.wait()


def _name_as_written(error: MeshError) -> None:
    """Name the field as the client did, in the message too."""
    field = _START.sub("", error.field)
    if error.field:
        error.message = error.message.replace(error.field, field)
    error.field = field
