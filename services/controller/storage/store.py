"""The serving side of the controller's state in Redis."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import redis.asyncio as redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from services.controller.decisions.decision import Mode
from services.controller.decisions.records import DecisionRecord, Feedback, Outcome, PolicyVersion
from services.controller.policies.policy import Parameters
from services.controller.storage import layout, ports, refusals
from services.controller.trust.rollout import Rollout
from thermesh.errors import NotFound, Unavailable

_TIMEOUT_S = 1.0
_CONNECTIONS = 32


@contextlib.contextmanager
def reaching() -> Iterator[None]:
    """Turn whatever keeps Redis from answering into Unavailable."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise Unavailable("the policy store cannot be reached", retry_after=1.0) from error


class RedisStore:
    """`ports.ServingStore` in Redis; connects on first use and again by itself.

    `feedback_per_minute` bounds what one tenant may send; 0: no bound.
    """

    def __init__(self, url: str, feedback_per_minute: int = 0) -> None:
        self._feedback_per_minute = feedback_per_minute
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_TIMEOUT_S,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            decode_responses=True,
            # Once: a connection that Redis closed since is opened again. Every
            # call here may be repeated. Not after a timeout: callers wait.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        )
        self._redis = redis.Redis(connection_pool=pool)
        self._changes: PubSub | None = None
        self._submit = self._redis.register_script(layout.script("submit_feedback"))
        self._report = self._redis.register_script(layout.script("report_outcome"))
        self._publish = self._redis.register_script(layout.script("publish"))
        self._set_rollout = self._redis.register_script(layout.script("set_rollout"))
        self._set_mode = self._redis.register_script(layout.script("set_mode"))

    async def record(self, records: Sequence[DecisionRecord]) -> None:
        """See `ports.ServingStore.record`."""
        with reaching():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for record in records:
                    key = layout.decision_key(record.decision_id)
                    fields: dict[Any, Any] = {
                        "tenant": record.context.tenant,
                        "record": record.to_json(),
                    }
                    pipeline.hset(key, mapping=fields)
                    pipeline.expire(key, ports.KEEP_SECONDS)
                await pipeline.execute()

    async def decided(self, decision_ids: list[str]) -> list[str | None]:
        """See `ports.ServingStore.decided`."""
        with reaching():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for decision_id in decision_ids:
                    pipeline.hget(layout.decision_key(decision_id), "record")
                return list(await pipeline.execute())

    async def submit(self, feedback: Feedback) -> ports.Submission:
        """See `ports.ServingStore.submit`."""
        keys = [
            layout.feedback_key(feedback.tenant, feedback.feedback_id),
            layout.decision_key(feedback.decision_id),
            layout.EVENTS,
            layout.HINT,
            layout.schedule_key(feedback.tenant),
        ]
        arguments: list[Any] = [
            feedback.to_json(),
            feedback.to_event_json(),
            ports.KEEP_SECONDS,
            feedback.tenant,
            ports.EVENTS_LIMIT,
            ports.FEEDBACK_A_DECISION_LIMIT,
            ports.HINT_SECONDS,
            self._feedback_per_minute,
        ]
        with reaching():
            status, applied, hint = await self._submit(keys=keys, args=arguments)
        refusals.of_feedback(status, feedback, wait_us=int(applied))
        return ports.Submission(status == "duplicate", int(applied), bool(hint))

    async def applied_version(self, tenant: str, feedback_id: str) -> int:
        """See `ports.ServingStore.applied_version`."""
        with reaching():
            applied = await self._call(
                self._redis.hget(layout.feedback_key(tenant, feedback_id), "applied")
            )
        if applied is None:
            raise refusals.unknown_feedback(feedback_id)
        return int(applied)

    async def report(self, outcome: Outcome) -> ports.Report:
        """See `ports.ServingStore.report`."""
        keys = [
            layout.outcome_key(outcome.decision_id),
            layout.decision_key(outcome.decision_id),
            layout.EVENTS,
            layout.HINT,
        ]
        arguments: list[Any] = [
            outcome.to_json(),
            outcome.to_event_json(),
            ports.KEEP_SECONDS,
            ports.EVENTS_LIMIT,
            ports.HINT_SECONDS,
        ]
        with reaching():
            status, hint = await self._report(keys=keys, args=arguments)
        refusals.of_outcome(status)
        return ports.Report(status == "duplicate", bool(hint))

    async def live_version(self) -> int:
        """See `ports.ServingStore.live_version`."""
        with reaching():
            return int(await self._call(self._redis.hget(layout.LIVE, "version")) or 0)

    async def version(self, version: int) -> PolicyVersion:
        """See `ports.ServingStore.version`."""
        with reaching():
            stored: Any = await self._redis.get(layout.version_key(version))
        if stored is None:
            raise NotFound(f"policy version {version} is not stored", field="version")
        return PolicyVersion.from_json(stored)

    async def versions(self, below: int, limit: int) -> Sequence[PolicyVersion]:
        """See `ports.ServingStore.versions`."""
        oldest = max(1, below - limit)
        keys = [layout.version_key(version) for version in range(below - 1, oldest - 1, -1)]
        if not keys:
            return []
        with reaching():
            stored: Any = await self._redis.mget(keys)
        return [PolicyVersion.from_json(text) for text in stored if text is not None]

    async def publish(self, version: PolicyVersion, expected_live: int) -> bool:
        """See `ports.ServingStore.publish`."""
        keys, arguments = layout.publish_arguments(version, expected_live)
        with reaching():
            return bool(await self._publish(keys=keys, args=arguments))

    async def rollout(self) -> Rollout | None:
        """See `ports.ServingStore.rollout`."""
        with reaching():
            stored: Any = await self._redis.get(layout.ROLLOUT)
        return Rollout.from_json(stored) if stored else None

    async def set_rollout(self, rollout: Rollout, expected: Rollout | None) -> bool:
        """See `ports.ServingStore.set_rollout`."""
        before = expected.to_json() if expected else ""
        arguments = [before, rollout.to_json(), layout.CHANGES]
        keys = [layout.ROLLOUT, layout.version_key(rollout.candidate), layout.CANDIDATE]
        with reaching():
            return bool(await self._set_rollout(keys=keys, args=arguments))

    async def candidate(self) -> PolicyVersion:
        """See `ports.ServingStore.candidate`."""
        with reaching():
            stored: Any = await self._redis.get(layout.CANDIDATE)
        if stored is None:
            raise NotFound("no candidate was ever on trial")
        return PolicyVersion.from_json(stored)

    async def import_version(
        self, parameters: Parameters, feedback_count: int, created_unix_ms: int
    ) -> PolicyVersion:
        """See `ports.ServingStore.import_version`."""
        with reaching():
            count = int(await self._redis.incr(layout.IMPORTED))
            number = ports.IMPORTED_AFTER + count
            version = PolicyVersion(
                number, parameters, created_unix_ms, "imported", 0, feedback_count
            )
            await self._redis.set(layout.version_key(number), version.to_json())
            await self._redis.delete(layout.version_key(number - ports.KEPT_IMPORTED))
        return version

    async def imported(self) -> Sequence[PolicyVersion]:
        """See `ports.ServingStore.imported`."""
        with reaching():
            count: Any = await self._redis.get(layout.IMPORTED)
            newest = ports.IMPORTED_AFTER + int(count or 0)
            oldest = max(ports.IMPORTED_AFTER, newest - ports.KEPT_IMPORTED)
            keys = [layout.version_key(number) for number in range(newest, oldest, -1)]
            stored: Any = await self._redis.mget(keys) if keys else []
        return [PolicyVersion.from_json(text) for text in stored if text is not None]

    async def modes(self) -> Mapping[str, Mode]:
        """See `ports.ServingStore.modes`."""
        with reaching():
            stored = await self._call(self._redis.hgetall(layout.MODES))
        return {route: Mode(mode) for route, mode in stored.items()}

    async def set_mode(self, route: str, mode: Mode | None) -> None:
        """See `ports.ServingStore.set_mode`."""
        arguments = [route, mode.value if mode else "", ports.ROUTES_LIMIT, layout.CHANGES]
        with reaching():
            done = await self._set_mode(keys=[layout.MODES], args=arguments)
        if not done:
            raise refusals.too_many_routes()

    async def changed(self, timeout: float) -> None:
        """See `ports.ServingStore.changed`."""
        with reaching():
            if self._changes is None:
                self._changes = self._redis.pubsub(ignore_subscribe_messages=True)
                await self._changes.subscribe(layout.CHANGES)
            try:
                await self._changes.get_message(timeout=timeout)
            except BaseException:
                changes, self._changes = self._changes, None
                await changes.aclose()  # type: ignore[no-untyped-call]  # redis-py leaves it so
                raise

    async def close(self) -> None:
        """See `ports.ServingStore.close`."""
        if self._changes is not None:
            await self._changes.aclose()  # type: ignore[no-untyped-call]  # likewise
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    @staticmethod
    async def _call(answer: Any) -> Any:
        """Await what redis-py types as "awaitable or not"."""
        return await answer
