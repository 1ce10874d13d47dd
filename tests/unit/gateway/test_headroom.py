"""How long features may wait, by what prefill took lately."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.events import Usage
from services.gateway.headroom import LEAST_SECONDS, WAITING_SHARE, Headroom


def seen(*prefills_us):
    """What is known after some requests."""
    headroom = Headroom()
    for prefill_us in prefills_us:
        headroom.saw(Usage(queue_time_us=0, prefill_time_us=prefill_us))
    return headroom


def test_nothing_is_known_before_the_first_end():
    """And an engine that does not tell its times leaves it so."""
    assert seen().seconds is None
    assert seen(0).seconds is None


def test_what_prefill_hides_may_be_waited_for():
    """Less the time that deciding takes afterwards."""
    assert seen(60_000, 60_000).seconds == pytest.approx(0.03)


def test_an_encoding_is_waited_for_however_short_prompts_are():
    """What a fast engine hides is less than one encoding takes."""
    assert seen(2_000, 8_000).seconds == LEAST_SECONDS


def test_queueing_counts_as_well():
    """Who waits for a place has more time to decide."""
    headroom = Headroom()
    headroom.saw(Usage(queue_time_us=80_000, prefill_time_us=20_000))
    assert headroom.seconds == pytest.approx(0.05)


def test_it_goes_down_quickly_and_up_slowly():
    """One short prefill counts for more than one long one."""
    down = seen(80_000, 40_000).seconds
    up = seen(40_000, 80_000).seconds
    assert down == pytest.approx(0.03)
    assert up == pytest.approx(0.022)


@given(st.lists(st.integers(30_000, 1_000_000), min_size=1))
def test_it_stays_within_what_was_seen(prefills_us):
    """Between the shortest and the longest."""
    hidden_us = seen(*prefills_us).seconds / WAITING_SHARE * 1e6
    assert min(prefills_us) - 1 <= hidden_us <= max(prefills_us) + 1
