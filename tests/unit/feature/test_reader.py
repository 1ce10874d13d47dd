"""The reader: what comes in time, what comes late, and what is never waited for."""

import asyncio
import threading

import numpy as np
import pytest

from services.feature.cache import EncodingCache, MemoryStore
from services.feature.encoding import Encoding
from services.feature.extract import Reading
from services.feature.growing import Growing
from services.feature.reader import Reader, Update
from services.feature.session import SessionName, Sessions
from services.feature.tally import Tally
from services.feature.task import TaskClassifier
from services.feature.worker import EncoderWorker
from thermesh.features import INDEX
from thermesh.testing import eventually

SOON = 0.02
PLENTY = 10.0


class FakeEncoder:
    """Encodes by length, when the gate is open."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()
        self.seen = []

    def encode(self, text):
        self.seen.append(text)
        self.began.set()
        self.gate.wait()
        if text == "fail":
            raise RuntimeError("the encoder broke")
        angle = float(len(text))
        embedding = np.array([np.cos(angle), np.sin(angle)], np.float32)
        return Encoding(embedding, 0.25, 0.5, 0.125)


@pytest.fixture
def encoder():
    return FakeEncoder()


@pytest.fixture
def tally():
    return Tally()


@pytest.fixture
def stores(clock):
    return {"cache": MemoryStore(100, clock), "sessions": MemoryStore(100, clock)}


@pytest.fixture
async def reader(encoder, tally, clock, stores):
    reading = made(encoder, tally, clock, stores)
    yield reading
    encoder.gate.set()
    await reading.close()


def made(encoder, tally, clock, stores, **options):
    """A reader with parts of its own but for the stores."""
    cache = EncodingCache(
        local=MemoryStore(100, clock),
        shared=stores["cache"],
        tally=tally,
        encoder="fake",
        dimensions=2,
        ttl_seconds=60,
    )
    return Reader(
        worker=EncoderWorker(encoder.encode, 2),
        classifier=TaskClassifier(),
        cache=cache,
        sessions=Sessions(MemoryStore(100, clock), stores["sessions"], 2, 60),
        tally=tally,
        clock=clock,
        **options,
    )


async def test_a_task_told_at_a_glance_needs_no_encoder(encoder, tally, clock, stores):
    """Where the caller bounds its wait; who does not, or asks what is not told, gets it read."""
    reading = made(encoder, tally, clock, stores, sure=0.4)
    told = await vector_of(reading, Reading("Write a poem", encoder_wait_seconds=PLENTY))
    assert (told.task, told.encoder_used, encoder.seen) == ("generation", False, [])
    assert (await vector_of(reading, Reading("Write a poem"))).encoder_used
    unknown = Reading("Ventricular zebra", encoder_wait_seconds=PLENTY)
    assert (await vector_of(reading, unknown)).encoder_used
    await reading.close()


async def test_who_bounds_the_wait_is_not_kept_waiting_for_other_replicas(
    encoder, tally, clock, stores
):
    """What another process has read is read again then, and found by who does not bound it."""
    bounded = Reading("Ventricular zebra", encoder_wait_seconds=PLENTY)
    first, second = (made(encoder, tally, clock, stores) for _ in range(2))
    await first.read(Reading("Ventricular zebra"), PLENTY)
    await eventually(lambda: len(stores["cache"]) == 1)

    assert not (await second.read(bounded, PLENTY)).cached
    assert (await second.read(bounded, PLENTY)).cached
    third = made(encoder, tally, clock, stores)
    assert (await third.read(Reading("Ventricular zebra"), PLENTY)).cached
    for each in (first, second, third):
        await each.close()


async def vector_of(reader, reading):
    """The vector of a reading with plenty of time."""
    return (await reader.read(reading, PLENTY)).vector


async def test_the_first_reading_encodes_and_the_second_is_cached(reader, encoder, stores):
    """Same text, same vector bit for bit, and the encoder asked once."""
    first = await reader.read(Reading("Hello there"), PLENTY)
    await eventually(lambda: len(stores["cache"]) == 1)
    second = await reader.read(Reading("Hello there"), PLENTY)
    assert (first.cached, second.cached) == (False, True)
    assert first.vector == second.vector
    assert first.vector.encoder_used
    assert encoder.seen == ["Hello there"]


async def test_a_late_encoder_gives_the_lexical_vector_and_is_cached(
    reader, encoder, tally, stores
):
    """The budget is kept; what came too late serves the next reading."""
    encoder.gate.clear()
    late = await reader.read(Reading("Write a poem"), SOON)
    assert not late.vector.encoder_used
    assert late.vector.task == "generation"
    assert tally.failures == {("encoder", "late"): 1}
    encoder.gate.set()

    await eventually(lambda: len(stores["cache"]) == 1)
    assert (await reader.read(Reading("Write a poem"), PLENTY)).cached
    assert encoder.seen == ["Write a poem"]


async def test_a_reading_given_up_before_it_began_is_never_encoded(reader, encoder):
    """A queue of abandoned texts does not keep the encoder busy."""
    encoder.gate.clear()
    await reader.read(Reading("runs"), SOON)
    await reader.read(Reading("waits"), SOON)
    encoder.gate.set()
    assert (await reader.read(Reading("later"), PLENTY)).vector.encoder_used
    assert encoder.seen == ["runs", "later"]


async def test_a_full_queue_answers_at_once(reader, encoder, tally):
    """The fourth of four has no place in a queue of two and does not wait for one."""
    encoder.gate.clear()
    waiting = [asyncio.create_task(reader.read(Reading("0"), PLENTY))]
    await asyncio.to_thread(encoder.began.wait)
    waiting += [asyncio.create_task(reader.read(Reading(text), PLENTY)) for text in ("1", "2")]
    await eventually(lambda: tally.lookups["miss"] == 3)
    refused = await reader.read(Reading("3"), PLENTY)
    assert not refused.vector.encoder_used
    assert tally.failures == {("encoder", "full"): 1}
    encoder.gate.set()
    assert all(answer.vector.encoder_used for answer in await asyncio.gather(*waiting))


async def test_a_caller_who_left_withdraws_the_job(reader, encoder):
    """Cancellation reaches the queue and is not swallowed."""
    encoder.gate.clear()
    first = asyncio.create_task(reader.read(Reading("runs"), PLENTY))
    await asyncio.to_thread(encoder.began.wait)
    second = asyncio.create_task(reader.read(Reading("waits"), PLENTY))
    await eventually(lambda: reader._tally.lookups["miss"] == 2)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    encoder.gate.set()
    await first
    assert (await reader.read(Reading("later"), PLENTY)).vector.encoder_used
    assert encoder.seen == ["runs", "later"]


async def test_an_encoder_that_fails_is_logged_and_survived(reader, tally, caplog):
    """One bad text costs its own encoding only."""
    broken = await reader.read(Reading("fail"), PLENTY)
    assert not broken.vector.encoder_used
    assert tally.failures == {("encoder", "failed"): 1}
    assert "fail" not in {record.getMessage().split()[-1] for record in caplog.records}
    assert (await reader.read(Reading("fine"), PLENTY)).vector.encoder_used


async def test_turns_of_a_session_shift_the_topic(reader, stores):
    """The second turn is compared with the first; another session is not."""

    async def shift(text, session_id):
        answer = await reader.read(Reading(text, session_id=session_id), PLENTY)
        await asyncio.gather(*reader._writes)
        return answer.vector.values[INDEX["topic_shift"]]

    assert await shift("a", "s1") == 0.0
    assert await shift("abcd", "s1") == pytest.approx((1 - np.cos(3.0)) / 2, abs=1e-3)
    assert await shift("abcd", "s2") == 0.0
    found = await reader._sessions.get(SessionName("default", "s1"))
    assert found.turns == 2


async def test_partials_do_not_count_as_turns(reader):
    """Only the final text of a stream is a turn of its session."""

    async def updates():
        for text in ("a", "ab", "abc"):
            yield Update(Reading(text, session_id="s"), is_final=text == "abc")

    answers = [answer async for answer in reader.follow(updates(), PLENTY)]
    await asyncio.gather(*reader._writes)
    assert answers[-1][1] is True
    assert (await reader._sessions.get(SessionName("default", "s"))).turns == 1


async def test_a_reader_without_encoder_reads_lexically(clock, stores, tally):
    """`THERMESH_ENCODER=none` is a small machine's choice, not a failure."""
    cache = EncodingCache(
        local=stores["cache"],
        shared=stores["cache"],
        tally=tally,
        encoder="none",
        dimensions=0,
        ttl_seconds=60,
    )
    sessions = Sessions(stores["sessions"], stores["sessions"], 0, 60)
    reader = Reader(
        worker=None,
        classifier=TaskClassifier(),
        cache=cache,
        sessions=sessions,
        tally=tally,
        clock=clock,
    )
    answer = await reader.read(Reading("What is 2 + 2?", session_id="s"), PLENTY)
    assert not answer.vector.encoder_used
    assert answer.vector.task == "arithmetic"
    assert not tally.failures


async def followed(reader, *texts, is_final=True):
    """Follow texts one after the other, the last one final; return the answers."""
    answers = []
    asked = asyncio.Queue()

    async def updates():
        for place, text in enumerate(texts):
            yield Update(Reading(text), is_final and place == len(texts) - 1)
            await asked.get()

    async for answer, _ in reader.follow(updates(), PLENTY):
        answers.append(answer)
        asked.put_nowait(None)
    return answers


async def test_only_the_open_end_of_a_growing_text_is_encoded(reader, encoder):
    """A finished sentence is encoded once, by itself; the final text as a whole."""
    await followed(reader, "Hello there. How", "Hello there. How are", "Hello there. How are you")
    assert encoder.seen == [
        "Hello there. ",
        "How",
        "How are",
        "Hello there. How are you",
    ]


async def test_a_text_that_comes_with_many_sentences_at_once_is_read_as_a_whole(reader, encoder):
    """One pass of the encoder costs less than one for each sentence."""
    await followed(reader, "One. Two. Three. Four", is_final=False)
    assert encoder.seen == ["One. Two. Three. Four"]


async def test_segments_stand_in_for_a_final_text_that_is_late(reader, encoder, stores, tally):
    """What was read while the user spoke is better than nothing."""
    await followed(reader, "Hello there. How", is_final=False)
    await eventually(lambda: len(stores["cache"]) == 2)
    encoder.gate.clear()
    growing = Growing()
    growing.grow("Hello there. How are you")
    late = await reader.read(Reading("Hello there. How are you"), SOON, True, growing)
    encoder.gate.set()
    assert late.vector.encoder_used
    assert tally.failures == {("encoder", "late"): 1}


async def test_a_reading_may_wait_less_than_the_service_would(reader, encoder, tally):
    """Who asks knows what is hidden from the user; the rest of the budget is not used."""
    encoder.gate.clear()
    answer = await reader.read(Reading("Write a poem", encoder_wait_seconds=SOON), PLENTY)
    assert not answer.vector.encoder_used
    assert tally.failures == {("encoder", "late"): 1}


async def test_what_would_be_late_is_not_encoded(reader, encoder, tally):
    """An encoder that takes longer than may be waited for is left alone, but tried now and then."""
    await reader.read(Reading("slow"), PLENTY)
    reader._worker._mean_seconds = 1000.0
    for text in ("tried", "spared", "spared too"):
        await reader.read(Reading(text, encoder_wait_seconds=PLENTY), PLENTY)
    assert encoder.seen == ["slow", "tried"]
    assert tally.failures == {("encoder", "busy"): 2}


async def test_an_encoder_that_was_tried_again_is_believed(reader, encoder, clock):
    """What the trial took counts, so that an encoder which is quick again is used again."""
    await reader.read(Reading("slow"), PLENTY)
    reader._worker._mean_seconds = 20.0
    for number in range(12):
        clock.advance(1.0)
        await reader.read(Reading(str(number)), PLENTY)
    assert reader._worker.expected_seconds < PLENTY


async def test_an_encoder_that_had_its_share_rests(reader, encoder, tally):
    """Who says how long it waits can do without; who does not is encoded all the same."""
    await reader.read(Reading("first"), PLENTY)
    reader._worker._rests_until = float("inf")
    spared = await reader.read(Reading("optional", encoder_wait_seconds=PLENTY), PLENTY)
    needed = await reader.read(Reading("needed"), PLENTY)
    assert (spared.vector.encoder_used, needed.vector.encoder_used) == (False, True)
    assert encoder.seen == ["first", "needed"]
    assert tally.failures == {("encoder", "busy"): 1}
