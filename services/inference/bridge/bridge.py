"""The requests on their way to the engine behind: how many, of which model, with what account."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace

from services.inference import prompt
from services.inference.bridge.generation import Generation
from services.inference.bridge.upstream import Upstream, UpstreamModel
from services.inference.capabilities import Capabilities
from services.inference.events import Load, Outcome
from services.inference.request import Start
from services.inference.sampling import settings as sampling
from thermesh.clock import Clock
from thermesh.errors import InvalidArgument, NotFound, ResourceExhausted, Unavailable

VOCABULARY_SIZE = 2**31
"""The engine behind knows its own; token ids are only bounded by what the wire can say."""
LISTING_LIFETIME_SECONDS = 5.0
RETRY_AFTER_SECONDS = 1.0


class Bridge:
    """`name` is what clients call the model; `upstream_model` what the engine behind does
    (empty: the first it lists). `account` is called with every outcome.
    """

    def __init__(
        self,
        upstream: Upstream,
        clock: Clock,
        *,
        model_name: str = "",
        upstream_model: str = "",
        max_requests: int = 64,
        account: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        self.upstream = upstream
        self.model_name = model_name
        self.max_requests = max_requests
        self.account = account
        self._clock = clock
        self._upstream_model = upstream_model
        self._served: UpstreamModel | None = None
        self._served_at = 0.0
        self._handlers = 0
        self._running = 0
        self._is_draining = False

    @property
    def name(self) -> str:
        """What clients call the model; empty before the engine behind was ever reached."""
        return self.model_name or (self._served.name if self._served else "")

    def capabilities(self) -> Capabilities:
        """Return what the engine behind can do."""
        dialect = self.upstream.dialect
        programs = ("fixed", "dynatemp") if dialect.has_dynatemp else ("fixed",)
        return Capabilities(
            programs=programs,
            guards=tuple(dialect.guards),
            paths=("standard",),
            can_update=False,
            tells_entropy=False,
        )

    def load(self) -> Load:
        """Return how many requests are on their way."""
        return Load(running=self._running, open_streams=self._handlers)

    def drain(self) -> None:
        """Refuse new requests from now on."""
        self._is_draining = True

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Count a handler while it is alive; refuse one more than twice the requests."""
        if self._handlers >= 2 * self.max_requests:
            raise ResourceExhausted("too many open streams", retry_after=1.0)
        self._handlers += 1
        try:
            yield
        finally:
            self._handlers -= 1

    async def served(self) -> UpstreamModel:
        """Return the model behind, asked for again after some seconds.

        Raises Unavailable where it never answered, NotFound where it does not
        list the one that is configured.
        """
        now = self._clock.monotonic()
        if self._served is None or now - self._served_at > LISTING_LIFETIME_SECONDS:
            try:
                self._served = self._choose(await self.upstream.models())
            except Unavailable:
                if self._served is None:
                    raise
            self._served_at = now
        return self._served

    async def open(self, start: Start, remaining_seconds: float | None) -> Generation:
        """Begin a request; `close_generation` it in `finally`.

        Raises InvalidArgument naming the field, NotFound for another model,
        ResourceExhausted, Unavailable, DeadlineExceeded.
        """
        served = await self.served()
        self._check(start, served)
        if self._is_draining:
            raise Unavailable("the bridge is shutting down", retry_after=1.0)
        if self._running >= self.max_requests:
            raise ResourceExhausted(
                "the bridge is full", reason="ENGINE_FULL", retry_after=RETRY_AFTER_SECONDS
            )
        grace_ms = start.plan_grace_ms or prompt.DEFAULT_PLAN_GRACE_MS
        generation = Generation(
            replace(
                start,
                context=prompt.named(start.context),
                seed=secrets.randbits(63) if start.seed is None else start.seed,
            ),
            start.sampling or sampling.DEFAULT,
            upstream=self.upstream,
            model=served.name,
            clock=self._clock,
            plan_grace_seconds=grace_ms / 1000,
            deadline=prompt.deadline_of(start.context, remaining_seconds, self._clock),
        )
        self._running += 1
        return generation

    async def close_generation(self, generation: Generation) -> None:
        """End a request here and behind, and account for it."""
        try:
            await generation.close()
        finally:
            self._running -= 1
        if generation.outcome is not None:
            self.account(generation.outcome)

    def _check(self, start: Start, served: UpstreamModel) -> None:
        if start.model not in {"", served.name, self.name}:
            message = f"model {start.model!r} is not served here; {self.name!r} is"
            raise NotFound(message, field="start.model")
        prompt.check(start)
        (start.sampling or sampling.DEFAULT).validate("start.sampling", VOCABULARY_SIZE)
        if not (start.chat or start.prompt or start.token_ids):
            message = "start.input must be one of chat, prompt, tokens, and not empty"
            raise InvalidArgument(message, field="start.input")
        if start.constraint is not None:
            start.constraint.validate("start.constraint")
            self.upstream.dialect.check_constraint(start.constraint)

    def _choose(self, listed: list[UpstreamModel]) -> UpstreamModel:
        for model in listed:
            if self._upstream_model in {"", model.name}:
                return model
        names = ", ".join(model.name for model in listed) or "none"
        raise NotFound(
            f"THERMESH_ENGINE_MODEL={self._upstream_model!r}: the engine behind lists {names}"
        )
