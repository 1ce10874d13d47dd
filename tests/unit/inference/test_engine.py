"""Steps of the decoder, and the thread that takes them."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator, Callable

import pytest
from fake_model import VOCABULARY_SIZE, FakeNetwork, FakeTokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.inference.decoding.decoder import Decoder
from services.inference.decoding.warmup import warm_up
from services.inference.engine import Engine
from services.inference.events import Applied, Ended, FinishReason, Token
from services.inference.limits import Limits
from services.inference.request import Plan, Priority, Source, Update
from services.inference.sampling.settings import Fixed, Sampling
from services.inference.stream import MAX_PENDING_COMMANDS, Stream
from thermesh.clock import SystemClock
from thermesh.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from thermesh.testing import FakeClock, eventually

from .conftest import Bench, make_request

MakeBench = Callable[..., Bench]


def alone(clock: FakeClock, prompt: str, **changes) -> list[int]:
    bench = Bench(clock)
    reader = bench.submit(prompt, **changes)
    bench.run()
    return bench.ids(reader)


def test_a_request_decodes_to_its_budget(bench: Bench) -> None:
    """Tokens come with consecutive indices, then the end; pages are free again."""
    reader = bench.submit(max_tokens=5)
    bench.run()
    assert [token.index for token in bench.tokens(reader)] == [0, 1, 2, 3, 4]
    assert bench.end(reader).finish_reason is FinishReason.LENGTH
    assert bench.decoder.load().kv_pages_used == 0


def test_company_does_not_change_the_output(clock: FakeClock, make_bench: MakeBench) -> None:
    """Many at once, chunked prefill and preemption give the tokens each gives alone."""
    prompts = ["a", "quite a bit longer than one page", "hello", "sixteen letters!"]
    expected = [alone(clock, prompt, max_tokens=40) for prompt in prompts]
    bench = make_bench(pages=7, step_tokens=24, prefill_chunk=16)
    readers = [bench.submit(prompt, max_tokens=40) for prompt in prompts]
    bench.run()
    assert [bench.ids(reader) for reader in readers] == expected
    assert bench.decoder.scheduler.preempted_count > 0


@given(st.data())
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_schedule_replays(clock: FakeClock, data: st.DataObject) -> None:
    """Whatever arrives, is cancelled or lacks credit when, tokens depend on the request
    alone and all pages come back."""
    bench = Bench(clock, pages=data.draw(st.integers(8, 16)), max_running=3, prefill_chunk=16)
    prompts = data.draw(st.lists(st.text("abc", min_size=1, max_size=40), min_size=1, max_size=5))
    readers = {}
    for prompt in prompts:
        credit = data.draw(st.integers(0, 3))
        readers[bench.submit(prompt, max_tokens=20, initial_credit=credit)] = prompt
        for _ in range(data.draw(st.integers(0, 4))):
            bench.step()
    for reader in readers:
        if data.draw(st.booleans()):
            bench.decoder.cancel(reader)
        bench.decoder.credit(reader, 50)
    bench.run()
    for reader, prompt in readers.items():
        tokens = bench.ids(reader)
        assert tokens == alone(clock, prompt, max_tokens=20)[: len(tokens)]
        assert isinstance(bench.end(reader), Ended)
    assert bench.decoder.load().kv_pages_used == 0
    assert len(bench.outcomes) == len(readers)


def test_equal_prompts_give_what_each_gives_alone(make_bench: MakeBench) -> None:
    """Answers to one prompt share its pages, differ by their seeds alone, and come with
    the number of tokens that were not computed."""
    prompt = "three pages of a prompt that several answers are wanted to"
    expected = [alone(FakeClock(), prompt, seed=seed) for seed in (1, 2, 3)]
    bench = make_bench()
    readers = [bench.submit(prompt, seed=seed, request_id=str(seed)) for seed in (1, 2, 3)]
    for _ in range(3):
        bench.step()
    assert bench.decoder.load().kv_pages_used == 3 + 3
    bench.run()
    assert [bench.ids(reader) for reader in readers] == expected
    cached = [bench.end(reader).usage.cached_prompt_tokens for reader in readers]
    assert cached == [0, 57, 57]
    load = bench.decoder.load()
    assert (load.kv_pages_used, load.prefix_tokens_hit) == (0, 114)
    assert load.kv_pages_cached > 0


def test_a_row_that_is_no_distribution_is_not_kept(bench: Bench) -> None:
    """What a broken request computed is not given to the next one."""
    bench.network.broken_id = ord("?")
    bench.submit("two pages of a prompt that the model cannot bear?")
    bench.run()
    assert bench.decoder.load().kv_pages_cached == 0


def test_warming_up_leaves_nothing_behind(bench: Bench) -> None:
    """Steps are taken, nothing is kept or told, and no statistics count them."""
    before = bench.decoder.load()
    warm_up(bench.decoder, VOCABULARY_SIZE, 512)
    assert bench.network.steps > 0
    assert dataclasses.replace(bench.decoder.load(), step_time_us=0) == before
    assert not bench.decoder.take_result()
    bench.submit("hello")
    bench.run()
    assert [outcome.context.request_id for outcome in bench.outcomes] == ["req-1"]


def test_warming_up_fits_any_cache(make_bench: MakeBench) -> None:
    """A cache too small for the usual warm-up is no reason not to start."""
    for pages in (1, 2):
        bench = make_bench(pages=pages)
        warm_up(bench.decoder, VOCABULARY_SIZE, 16 * pages)
        assert bench.decoder.load().waiting == bench.decoder.load().running == 0


def test_an_update_holds_from_the_acknowledged_token(bench: Bench) -> None:
    """Telemetry shows the new temperature and revision from exactly that index."""
    reader = bench.submit(max_tokens=10)
    for _ in range(4):
        bench.step()
    bench.decoder.update(reader, Update(Source.CLIENT, 1, program=Fixed(0.3)))
    bench.run()
    [applied] = [event for event in bench.events[reader] if isinstance(event, Applied)]
    assert (applied.revision, applied.token_index) == (1, 4)
    seen = [(token.temperature, token.revision) for token in bench.tokens(reader)]
    assert seen == [(1.0, 0)] * 4 + [(0.3, 1)] * 6
    assert bench.events[reader].index(applied) == 4


def test_a_plan_during_prefill_governs_the_first_token(bench: Bench) -> None:
    """A sequence that expects a plan waits for it while others decode."""
    waiting = bench.submit(expects_plan=True, plan_grace_seconds=1.0, request_id="w")
    other = bench.submit(request_id="o")
    for _ in range(3):
        bench.step()
    assert (len(bench.tokens(waiting)), len(bench.tokens(other))) == (0, 3)
    bench.decoder.plan(waiting, Plan(Sampling(Fixed(0.2)), seed=5, decision_id="dec-1"))
    bench.run()
    assert {token.temperature for token in bench.tokens(waiting)} == {0.2}
    assert bench.ids(waiting) == alone(bench.clock, "hello", sampling=Sampling(Fixed(0.2)), seed=5)


def test_without_a_plan_the_grace_ends(bench: Bench) -> None:
    """After the grace the sequence goes on; a late plan holds from the next token."""
    reader = bench.submit(expects_plan=True, plan_grace_seconds=0.025)
    assert bench.step(seconds=0.02)
    assert not bench.step(seconds=0.005)
    assert bench.step()
    assert len(bench.tokens(reader)) == 1
    bench.decoder.plan(reader, Plan(Sampling(Fixed(0.2)), seed=5))
    bench.run()
    assert [token.temperature for token in bench.tokens(reader)] == [1.0] + [0.2] * 7


def test_a_failing_step_ends_its_requests_only(bench: Bench) -> None:
    """The batch that failed ends with Internal, and the decoder goes on."""
    bench.network.failing_id = ord("!")
    bad = bench.submit("bad!")
    bench.step()
    assert isinstance(bench.end(bad).error, Internal)
    assert "fake" not in str(bench.end(bad).error)
    good = bench.submit("good")
    bench.run()
    assert len(bench.tokens(good)) == 8
    assert bench.decoder.load().kv_pages_used == 0


def test_a_row_that_is_no_distribution_ends_one_request(bench: Bench) -> None:
    """NaN logits of one sequence do not touch its neighbours."""
    bench.network.broken_id = ord("?")
    bad, good = bench.submit("bad?"), bench.submit("good")
    bench.run()
    assert isinstance(bench.end(bad).error, Internal)
    assert len(bench.tokens(good)) == 8


def test_a_deadline_ends_a_request_wherever_it_is(make_bench: MakeBench) -> None:
    """Running or waiting, a request past its deadline ends and takes no further step."""
    bench = make_bench(max_running=1)
    deadline = bench.clock.monotonic() + 0.05
    running = bench.submit(max_tokens=0, deadline=deadline)
    waiting = bench.submit(max_tokens=0, deadline=deadline)
    bench.run()
    for reader in (running, waiting):
        assert bench.end(reader).finish_reason is FinishReason.DEADLINE
        assert isinstance(bench.end(reader).error, DeadlineExceeded)
    assert bench.decoder.load().running == bench.decoder.load().waiting == 0


def test_text_and_candidates_come_with_tokens(bench: Bench) -> None:
    """Candidates carry text and the model's own log-probability, best first."""
    reader = bench.submit(candidate_count=3, max_tokens=2)
    bench.run()
    for token in bench.tokens(reader):
        scores = [score for _, _, score in token.candidates]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) == 3


def test_telemetry_and_outcome_name_the_decision(bench: Bench) -> None:
    """Reports come every N tokens and the outcome has the whole trace."""
    bench.decoder.report_every_tokens = 4
    reader = bench.submit(max_tokens=10)
    plan = Plan(Sampling(Fixed(0.5)), 1, decision_id="dec-7", scenario="code", is_pinned=True)
    bench.decoder.plan(reader, plan)
    bench.run()
    assert [report.token_count for report in bench.telemetry] == [4, 8]
    assert {(report.decision_id, report.is_pinned) for report in bench.telemetry} == {
        ("dec-7", True)
    }
    [outcome] = bench.outcomes
    assert outcome.plan == plan
    assert outcome.temperatures == (0.5,) * 10


def test_a_revision_names_its_request(bench: Bench) -> None:
    """The controller's changes find a running request by id; unknown ids are ignored."""
    reader = bench.submit(request_id="req-9")
    bench.step()
    bench.decoder.revise("req-unknown", Update(Source.CONTROLLER, 1, program=Fixed(0.3)))
    bench.decoder.revise("req-9", Update(Source.CONTROLLER, 1, program=Fixed(0.3)))
    bench.run()
    assert [token.temperature for token in bench.tokens(reader)] == [1.0] + [0.3] * 7


# The thread.


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """A running engine with few places."""
    limits = Limits(max_running=2, max_waiting=2)
    network = FakeNetwork()
    decoder = Decoder(network, FakeTokenizer(), limits, 128, SystemClock())
    engine = Engine(
        decoder, limits, context_length=512, vocabulary_size=VOCABULARY_SIZE, clock=SystemClock()
    )
    engine.network = network
    engine.start()
    yield engine
    network.gate.set()
    await engine.stop()


async def whole(stream: Stream) -> list:
    events = []
    while not events or not isinstance(events[-1], Ended):
        events += await stream.take()
    return events


async def test_a_stream_delivers_everything_in_order(engine: Engine) -> None:
    """All tokens, then the end; afterwards the engine is empty and asleep."""
    stream = engine.open(make_request(max_tokens=300))
    events = await whole(stream)
    assert [event.index for event in events[:-1]] == list(range(300))
    stream.close()
    await eventually(lambda: engine.load().running == 0)
    steps = engine.network.steps
    await asyncio.to_thread(threading.Event().wait, 0.05)
    assert engine.network.steps == steps


async def test_an_engine_warms_up_on_its_own_thread(engine: Engine) -> None:
    """It returns when the steps were taken, and is idle then."""
    await engine.warm_up()
    assert engine.network.steps > 0
    assert engine.load().running == engine.load().waiting == 0


async def test_one_callback_delivers_a_step(engine: Engine) -> None:
    """Events of all streams cross to the event loop together."""
    crossings = []
    engine.listeners.append(lambda result: crossings.append(len(result.events)))
    engine.network.gate.clear()
    streams = [engine.open(make_request(request_id=name, max_tokens=5)) for name in "ab"]
    engine.network.gate.set()
    for stream in streams:
        await whole(stream)
    assert max(crossings) >= 2
    assert sum(crossings) == 12


async def test_closing_a_stream_frees_its_pages(engine: Engine) -> None:
    """A closed stream's sequence is gone and accounted for as cancelled."""
    outcomes = []
    engine.listeners.append(lambda result: outcomes.extend(result.outcomes))
    stream = engine.open(make_request(max_tokens=0))
    await stream.take()
    stream.close()
    await eventually(lambda: engine.load().kv_pages_used == 0 and bool(outcomes))
    assert outcomes[0][1].finish_reason is FinishReason.CANCELLED


async def test_a_cancellation_is_exact(engine: Engine) -> None:
    """It holds at once: no token of the step in flight comes after it, and end and outcome
    count the tokens that were kept."""
    outcomes = []
    engine.listeners.append(lambda result: outcomes.extend(result.outcomes))
    for kept in (None, 1):
        stream = engine.open(make_request(max_tokens=0))
        taken = await stream.take()
        engine.network.gate.clear()
        stream.cancel(kept)
        engine.network.gate.set()
        [end] = await whole(stream)
        keeps = len(taken) if kept is None else kept
        assert (end.finish_reason, end.usage.completion_tokens) == (FinishReason.CANCELLED, keeps)
        assert outcomes[-1][1].usage == end.usage
        assert len(outcomes[-1][1].temperatures) == keeps


async def test_a_cancellation_after_the_end_drops_what_was_not_taken(engine: Engine) -> None:
    """Tokens and end wait to be read when the client interrupts: only the end is told."""
    ends = []
    engine.listeners.append(lambda result: ends.extend(result.outcomes))
    stream = engine.open(make_request(max_tokens=5))
    await eventually(lambda: bool(ends))
    stream.cancel()
    [end] = await whole(stream)
    assert (end.usage.completion_tokens, end.discarded) == (0, 5)


async def test_a_slow_reader_holds_its_sequence_only(engine: Engine) -> None:
    """Without taking, decoding stops at the bound; taking lets it go on."""
    slow = engine.open(make_request(max_tokens=0, initial_credit=3, request_id="slow"))
    await whole(engine.open(make_request(max_tokens=100, request_id="other")))
    tokens = []
    while len(tokens) < 3:
        tokens += await slow.take()
    slow.credit(2)
    while len(tokens) < 5:
        tokens += await slow.take()
    assert all(isinstance(token, Token) for token in tokens)
    assert len(tokens) == 5


async def test_a_full_engine_refuses_before_it_answers(engine: Engine) -> None:
    """With all places taken `open` raises at once, also while a step runs."""
    engine.network.gate.clear()
    for number in range(4):
        engine.open(make_request(request_id=str(number)))
    with pytest.raises(ResourceExhausted) as refused:
        engine.open(make_request())
    assert refused.value.retry_after == 1.0


async def test_a_draining_engine_finishes_what_it_has(engine: Engine) -> None:
    """New requests are refused as Unavailable; the open one ends normally."""
    stream = engine.open(make_request(max_tokens=20))
    engine.drain()
    with pytest.raises(Unavailable):
        engine.open(make_request())
    assert (await whole(stream))[-1].finish_reason is FinishReason.LENGTH


async def test_changes_that_wait_are_bounded(engine: Engine) -> None:
    """A client cannot queue more changes than a token boundary can clear."""
    engine.network.gate.clear()
    stream = engine.open(make_request(max_tokens=0))
    await eventually(lambda: not engine._inbox)
    for _ in range(MAX_PENDING_COMMANDS):
        stream.update(Update(Source.CLIENT, 1, program=Fixed(0.5)))
    with pytest.raises(ResourceExhausted):
        stream.update(Update(Source.CLIENT, 1, program=Fixed(0.5)))


async def test_bad_credit_is_refused(engine: Engine) -> None:
    """Credit outside [1, 65536] names its field."""
    stream = engine.open(make_request())
    for tokens in (0, 65_537):
        with pytest.raises(InvalidArgument) as refused:
            stream.credit(tokens)
        assert refused.value.field == "credit.tokens"


async def test_priority_goes_first_into_a_free_place(engine: Engine) -> None:
    """Of two that wait, the higher class runs first."""
    engine.network.gate.clear()
    for number in range(2):
        engine.open(make_request(request_id=str(number), max_tokens=30, priority=Priority.VOICE))
    await eventually(lambda: not engine._inbox)
    ended = []
    engine.listeners.append(
        lambda result: ended.extend(one.context.request_id for _, one in result.outcomes)
    )
    engine.open(make_request(request_id="batch", priority=Priority.BATCH, max_tokens=5))
    engine.open(make_request(request_id="voice", priority=Priority.VOICE, max_tokens=5))
    engine.network.gate.set()
    await eventually(lambda: len(ended) == 4)
    assert ended.index("voice") < ended.index("batch")


async def test_a_broken_listener_does_not_stop_delivery(engine: Engine) -> None:
    """An error of a listener is logged; streams go on."""

    def broken(result: object) -> None:
        raise RuntimeError("broken")

    engine.listeners.append(broken)
    assert len(await whole(engine.open(make_request(max_tokens=5)))) == 6
