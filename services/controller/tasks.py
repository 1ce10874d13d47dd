r"""The Celery shell of the learner.

One task, `thermesh.learn`, takes up everything that waits. It carries no work,
only a hint that there is some, so a task that is lost, repeated or late changes
nothing. The worker also looks by itself, once when it is ready and then every
few seconds, from a thread of its own: workers have been seen to stop consuming
after Redis came back (celery/celery#8030, #8091, #10205).

    python -m celery -A services.controller.tasks worker --pool solo \
        --without-gossip --without-mingle --without-heartbeat -Q thermesh-learner
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from celery import Celery, signals

from services.controller.config import LearnerConfig
from services.controller.learner import Drained, drain
from services.controller.learning.joining import FeedbackArrived
from services.controller.newborn import newborn
from services.controller.storage.learning_store import RedisLearningStore
from thermesh import semconv, telemetry
from thermesh.clock import SystemClock
from thermesh.errors import Unavailable
from thermesh.settings import from_env

log = logging.getLogger(__name__)

QUEUE = "thermesh-learner"
_CONFIG = from_env(LearnerConfig)
_NEWBORN = newborn(_CONFIG)

# Longer than any drain takes; a lost task comes back after it, though the next
# look of the worker is there long before.
_VISIBILITY_TIMEOUT_S = 120
_SOCKET_TIMEOUT_S = 5.0

app = Celery("thermesh", broker=_CONFIG.redis_url)
app.conf.update(
    broker_connection_max_retries=None,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": _VISIBILITY_TIMEOUT_S,
        "socket_timeout": _SOCKET_TIMEOUT_S,
        "socket_connect_timeout": _SOCKET_TIMEOUT_S,
        "socket_keepalive": True,
        # For sending hints; the worker connects by its own rule, for ever.
        "max_retries": 0,
        "health_check_interval": 10,
    },
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_create_missing_queues=True,
    task_default_queue=QUEUE,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    worker_cancel_long_running_tasks_on_connection_loss=True,
    worker_hijack_root_logger=False,
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
    worker_soft_shutdown_timeout=10.0,
)

_store = RedisLearningStore(_CONFIG.redis_url)
_stopping = threading.Event()
# The task and the sweep run in two threads; two drains at once would only
# refuse each other's commits.
_draining = threading.Lock()


@app.task(name="thermesh.learn")  # type: ignore[untyped-decorator]  # Celery has no types
def learn(traceparent: str = "") -> None:
    """Take up everything that waits. `traceparent` is that of the call that hinted."""
    with telemetry.span_from(traceparent, "learner.drain"):
        _drain()


def send_hint(traceparent: str) -> None:
    """Wake the learner; blocks on the broker and raises where it is away."""
    learn.apply_async((traceparent,), retry=False)


def _drain() -> Drained:
    with _draining:
        try:
            drained = drain(_store, SystemClock(), _trace, newborn=_NEWBORN)
        except Unavailable as error:
            log.warning("%s; the next look takes it up", error.message)
            return Drained()
    if drained.feedback:
        log.info("learned from %d, version %d is live", drained.feedback, drained.version)
    return drained


def _trace(applied: FeedbackArrived, version: int) -> None:
    """Note in the trace of the request that it was learned from."""
    with telemetry.span_from(applied.decision.traceparent, "learner.apply") as span:
        span.set_attributes(
            {
                semconv.DECISION_ID: applied.decision_id,
                semconv.POLICY_VERSION: version,
                semconv.TASK: applied.decision.task,
            }
        )


def _sweep() -> None:
    while True:
        try:
            _drain()
        except Exception:
            log.exception("a look for events failed; the next one tries again")
        if _stopping.wait(_CONFIG.sweep_seconds):
            return


@signals.setup_logging.connect  # type: ignore[untyped-decorator]  # as above
def _set_up(**_: Any) -> None:
    telemetry.setup("thermesh-learner", from_env(telemetry.TelemetryConfig))
    for name in ("celery.app.trace", "celery.worker.strategy"):
        # two lines a hint; what was learned is logged here
        logging.getLogger(name).setLevel(logging.WARNING)


@signals.worker_ready.connect  # type: ignore[untyped-decorator]  # as above
def _ready(**_: Any) -> None:
    threading.Thread(target=_sweep, name="sweep", daemon=True).start()


@signals.worker_shutdown.connect  # type: ignore[untyped-decorator]  # as above
def _shut_down(**_: Any) -> None:
    _stopping.set()
    telemetry.shutdown()
