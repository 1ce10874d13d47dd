"""The life of one supervised process, as a state machine without processes.

    WAITING --start--> STARTING --ready--> READY
                          |  ^               |
                   exited |  | tick, when    | exited
                          v  | due           v
                        BACKING_OFF <--------+
                          |
    GIVEN_UP <------------+  (it never became ready in `max_failed_starts` tries)

    stop: STARTING, READY --> STOPPING --exited--> STOPPED
          WAITING, BACKING_OFF --> STOPPED

Events come in with the time they happened (seconds of a monotonic clock) and
each returns what to do about it. A process that was ready once is restarted
for as long as it takes: the rest of the mesh goes on without it meanwhile.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class State(enum.Enum):
    """Where a process is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    GIVEN_UP = "failed"


class Action(enum.Enum):
    """What the owner of the process has to do now."""

    START = "start"
    TERMINATE = "terminate"
    KILL = "kill"


@dataclass(frozen=True)
class Limits:
    """How long to wait and how often to try; seconds."""

    start_seconds: float = 90.0
    grace_seconds: float = 15.0
    first_backoff_seconds: float = 0.5
    max_backoff_seconds: float = 15.0
    stable_seconds: float = 60.0
    max_failed_starts: int = 3


class Lifecycle:
    """State of one process; it knows neither clock nor operating system."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.state = State.WAITING
        self.starts = 0
        self._was_ever_ready = False
        self._crashes_in_a_row = 0
        self._since = 0.0
        self._due: float | None = None

    @property
    def is_over(self) -> bool:
        """True when nothing more will happen."""
        return self.state in {State.STOPPED, State.GIVEN_UP}

    @property
    def due(self) -> float | None:
        """When `tick` has to be called at the latest; None: no time matters."""
        return self._due

    def start(self, now: float) -> Action | None:
        """Start the process for the first time."""
        if self.state is not State.WAITING:
            return None
        return self._start(now)

    def ready(self, now: float) -> None:
        """Take note that the process answers its health check."""
        if self.state is State.STARTING:
            self._was_ever_ready = True
            self._enter(State.READY, now)

    def exited(self, now: float) -> None:
        """Take note that the process is gone, for whatever reason."""
        if self.state is State.STOPPING:
            self._enter(State.STOPPED, now)
        elif self.state in {State.STARTING, State.READY}:
            self._crashed(now)

    def stop(self, now: float) -> Action | None:
        """End the process for good."""
        if self.state in {State.STARTING, State.READY}:
            self._enter(State.STOPPING, now, self.limits.grace_seconds)
            return Action.TERMINATE
        if self.state in {State.WAITING, State.BACKING_OFF}:
            self._enter(State.STOPPED, now)
        return None

    def tick(self, now: float) -> Action | None:
        """Return what the passing of time asks for."""
        if self._due is None or now < self._due:
            return None
        if self.state is State.BACKING_OFF:
            return self._start(now)
        self._due = None  # a start or an end that takes too long is killed once
        return Action.KILL

    def _start(self, now: float) -> Action:
        self.starts += 1
        self._enter(State.STARTING, now, self.limits.start_seconds)
        return Action.START

    def _crashed(self, now: float) -> None:
        ran_long = now - self._since >= self.limits.stable_seconds
        if self.state is State.READY and ran_long:
            self._crashes_in_a_row = 0
        self._crashes_in_a_row += 1
        if not self._was_ever_ready and self.starts >= self.limits.max_failed_starts:
            self._enter(State.GIVEN_UP, now)
        else:
            self._enter(State.BACKING_OFF, now, self._backoff_seconds())

    def _backoff_seconds(self) -> float:
        doublings = min(self._crashes_in_a_row - 1, 16)
        longest = self.limits.max_backoff_seconds
        return min(longest, self.limits.first_backoff_seconds * 2.0**doublings)

    def _enter(self, state: State, now: float, seconds: float | None = None) -> None:
        self.state = state
        self._since = now
        self._due = None if seconds is None else now + seconds
