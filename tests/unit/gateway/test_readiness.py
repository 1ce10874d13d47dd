"""A gateway is ready with inference, and once it has met the others or waited for them."""

from services.gateway.readiness import Readiness, State
from thermesh.testing import FakeClock

ROOMS = ("feature", "controller", "inference")


def serving(*names):
    """Which of the rooms serve."""
    return {name: name in names for name in ROOMS}


def test_a_young_gateway_waits_for_everybody():
    """With inference alone it is not ready; with all it is."""
    readiness = Readiness(FakeClock(), 10.0)

    assert readiness.judge(serving("inference")) is State.NOT_READY
    assert readiness.judge(serving("inference", "feature")) is State.NOT_READY
    assert readiness.judge(serving(*ROOMS)) is State.READY


def test_who_was_met_once_is_not_waited_for_again():
    """A room that leaves degrades the gateway, young as it is."""
    readiness = Readiness(FakeClock(), 10.0)
    readiness.judge(serving("feature", "controller"))

    assert readiness.judge(serving("inference")) is State.DEGRADED
    assert readiness.judge(serving("feature", "controller")) is State.NOT_READY


def test_who_never_comes_is_not_waited_for_for_ever():
    """After its patience a gateway is ready without the others, never without inference."""
    clock = FakeClock()
    readiness = Readiness(clock, 10.0)
    clock.advance(10.0)

    assert readiness.judge(serving("inference")) is State.DEGRADED
    assert readiness.judge(serving("feature")) is State.NOT_READY
