"""Continuous batching: order, budget, admission, preemption."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.limits import Limits
from services.inference.request import Context, Priority, Request
from services.inference.sampling.settings import Fixed, Sampling
from services.inference.scheduling.pacing import Pace
from services.inference.scheduling.pages import PageAllocator
from services.inference.scheduling.scheduler import Scheduler
from services.inference.sequences.sequence import Sequence
from thermesh.errors import ResourceExhausted


class Reader:
    taken = 0
    is_cancelled = False


_prompts = itertools.count()


def sequence(length: int = 4, arrived: float = 0.0, **changes) -> Sequence:
    """A sequence with a prompt that no other begins with, unless one is given."""
    context = Context(
        "r",
        tenant=changes.pop("tenant", "default"),
        priority=changes.pop("priority", Priority.STANDARD),
    )
    prompt = changes.pop("prompt", (1000 + next(_prompts), *range(1, length)))
    request = Request(context, tuple(prompt), Sampling(Fixed(1.0)), 1, **changes)
    return Sequence(request, Reader(), 1000, 10_000, arrived)


def scheduler(pages: int = 100, **limits: int) -> Scheduler:
    """A scheduler to whose knowledge prompt tokens cost no time."""
    chosen = Scheduler(Limits(**limits), PageAllocator(pages))
    chosen.pace.observe(1.0, decoding=1, prompt_tokens=0)
    chosen.pace.observe(1.0, decoding=1, prompt_tokens=512)
    return chosen


def advance(scheduler: Scheduler, now: float = 0.0) -> dict[Sequence, int]:
    """Schedule a step and pretend it was computed and a token drawn."""
    work = scheduler.schedule(now)
    for item in work:
        scheduler.complete(item)
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
    assert advance(chosen)[low] <= len(low.token_ids) - 1
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


def test_equal_prompts_that_come_together_are_computed_once() -> None:
    """The others wait until the first is done, then begin with its pages; all of them
    compute the last tokens themselves."""
    chosen = scheduler(prefill_chunk=32)
    prompt = range(70)
    first, second, third = (sequence(prompt=prompt, arrived=at) for at in range(3))
    other = sequence(20, arrived=9)
    for one in (first, second, third, other):
        chosen.submit(one)
    steps = [advance(chosen) for _ in range(4)]
    assert [step.get(first) for step in steps] == [32, 32, 6, 1]
    assert steps[2] == {first: 6, second: 6, third: 6, other: 1}
    assert first.pages[:4] == second.pages[:4] == third.pages[:4]
    assert len({first.pages[4], second.pages[4], third.pages[4]}) == 3
    assert chosen.pages.used_count == 4 + 3 + len(other.pages)
    assert [one.cached_prompt_tokens for one in (first, second, third)] == [0, 64, 64]
    assert (chosen.prefix.queried_count, chosen.prefix.hit_count) == (3 * 70 + 20, 128)


def test_nobody_waits_for_a_prompt_that_comes_after() -> None:
    """A voice request computes for itself what a batch request has begun."""
    chosen = scheduler(prefill_chunk=16, step_tokens=32)
    slow = sequence(prompt=range(64), priority=Priority.BATCH)
    chosen.submit(slow)
    advance(chosen)
    voice = sequence(prompt=range(64), arrived=1, priority=Priority.VOICE)
    chosen.submit(voice)
    assert advance(chosen) == {voice: 16, slow: 16}
    assert voice.cached_prompt_tokens == 16


def test_a_conversation_goes_on_from_its_last_answer() -> None:
    """A finished sequence leaves its full pages, prompt and answer, to the next turn."""
    chosen = scheduler()
    turn = sequence(20)
    chosen.submit(turn)
    for _ in range(30):
        advance(chosen)
    said = turn.token_ids
    chosen.discard(turn)
    assert chosen.pages.used_count == 0
    following = sequence(prompt=[*said, 5, 6, 7])
    chosen.submit(following)
    assert advance(chosen) == {following: 53 - 48}
    assert following.cached_prompt_tokens == 48


def test_answers_are_computed_anew_where_prompts_are_computed_otherwise() -> None:
    """Then a next turn finds the pages of prompts alone, and copies nothing beyond."""
    chosen = scheduler(reuses_output=False)
    turn = sequence(20)
    chosen.submit(turn)
    for _ in range(30):
        advance(chosen)
    following = sequence(prompt=[*turn.token_ids, 5, 6, 7])
    chosen.submit(following)
    advance(chosen)
    # The first page whole, of the next one all but the last token of the prompt.
    assert following.cached_prompt_tokens == 19


def test_the_last_token_is_always_computed() -> None:
    """A prompt that is kept as a whole still computes a page, for its logits."""
    chosen = scheduler()
    for expected in (32, 16):
        one = sequence(prompt=range(32))
        chosen.submit(one)
        assert advance(chosen) == {one: expected}
        chosen.discard(one)


def test_tenants_share_nothing() -> None:
    """The same prompt of another tenant is computed from the beginning, and at once."""
    chosen = scheduler(prefill_chunk=16)
    mine, theirs = (sequence(prompt=range(64), tenant=name) for name in ("a", "b"))
    for one in (mine, theirs):
        chosen.submit(one)
    for _ in range(4):
        assert advance(chosen) == {mine: 16, theirs: 16}
    assert not set(mine.pages) & set(theirs.pages)


def test_without_the_prefix_cache_nothing_is_kept() -> None:
    """Switched off, equal prompts are computed side by side and freed pages are empty."""
    chosen = scheduler(prefix_cache=False)
    pair = [sequence(prompt=range(40)) for _ in range(2)]
    for one in pair:
        chosen.submit(one)
    assert advance(chosen) == dict.fromkeys(pair, 40)
    for one in pair:
        chosen.discard(one)
    assert (chosen.pages.cached_count, chosen.prefix.hit_count) == (0, 0)


def test_what_went_wrong_is_not_handed_on() -> None:
    """Pages of a sequence whose numbers cannot be trusted are not kept."""
    chosen = scheduler()
    broken = sequence(prompt=range(40))
    chosen.submit(broken)
    advance(chosen)
    chosen.distrust(broken)
    chosen.discard(broken)
    assert chosen.pages.cached_count == 0


def test_shared_pages_come_free_with_their_last_owner() -> None:
    """A higher class is not let in at the cost of sequences whose pages others keep."""
    chosen = scheduler(pages=6, max_running=8)
    prompt = range(60)
    held = sequence(prompt=prompt, priority=Priority.VOICE)
    low = sequence(prompt=prompt, arrived=1, priority=Priority.BATCH)
    for one in (held, low):
        chosen.submit(one)
        advance(chosen)
    assert chosen.pages.used_count == 5
    large = sequence(60, arrived=2, priority=Priority.INTERACTIVE)
    chosen.submit(large)
    advance(chosen)
    assert low in chosen.running
    small = sequence(10, arrived=3, priority=Priority.INTERACTIVE)
    chosen.discard(large)
    chosen.submit(small)
    advance(chosen)
    assert chosen.running == [held, small]
    assert chosen.waiting == [low]


def test_prompts_slow_running_streams_down_by_little() -> None:
    """While sequences decode, all prompts together get what the pace allows, the first
    in order first; with nobody decoding they get full chunks again."""
    chosen = scheduler(step_tokens=512, prefill_chunk=256)
    chosen.pace = Pace(stretch=2.0)
    chosen.pace.observe(0.010, decoding=1, prompt_tokens=0)
    chosen.pace.observe(0.030, decoding=1, prompt_tokens=20)
    talking = sequence(4)
    chosen.submit(talking)
    advance(chosen)
    pair = [sequence(18, arrived=at) for at in (1, 2)]
    for one in pair:
        chosen.submit(one)
    assert [advance(chosen).get(pair[0]) for _ in range(2)] == [10, 8]
    assert pair[1].computed_count == 2
    chosen.discard(talking)
    chosen.discard(pair[0])
    assert advance(chosen) == {pair[1]: 16}


def test_the_last_token_of_a_long_prompt_has_a_step_of_its_own_in_company() -> None:
    """Its step reads all of the context once, not twice; alone, nobody waits for it, and
    behind a short context it costs nothing."""
    chosen = scheduler(pages=400, step_tokens=512, prefill_chunk=512)
    alone = sequence(2200)
    chosen.submit(alone)
    assert [advance(chosen)[alone] for _ in range(5)] == [512, 512, 512, 512, 152]
    long, short = sequence(2700, arrived=1), sequence(300, arrived=2)
    chosen.submit(long)
    assert [advance(chosen)[long] for _ in range(7)] == [511, 511, 511, 511, 511, 144, 1]
    chosen.submit(short)
    assert advance(chosen)[short] == 300


def hurried() -> Scheduler:
    """A scheduler that knows its costs: 10 ms a decode step, 1 ms a prompt token."""
    chosen = Scheduler(Limits(stretch=2.0, burst_seconds=0.12), PageAllocator(100))
    chosen.pace.observe(0.010, decoding=1, prompt_tokens=0)
    chosen.pace.observe(0.020, decoding=1, prompt_tokens=10)
    return chosen


def test_a_short_prompt_joins_as_a_whole_and_goes_before_a_long_one() -> None:
    """The long one is paced, before and after; the step of the short one is its own."""
    chosen = hurried()
    talking, long = sequence(4), sequence(300, arrived=1)
    chosen.submit(talking)
    advance(chosen)
    chosen.submit(long)
    assert advance(chosen)[long] == 10
    short = sequence(100, arrived=2)
    chosen.submit(short)
    assert advance(chosen) == {talking: 1, short: 100}
    chosen.pace.observe(0.110, decoding=1, prompt_tokens=100)
    chosen.submit(sequence(100, arrived=3))
    assert advance(chosen) == {talking: 1, short: 1, long: 10}


def test_the_end_of_a_prompt_that_another_has_is_copied() -> None:
    """A second answer computes one token, on a page of its own; a prompt of another
    tenant or one that differs copies nothing."""
    chosen = scheduler()
    prompt = range(27)
    chosen.submit(first := sequence(prompt=prompt))
    advance(chosen)
    for one in (
        second := sequence(prompt=prompt, arrived=1),
        other := sequence(prompt=[*range(20), 99, 98], arrived=2),
        foreign := sequence(prompt=prompt, arrived=3, tenant="b"),
    ):
        chosen.submit(one)
    step = advance(chosen)
    assert (step[second], step[other], step[foreign]) == (1, 2, 27)
    copies = [(first.pages[1], one.pages[1]) for one in (second, other)]
    assert chosen.take_copies() == copies
    assert (second.cached_prompt_tokens, other.cached_prompt_tokens) == (26, 20)
    assert chosen.take_copies() == []


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
