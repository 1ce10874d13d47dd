"""The vector against cases worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.feature import extract, lexical
from services.feature.encoding import Encoding
from services.feature.extract import Reading, assemble, urgency
from services.feature.session import begin
from services.feature.task import TaskClassifier, TaskGuess
from thermesh.errors import InvalidArgument
from thermesh.features import FEATURES, INDEX

EAST, NORTH = (np.eye(2, dtype=np.float32)[axis] for axis in (0, 1))
GUESS = TaskGuess((0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1), "generation", 0.4)
NOW = 1_700_000_000_000


def vector_of(reading, encoding=None, session=None, guess=GUESS):
    return assemble(
        reading,
        lexical=lexical.read(reading.text),
        guess=guess,
        encoding=encoding,
        session=session,
        now_unix_ms=NOW,
    )


def named(vector):
    return {feature.name: vector.values[INDEX[feature.name]] for feature in FEATURES}


def test_the_lexical_path_leaves_the_encoders_features_neutral():
    """Without an encoding every feature of it has its documented neutral value."""
    values = named(vector_of(Reading("Tell me a story.")))
    for name in ("semantic_complexity", "attention_entropy", "vocabulary_rarity", "topic_shift"):
        assert values[name] == FEATURES[INDEX[name]].neutral
    assert values["encoder"] == 0.0
    assert values["task_generation"] == 0.4


def test_an_encoding_fills_its_features():
    """Complexity, attention, rarity and the shift from the session's topic stand in the vector."""
    encoding = Encoding(NORTH, 0.2, 0.3, 0.4)
    vector = vector_of(Reading("x", session_id="s"), encoding, begin(EAST))
    values = named(vector)
    assert vector.encoder_used
    assert values["semantic_complexity"] == 0.2
    assert values["attention_entropy"] == 0.3
    assert values["vocabulary_rarity"] == 0.4
    assert values["topic_shift"] == pytest.approx(0.5)
    assert values["encoder"] == 1.0


def test_the_first_turn_shifts_no_topic():
    """There is nothing to shift from."""
    vector = vector_of(Reading("x", session_id="s"), Encoding(NORTH, 0.2, 0.3, 0.4), None)
    assert named(vector)["topic_shift"] == 0.0


@pytest.mark.parametrize(("turns", "value"), [(0, 0.0), (1, 0.0), (8, 0.5), (64, 1.0), (999, 1.0)])
def test_turn_count_is_logarithmic(turns, value):
    """Eight turns are half way to sixty-four."""
    assert named(vector_of(Reading("x", turn_count=turns)))["turn_count"] == pytest.approx(value)


@pytest.mark.parametrize(
    ("waited", "remaining", "value"),
    [
        (0.0, None, 0.0),
        (2.0, None, 1 - math.exp(-1)),
        (0.0, 10.0, 0.0),
        (0.0, 60.0, 0.0),
        (0.0, 2.5, 0.75),
        (0.0, -1.0, 1.0),
        (2.0, 9.0, 1 - math.exp(-1)),
    ],
)
def test_urgency_is_the_greater_of_impatience_and_hurry(waited, remaining, value):
    """Waiting grows it, a near deadline grows it, and neither lowers the other."""
    assert urgency(waited, remaining) == pytest.approx(value)


def test_a_deadline_is_counted_from_now():
    """Five seconds left of ten are half a hurry."""
    values = named(vector_of(Reading("x", deadline_unix_ms=NOW + 5000)))
    assert values["urgency"] == pytest.approx(0.5)


def test_voice_tells_pace_and_that_it_was_spoken():
    """Six words in two seconds are half of the fastest pace."""
    values = named(vector_of(Reading("one two three four five six", speech_seconds=2.0)))
    assert (values["voice"], values["speech_rate"]) == (1.0, pytest.approx(0.5))
    typed = named(vector_of(Reading("one two three")))
    assert (typed["voice"], typed["speech_rate"]) == (0.0, 0.0)


@pytest.mark.parametrize("text", ["", "x" * (extract.MOST_TEXT_BYTES + 1), "é" * (1 << 19) + "x"])
def test_empty_and_oversized_texts_are_refused(text):
    """The error names the field; the limit is in bytes."""
    with pytest.raises(InvalidArgument) as refused:
        extract.check_text(text, "text")
    assert refused.value.field == "text"


@given(
    text=st.text(max_size=200),
    turns=st.integers(0, 2**32 - 1),
    waited=st.floats(0, 4.3e6),
    deadline=st.integers(0, 2**63 - 1),
    speech=st.none() | st.floats(0, 4.3e6),
)
def test_every_value_lies_in_its_range(text, turns, waited, deadline, speech):
    """Whatever a request says, each member is finite and in the range of its definition."""
    reading = Reading(
        text,
        turn_count=turns,
        waited_seconds=waited,
        deadline_unix_ms=deadline,
        speech_seconds=speech,
    )
    vector = vector_of(reading, guess=TaskClassifier().guess(text, None))
    assert len(vector.values) == len(FEATURES)
    for feature, value in zip(FEATURES, vector.values, strict=True):
        assert feature.minimum <= value <= feature.maximum, feature.name
