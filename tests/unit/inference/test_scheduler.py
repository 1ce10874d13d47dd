"""Continuous batching: order, budget, admission, preemption."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.pages import PageAllocator
from services.inference.request import Context, Priority, Request
from services.inference.sampling import Fixed, Sampling
from services.inference.scheduler import Limits, Scheduler
from services.inference.sequence import Sequence
from thermesh.errors import ResourceExhausted


class Reader:
    taken = 0


def sequence(length: int = 4, arrived: float = 0.0, **changes) -> Sequence:
    context = Context("r", priority=changes.pop("priority", Priority.STANDARD))
    request = Request(context, tuple(range(length)), Sampling(Fixed(1.0)), 1, **changes)
    return Sequence(request, Reader(), 1000, 10_000, arrived)


def scheduler(pages: int = 100, **limits: int) -> Scheduler:
    return Scheduler(Limits(**limits), PageAllocator(pages))


def advance(scheduler: Scheduler, now: float = 0.0) -> dict[Sequence, int]:
    """Schedule a step and pretend it was computed and a token drawn."""
    work = scheduler.schedule(now)
    for item in work:
        item.sequence.advance(item.count)
    for member in scheduler.running:
        if member.remaining_count == 0 and member.may_draw(now):
            member.token_ids.append(7)
    return {item.sequence: item.count for item in work}


def test_requests_are_admitted_by_class_then_deadline_then_arrival() -> None:
    """A higher class goes first; inside it the earlier deadline, then the earlier arrival."""
    chosen = scheduler(max_running=1)
    early = sequence(arrived=1)
    late = sequence(arrived=2)
    urgent = sequence(arrived=3, deadline=50.0)
    voice = sequence(arrived=9, priority=Priority.VOICE)
    batch = sequence(arrived=0, priority=Priority.BATCH)
    for one in (late, batch, early, urgent, voice):
        chosen.submit(one)
    order = []
    while chosen.waiting:
        [first] = advance(chosen)
        order.append(first)
        chosen.discard(first)
    assert order == [voice, urgent, early, late, batch]


def test_a_full_engine_refuses_at_once() -> None:
    """One request more than running and waiting places is refused, with a time to retry."""
    chosen = scheduler(max_running=1, max_waiting=2)
    for _ in range(3):
        chosen.submit(sequence())
    with pytest.raises(ResourceExhausted) as refused:
        chosen.submit(sequence())
    assert refused.value.retry_after
    assert chosen.request_count == 3


def test_prefill_is_chunked_and_decoding_goes_on() -> None:
    """A long prompt takes its chunk of each step; a running sequence decodes in every one."""
    chosen = scheduler(step_tokens=20, prefill_chunk=16)
    decoding, long = sequence(4), sequence(40, arrived=1)
    chosen.submit(decoding)
    advance(chosen)
    chosen.submit(long)
    steps = [advance(chosen) for _ in range(3)]
    assert [step[long] for step in steps] == [16, 16, 8]
    assert [step[decoding] for step in steps] == [1, 1, 1]


def test_admission_waits_for_pages_in_order() -> None:
    """A large request at the head is not passed over by a small one that would fit."""
    chosen = scheduler(pages=10)
    first, large, small = sequence(100), sequence(80, arrived=1), sequence(4, arrived=2)
    for one in (first, large, small):
        chosen.submit(one)
    assert list(advance(chosen)) == [first]
    assert chosen.waiting == [large, small]
    chosen.discard(first)
    assert set(advance(chosen)) == {large, small}


def test_the_lowest_priority_is_preempted_when_pages_run_out() -> None:
    """The claimant gets pages of the sequence last in order, which starts again later."""
    chosen = scheduler(pages=4)
    low = sequence(16, priority=Priority.BATCH)
    high = sequence(16, arrived=1, priority=Priority.VOICE)
    chosen.submit(low)
    advance(chosen)
    chosen.submit(high)
    for _ in range(40):
        advance(chosen)
    assert chosen.waiting == [low]
    assert (low.computed_count, low.pages) == (0, [])
    assert len(low.token_ids) > 16
    chosen.discard(high)
    assert advance(chosen)[low] == len(low.token_ids) - 1
    assert chosen.preempted_count == 1


def test_the_last_in_order_waits_rather_than_preempting() -> None:
    """A sequence never takes pages from one before it."""
    chosen = scheduler(pages=3)
    high, low = sequence(15, priority=Priority.VOICE), sequence(15, arrived=1)
    chosen.submit(high)
    chosen.submit(low)
    for _ in range(20):
        advance(chosen)
        assert high in chosen.running


def test_a_sequence_without_credit_gives_way_first() -> None:
    """Pages held for a reader that gives no credit go to others, whatever the class."""
    chosen = scheduler(pages=4)
    stalled = sequence(16, priority=Priority.VOICE, initial_credit=1)
    chosen.submit(stalled)
    advance(chosen)
    eager = sequence(16, arrived=1, priority=Priority.BATCH)
    chosen.submit(eager)
    for _ in range(40):
        advance(chosen)
    assert chosen.waiting == [stalled]
    assert len(eager.token_ids) > 50
    stalled.add_credit(100)
    for _ in range(3):
        advance(chosen)
    assert chosen.running[0] is stalled


def test_a_higher_class_is_admitted_at_the_cost_of_a_lower_one() -> None:
    """A voice request takes the place of a batch one, never of its own class."""
    chosen = scheduler(max_running=2)
    batch, first = sequence(priority=Priority.BATCH), sequence(arrived=1, priority=Priority.VOICE)
    chosen.submit(batch)
    chosen.submit(first)
    advance(chosen)
    second, third = (sequence(arrived=at, priority=Priority.VOICE) for at in (2, 3))
    chosen.submit(second)
    chosen.submit(third)
    advance(chosen)
    assert chosen.running == [first, second]
    assert chosen.waiting == [third, batch]


def test_deadlines_expire_running_and_waiting() -> None:
    """Both places are searched, and the next wake-up is the earliest deadline."""
    chosen = scheduler(max_running=1)
    running, waiting = sequence(deadline=5.0), sequence(deadline=6.0)
    chosen.submit(running)
    chosen.submit(waiting)
    advance(chosen)
    assert chosen.wakes_at() == 5.0
    assert chosen.expired(4.9) == []
    assert chosen.expired(6.0) == [running, waiting]


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    priorities=st.lists(st.sampled_from(Priority), min_size=8, max_size=8),
    pages=st.integers(6, 20),
    discards=st.sets(st.integers(0, 30), max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_pages_are_never_shared_or_lost(
    lengths: list[int], priorities: list[Priority], pages: int, discards: set[int]
) -> None:
    """Over any history pages have one owner, cover what is computed, and the first
    in order gets on."""
    chosen = scheduler(pages=pages, max_running=4, step_tokens=32, prefill_chunk=16)
    for index, length in enumerate(lengths):
        chosen.submit(sequence(length, arrived=index, priority=priorities[index]))
    for step in range(31):
        before = min(chosen.sequences(), key=lambda one: one.order, default=None)
        worked = advance(chosen)
        if before is not None and len(before.token_ids) < 80:
            assert before in worked
        owned = [page for one in chosen.sequences() for page in one.pages]
        assert len(owned) == len(set(owned)) == chosen.pages.used_count
        assert all(len(one.pages) * 16 >= one.computed_count for one in chosen.running)
        assert sum(worked.values()) <= 32
        if step in discards and chosen.running:
            chosen.discard(chosen.running[0])
    for one in list(chosen.sequences()):
        chosen.discard(one)
    assert chosen.pages.used_count == 0
