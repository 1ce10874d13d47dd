"""Clauses, timelines, items and settings of a realtime session."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.gateway.asking import Message, Role
from services.gateway.realtime.bodies import ResponseBody, SessionBody
from services.gateway.realtime.channel import Channel
from services.gateway.realtime.clauses import FIRST_WORDS, Clauses
from services.gateway.realtime.items import MAX_ITEMS, Item, Items
from services.gateway.realtime.latency import Latency
from services.gateway.realtime.lead import SHORT_MS, STRIDE, Lead
from services.gateway.realtime.mouth import Mouth
from services.gateway.realtime.settings import Manner, ask_of, manner_of, merged
from services.gateway.realtime.telling import Telling
from services.gateway.realtime.timeline import Timeline, heard_tokens
from thermesh.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from thermesh.testing import FakeClock

WORDS = st.text(alphabet="ab .,!?\n", max_size=200)


def cut(*pieces):
    """Clauses of an answer that came in pieces."""
    clauses = Clauses()
    return [clause for piece in pieces for clause in clauses.feed(piece)] + clauses.rest()


@given(st.lists(WORDS, max_size=12))
def test_clauses_lose_nothing(pieces):
    """The clauses joined are the answer."""
    assert "".join(cut(*pieces)) == "".join(pieces)


def test_the_first_clause_is_short_and_the_next_are_sentences():
    """Speech begins at the first comma; later commas wait for length, numbers stay whole."""
    said = "Yes, pi is 3.14 or so. It goes on, for ever. Fine"
    assert cut(said) == ["Yes, ", "pi is 3.14 or so. ", "It goes on, for ever. ", "Fine"]


def test_a_first_clause_without_a_stop_is_cut_by_words():
    """Six words without punctuation are enough to begin."""
    first = cut("one two three four five six seven eight. Nine")[0]
    assert len(first.split()) == FIRST_WORDS


def test_a_timeline_knows_the_words_heard():
    """Whole clauses count whole, the one that was cut by its share, in whole words."""
    timeline = Timeline()
    timeline.add("One two. ", 400)
    timeline.add("Three four five six.", 800)
    assert timeline.length_ms == 1200
    heard = [timeline.heard(ms) for ms in (0, 250, 400, 850, 5000)]
    assert heard == [
        "",
        "One",
        "One two. ",
        "One two. Three four",
        "One two. Three four five six.",
    ]


@given(st.lists(st.tuples(st.text("ab ", max_size=9), st.floats(1, 900)), max_size=6), st.data())
def test_who_hears_longer_hears_no_less(clauses, data):
    """What was heard is a beginning of the answer and grows with time."""
    timeline = Timeline()
    for text, length_ms in clauses:
        timeline.add(text, length_ms)
    early = data.draw(st.floats(0, 3000))
    first, later = timeline.heard(early), timeline.heard(early + data.draw(st.floats(0, 3000)))
    assert later.startswith(first)
    assert "".join(text for text, _ in clauses).startswith(later)


def test_tokens_are_heard_whole():
    """A token counts once its text was heard to the end."""
    pieces = ["Par", "is", " is", " it"]
    assert [heard_tokens(pieces, heard) for heard in ("", "Par", "Paris i", "Paris is it")] == [
        0,
        1,
        2,
        4,
    ]


def test_items_keep_their_order_and_their_bound():
    """Items go last, first or after another; ids are unique; the oldest goes when it is full."""
    items = Items()
    assert items.add(Item("b", Role.USER, "B")) is None
    assert items.add(Item("a", Role.USER, "A"), "root") is None
    assert items.add(Item("c", Role.ASSISTANT, ""), "a") == "a"
    assert items.messages() == (Message(Role.USER, "A"), Message(Role.USER, "B"))
    with pytest.raises(AlreadyExists):
        items.add(Item("a", Role.USER, "again"))
    with pytest.raises(NotFound):
        items.add(Item("d", Role.USER, "D"), "nobody")
    for number in range(MAX_ITEMS):
        items.add(Item(f"n{number}", Role.USER, "N"))
    with pytest.raises(NotFound):
        items.get("a")
    assert len(items.messages()) == MAX_ITEMS


def test_settings_change_member_by_member():
    """A patch changes what it names; null clears; what is unknown is refused."""
    settings = merged(
        SessionBody(model="m"),
        {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 0.6}}}},
    )
    assert settings.audio.input.turn_detection.threshold == 0.6
    assert settings.audio.input.turn_detection.silence_duration_ms == 500
    cleared = merged(settings, {"audio": {"input": {"turn_detection": None}}})
    assert cleared.audio.input.turn_detection is None
    assert cleared.audio.output.voice == "alloy"
    telephone = merged(settings, {"audio": {"output": {"format": {"type": "audio/pcmu"}}}})
    assert telephone.audio.output.format.rate is None
    for wrong in ({"colour": 1}, {"audio": {"output": {"speed": 9.0}}}, {"tools": [{}]}):
        with pytest.raises(ValidationError):
            merged(settings, wrong)
    with pytest.raises(InvalidArgument):
        merged(settings, {"model": "other"})


def test_a_response_differs_from_its_session_where_it_says():
    """Instructions, modality and length of a response win; voice answers have voice's priority."""
    settings = SessionBody(model="m", instructions="Long.", output_modalities=["audio"])
    wanted = ResponseBody(instructions="Short.", max_output_tokens=7)
    ask = ask_of(settings, wanted, [Message(Role.USER, "Hi")], 0, "")
    assert [turn.content for turn in ask.input.messages] == ["Short.", "Hi"]
    assert (ask.constraints.max_tokens, ask.context.priority) == (7, "voice")
    assert not manner_of(settings, ResponseBody(output_modalities=["text"])).is_spoken
    with pytest.raises(FailedPrecondition):
        ask_of(settings, wanted, [], 0, "")


def test_stages_tell_the_head_start():
    """An answer begun in the pause has a head start; its first audio counts from the turn's end."""
    latency = Latency(10.0, turn_ended=10.3, first_token=10.05, first_audio=10.31)
    told = latency.stages()
    assert told["headstart"] == pytest.approx(300)
    assert told["response"] == pytest.approx(10)
    assert told["first_token"] == pytest.approx(50)
    assert "synthesis" not in told


@given(st.integers(0, 200), st.lists(st.integers(0, 20), max_size=40))
def test_decoding_stays_within_its_lead_while_there_is_speech(tokens, heard_more):
    """With speech left the engine is never more than the lead ahead of what was heard, and
    credit comes in strides."""
    lead, heard = Lead(tokens), 0
    for more in heard_more:
        heard = min(heard + more, lead.granted)
        due = lead.due(lead.granted, heard, SHORT_MS)
        assert due == 0 or due >= STRIDE
        assert lead.granted <= heard + tokens
        assert lead.granted > heard + tokens - STRIDE


def test_decoding_goes_on_where_speech_would_run_out():
    """A sentence longer than the lead does not wait for its own end; a plenty of tokens or
    of speech does."""
    lead = Lead(16)
    assert lead.due(decoded=16, heard=0, left_ms=SHORT_MS - 1) == STRIDE
    assert lead.due(decoded=16, heard=0, left_ms=0.0) == 0
    assert lead.due(decoded=24, heard=0, left_ms=float("inf")) == 0


async def test_decoding_does_not_wait_for_speech_that_failed():
    """While a clause is being spoken there is time; where that fails there is none."""

    class Broken:
        async def speak(self, *_):
            raise Unavailable("no voice")
            yield

    async def speech_of():
        return Broken()

    clock, latency = FakeClock(), Latency(0.0)
    telling = Telling(Channel(None), clock, latency)
    manner = Manner("audio")
    mouth = Mouth(speech_of, manner, place={}, telling=telling, latency=latency, clock=clock)
    await mouth.feed("Yes, it is. ")
    assert mouth.left_ms(0.0) == float("inf")
    with pytest.raises(Unavailable):
        await mouth.run()
    assert mouth.left_ms(0.0) == 0.0
