"""A supervised process is restarted with patience, given up in time, and ended for good."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermesh.cli.lifecycle import Action, Lifecycle, Limits, State

LIMITS = Limits()


@pytest.fixture
def running(clock):
    """A process that is ready."""
    life = Lifecycle(LIMITS)
    life.start(clock.monotonic())
    life.ready(clock.monotonic())
    return life


def crash_and_wait(life, clock):
    """Let the process exit and the backoff pass; return the seconds waited."""
    life.exited(clock.monotonic())
    waited = life.due - clock.monotonic()
    clock.advance(waited)
    assert life.tick(clock.monotonic()) is Action.START
    return waited


def test_start_then_ready(clock):
    """A process starts once and is ready when its check says so."""
    life = Lifecycle(LIMITS)
    assert life.start(clock.monotonic()) is Action.START
    assert life.start(clock.monotonic()) is None
    assert life.state is State.STARTING
    life.ready(clock.monotonic())
    assert life.state is State.READY
    assert life.due is None


def test_backoff_doubles_up_to_its_bound(running, clock):
    """Each crash in a row waits twice as long, up to the bound, and is tried for ever."""
    waits = [crash_and_wait(running, clock) for _ in range(9)]
    assert waits == pytest.approx([0.5, 1, 2, 4, 8, 15, 15, 15, 15])


def test_a_stable_run_forgets_earlier_crashes(running, clock):
    """After a minute of being ready the next crash waits the shortest time again."""
    crash_and_wait(running, clock)
    crash_and_wait(running, clock)
    running.ready(clock.monotonic())
    clock.advance(LIMITS.stable_seconds)
    assert crash_and_wait(running, clock) == pytest.approx(LIMITS.first_backoff_seconds)


def test_a_process_that_never_was_ready_is_given_up(clock):
    """Three failed first starts are enough: the setting or the file is wrong."""
    life = Lifecycle(LIMITS)
    life.start(clock.monotonic())
    crash_and_wait(life, clock)
    crash_and_wait(life, clock)
    life.exited(clock.monotonic())
    assert life.state is State.GIVEN_UP
    assert life.is_over


def test_a_start_that_takes_too_long_is_killed_once(clock):
    """Past the limit the process is killed, and its end counts as a crash."""
    life = Lifecycle(LIMITS)
    life.start(clock.monotonic())
    clock.advance(LIMITS.start_seconds)
    assert life.tick(clock.monotonic()) is Action.KILL
    assert life.tick(clock.monotonic()) is None
    life.exited(clock.monotonic())
    assert life.state is State.BACKING_OFF


def test_stop_asks_then_kills(running, clock):
    """A process gets its grace to drain; then it is killed."""
    assert running.stop(clock.monotonic()) is Action.TERMINATE
    assert running.tick(clock.monotonic()) is None
    clock.advance(LIMITS.grace_seconds)
    assert running.tick(clock.monotonic()) is Action.KILL
    running.exited(clock.monotonic())
    assert running.state is State.STOPPED


def test_stop_while_backing_off_starts_nothing(running, clock):
    """A process that waits for its restart is over at once."""
    running.exited(clock.monotonic())
    assert running.stop(clock.monotonic()) is None
    clock.advance(1000)
    assert running.tick(clock.monotonic()) is None
    assert running.state is State.STOPPED


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ready", "exited", "tick", "stop"]),
            st.floats(0, 200, allow_nan=False),
        ),
        max_size=40,
    )
)
def test_after_stop_nothing_is_started(steps):
    """Whatever happens in whatever order: waits are bounded, and stop is final."""
    life, now, stopped = Lifecycle(LIMITS), 0.0, False
    life.start(now)
    for name, seconds in steps:
        now += seconds
        action = getattr(life, name)(now)
        stopped = stopped or name == "stop"
        assert not (stopped and action is Action.START)
        assert life.due is None or life.due - now <= LIMITS.start_seconds + 1e-6
        if life.state is State.BACKING_OFF:
            assert life.due - now <= LIMITS.max_backoff_seconds + 1e-6
    life.stop(now)
    life.exited(now)
    assert life.is_over
