"""The learner's side of the controller's state in Redis."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from services.controller.decisions.records import PolicyVersion
from services.controller.learning.joining import WAITING_LIMIT, Waiting
from services.controller.storage import layout
from services.controller.storage.ports import Checkpoint, Commit, StoredEvent
from services.controller.storage.store import reaching
from thermesh.errors import Unavailable

# The learner may wait longer than a call: nobody waits for it.
_TIMEOUT_S = 5.0
# A version that is gone between two reads was dropped for newer ones; it does
# not happen twice.
_READS = 3


class RedisLearningStore:
    """`ports.LearningStore` in Redis; connects on first use and again by itself."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            url,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            decode_responses=True,
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        )
        self._publish = self._redis.register_script(layout.script("publish"))
        self._commit = self._redis.register_script(layout.script("commit"))

    def checkpoint(self) -> Checkpoint | None:
        """See `ports.LearningStore.checkpoint`.

        The parts are read one after another: where one changed meanwhile, the
        commit that follows is refused.
        """
        for _ in range(_READS):
            with reaching():
                live = cast("dict[str, str]", self._redis.hgetall(layout.LIVE))
                if not live:
                    return None
                keys = [layout.version_key(int(live["version"])), layout.LEARNER]
                keys += [layout.ROLLOUT, layout.CANDIDATE]
                version, *rest = cast("list[str | None]", self._redis.mget(keys))
            if version is not None:
                return layout.checkpoint_of(live, version, *rest)
        raise Unavailable("the live policy version is not stored", retry_after=_TIMEOUT_S)

    def publish_prior(self, version: PolicyVersion) -> None:
        """See `ports.LearningStore.publish_prior`."""
        keys, arguments = layout.publish_arguments(version, expected=0)
        with reaching():
            self._publish(keys=keys, args=arguments)

    def events_after(self, event_id: str, count: int) -> Sequence[StoredEvent]:
        """See `ports.LearningStore.events_after`."""
        with reaching():
            found: Any = self._redis.xrange(layout.EVENTS, min=f"({event_id}", count=count)
        return [layout.stored_event(name, fields) for name, fields in found]

    def waiting(self, decision_ids: Collection[str]) -> Mapping[str, Waiting]:
        """See `ports.LearningStore.waiting`."""
        names = list(decision_ids)
        if not names:
            return {}
        with reaching():
            found: Any = self._redis.hmget(layout.WAITING, names)
        pairs = zip(names, found, strict=True)
        return {name: Waiting.from_json(text) for name, text in pairs if text}

    def commit(self, commit: Commit) -> bool:
        """See `ports.LearningStore.commit`."""
        keys, arguments = layout.commit_arguments(commit, commit.entry_count - WAITING_LIMIT)
        with reaching():
            return bool(self._commit(keys=keys, args=arguments))

    def hint_taken(self) -> None:
        """See `ports.LearningStore.hint_taken`."""
        with reaching():
            self._redis.delete(layout.HINT)
