"""The heart of the gateway: one request, from its start to its last token.

Theory of operation. `Generate` opens at once with sampling from memory, so that
prefill begins; `Extract` and then `Decide` run meanwhile, each inside its
budget; the plan is the second message. Whatever goes wrong on that side way,
the plan of `planning` takes its place, and a counter says so. Three rules:

Rule 1: tokens never wait for a plan. If tokens come first, the plan in effect
is the one the request started with; what the side way still brings is only
remembered for the next request. Clients hear of a plan after `Accepted`, though
inference has it at once.
Rule 2: after `cancel` the end counts the tokens kept by then, also where inference
was quicker than the cancellation; tokens that still come are nobody's.
Rule 3: who opens a turn closes it (`async with`): both tasks end, the call to
inference is cancelled, and the place in admission is free, on every way out.

This file knows neither gRPC nor HTTP; the neighbours are the Protocols of `links`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from services.gateway.admission.buckets import Quota
from services.gateway.admission.quotas import check
from services.gateway.admission.turnstile import Turnstile
from services.gateway.asking import Ask, Features
from services.gateway.backlog import Backlog
from services.gateway.decoding import Plan, Update
from services.gateway.events import Accepted, Ended, Event, PlanDecided, Rejected, Tokens
from services.gateway.headroom import Headroom
from services.gateway.links import FeatureSource, Mesh
from services.gateway.observability.instruments import Instruments
from services.gateway.observability.journal import Journal
from services.gateway.observability.observatory import Observatory
from services.gateway.planning import PlanMemory, fallback_plan, seeded
from thermesh.clock import Clock
from thermesh.errors import DeadlineExceeded, Internal, MeshError, Unavailable

log = logging.getLogger(__name__)

FINISH_SECONDS = 0.5
"""How long a call that said its end may take to close."""


class Pipeline:
    """Opens turns; one for the whole gateway."""

    def __init__(
        self,
        mesh: Mesh,
        *,
        turnstile: Turnstile,
        instruments: Instruments,
        clock: Clock,
        observatory: Observatory,
        max_stream_seconds: float,
    ) -> None:
        self.mesh = mesh
        self.turnstile = turnstile
        self.instruments = instruments
        self.clock = clock
        self.observatory = observatory
        self.max_stream_seconds = max_stream_seconds
        self.memory = PlanMemory()
        self.headroom = Headroom()

    def open(self, ask: Ask, features: FeatureSource | None = None) -> Turn:
        """Return the turn for `ask`, to be entered with `async with`.

        `features` replaces the call of Extract where the words were read while
        they were heard. Entering raises ResourceExhausted, Unavailable or
        DeadlineExceeded; `Turn.next` raises what inference ends with.
        """
        return Turn(self, ask, features or (lambda: self._extract(ask)))

    async def _extract(self, ask: Ask) -> Features:
        return await self.mesh.feature.extract(ask, self.headroom.seconds)


class Turn:
    """One request under way; see the module's rules."""

    def __init__(self, pipeline: Pipeline, ask: Ask, features: FeatureSource) -> None:
        self.ask = seeded(ask)
        self.plan: Plan | None = None
        self.quota: Quota | None = None
        self._pipeline = pipeline
        self._features = features
        self._journal = Journal(self.ask, pipeline.instruments, pipeline.clock)
        self._events = Backlog()
        self._accepted = asyncio.Event()
        self._announced = asyncio.Event()
        self._held = contextlib.ExitStack()
        self._initial = self._fallback()
        self._kept_tokens: int | None = None

    async def __aenter__(self) -> Self:
        turnstile = self._pipeline.turnstile
        with contextlib.ExitStack() as opening:
            opening.callback(self._journal.close)
            try:
                timeout = self._timeout_seconds()
                turnstile.enter(self.ask, opening)
                self.quota = await turnstile.take(self.ask, opening, self._used_tokens)
                check(self.quota)
                opening.enter_context(self._pipeline.observatory.watching(self._journal))
            except MeshError as error:
                self._journal.fail(error)
                raise
            inference = self._pipeline.mesh.inference
            self._generation = inference.generate(self.ask, self._initial, timeout)
            opening.callback(self._generation.close)
            self._held = opening.pop_all()
        self._relaying = asyncio.create_task(self._relay(), name="relay")
        self._deciding = asyncio.create_task(self._decide(), name="decide")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._held:
            if kind is None and self._journal.has_ended:
                await asyncio.wait({self._relaying}, timeout=FINISH_SECONDS)
            self._deciding.cancel()
            self._generation.close()
            self._events.close()
            self._announced.set()
            # A read that is cancelled leaves what gRPC allocated for it (grpc/grpc#43360);
            # one whose call was cancelled ends by itself.
            await asyncio.wait({self._relaying}, timeout=FINISH_SECONDS)
            self._relaying.cancel()
            await asyncio.gather(self._relaying, self._deciding, return_exceptions=True)

    async def next(self, patience_seconds: float | None = None) -> Event | None:
        """Return the next event; None where none came within the patience.

        Raises the MeshError that ends the request. Nothing follows `Ended`.
        """
        event = await self._events.get(patience_seconds)
        if isinstance(event, MeshError):
            raise event
        if isinstance(event, Ended) and self._kept_tokens is not None:
            event = event.keeping(self._kept_tokens)
            self._journal.observe(event)
        return event

    async def events(self) -> AsyncIterator[Event]:
        """Yield every event to the end; raise the MeshError that ends the request."""
        while (event := await self.next()) is not None:
            yield event
            if isinstance(event, Ended):
                return

    def update(self, update: Update) -> None:
        """Change the parameters; answered by `Applied` or `Rejected`."""
        self._generation.update(update)

    async def refuse(self, update_id: int, error: MeshError) -> None:
        """Answer an update that is not worth sending on."""
        rejected = Rejected(update_id, error.field, error.message)
        self._journal.observe(rejected)
        await self._events.put(rejected)

    def credit(self, tokens: int) -> None:
        """Let inference send more tokens."""
        self._generation.credit(tokens)

    def cancel(self, kept_tokens: int) -> None:
        """End decoding for a client that takes no token beyond these; `Ended` still comes."""
        self._kept_tokens = kept_tokens
        self._generation.cancel(kept_tokens)

    async def fail(self, error: MeshError) -> None:
        """End the turn with an error of the client's own making."""
        await self._events.put(error)
        self._journal.fail(error)

    def _used_tokens(self) -> int:
        return self._journal.used_tokens

    def _timeout_seconds(self) -> float:
        deadline = self.ask.context.deadline_unix_ms
        if not deadline:
            return self._pipeline.max_stream_seconds
        remaining = (deadline - self._pipeline.clock.unix_ms()) / 1000
        if remaining <= 0:
            raise DeadlineExceeded("the deadline passed before decoding began", field="deadline")
        return min(remaining, self._pipeline.max_stream_seconds)

    def _fallback(self, task: str = "") -> Plan:
        constraints = self.ask.constraints
        choice = self._pipeline.memory.recall(constraints.scenario, task)
        return fallback_plan(constraints, choice, task)

    async def _decide(self) -> None:
        features = await self._features_in_time()
        plan = await self._plan_in_time(features)
        if plan is None:
            plan = self._fallback(features.task if features else "")
        await self._settle(plan)

    async def _features_in_time(self) -> Features | None:
        if not self.ask.newest_text:
            return None
        try:
            return await self._features()
        except MeshError:
            return None
        except Exception:
            log.exception("reading features failed unexpectedly")
            return None

    async def _plan_in_time(self, features: Features | None) -> Plan | None:
        try:
            mesh = self._pipeline.mesh
            plan = await mesh.controller.decide(self.ask, features, mesh.inference.capabilities)
        except MeshError:
            return None
        except Exception:
            log.exception("deciding failed unexpectedly")
            return None
        self._pipeline.memory.remember(self.ask.constraints, plan)
        return plan

    async def _settle(self, plan: Plan) -> None:
        if self.plan is not None:
            return
        self.plan = plan
        self._generation.plan(plan)
        await self._accepted.wait()
        decided = PlanDecided(plan)
        self._journal.observe(decided)
        await self._events.put(decided)
        self._announced.set()

    async def _relay(self) -> None:
        try:
            async with contextlib.aclosing(self._generation.events()) as events:  # type: ignore[type-var]  # generators all
                async for event in events:
                    await self._pass_on(event)
                    if isinstance(event, Ended):
                        await self._finish(events)
                        return
            error: MeshError = Unavailable("decoding stopped without an end", retry_after=1.0)
        except MeshError as failure:
            error = failure
        except Exception:
            log.exception("relaying failed unexpectedly")
            error = Internal("internal error; the gateway's log has the details")
        self._journal.fail(error)
        await self._events.put(error)

    async def _finish(self, events: AsyncIterator[Event]) -> None:
        """Let the call end well: cancelling it now would look like a client that left."""
        self._generation.finish()
        with contextlib.suppress(MeshError, TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                async for _ in events:
                    log.warning("%s: a message came after the end", self.ask.context.request_id)

    async def _pass_on(self, event: Event) -> None:
        if isinstance(event, Tokens | Ended) and not self._announced.is_set():
            self._accepted.set()
            await self._settle_now()
        if isinstance(event, Ended):
            self._pipeline.headroom.saw(event.usage)
        self._journal.observe(event)
        await self._events.put(event)
        if isinstance(event, Accepted):
            self._accepted.set()

    async def _settle_now(self) -> None:
        if self.plan is not None:
            await self._announced.wait()
            return
        self._pipeline.instruments.hop_failed("controller", "late")
        await self._settle(self._initial)
