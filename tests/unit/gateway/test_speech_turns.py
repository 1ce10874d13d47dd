"""When a speaker begins, pauses, goes on and has finished."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.speech.turns import FRAME_MS, START_FRAMES, Mark, TurnDetector

SPEECH, SILENCE = 0.95, 0.02


def marks(probabilities, silence_ms=512, threshold=0.5):
    """Marks of each frame that has any, with its number."""
    detector = TurnDetector(threshold, silence_ms)
    fed = ((number, detector.feed(one)) for number, one in enumerate(probabilities))
    return [(number, mark) for number, found in fed for mark in found]


def test_a_turn_starts_pauses_and_stops():
    """Three frames start a turn, 192 ms of silence pause it, the whole silence ends it."""
    assert marks([SPEECH] * 10 + [SILENCE] * 20) == [
        (START_FRAMES - 1, Mark.STARTED),
        (10 + 192 // FRAME_MS - 1, Mark.PAUSED),
        (10 + 512 // FRAME_MS - 1, Mark.STOPPED),
    ]


def test_speech_after_a_pause_is_the_same_turn():
    """A pause that is shorter than the silence resumes the turn."""
    found = marks([SPEECH] * 5 + [SILENCE] * 8 + [SPEECH] * 5 + [SILENCE] * 16)
    kinds = [mark for _, mark in found]
    assert kinds == [Mark.STARTED, Mark.PAUSED, Mark.RESUMED, Mark.PAUSED, Mark.STOPPED]


def test_a_click_is_no_turn():
    """Two loud frames are not speech."""
    assert marks([SILENCE, SPEECH, SPEECH, SILENCE] * 10) == []


def test_a_short_silence_pauses_and_stops_at_once():
    """Where the silence asked for is shorter than a pause, both come together."""
    found = marks([SPEECH] * 4 + [SILENCE] * 4, silence_ms=64)
    assert [mark for _, mark in found] == [Mark.STARTED, Mark.PAUSED, Mark.STOPPED]


@given(st.lists(st.floats(0, 1), max_size=300), st.integers(64, 2000))
def test_marks_come_in_order(probabilities, silence_ms):
    """Whatever is heard, marks alternate as the state machine says."""
    allowed = {
        None: {Mark.STARTED},
        Mark.STARTED: {Mark.PAUSED},
        Mark.PAUSED: {Mark.RESUMED, Mark.STOPPED},
        Mark.RESUMED: {Mark.PAUSED},
        Mark.STOPPED: {Mark.STARTED},
    }
    before = None
    for _, mark in marks(probabilities, silence_ms):
        assert mark in allowed[before]
        before = mark
