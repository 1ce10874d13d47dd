# ruff: noqa: RUF001  # full-width punctuation is meant
"""A growing text: what is finished is read once, and nothing is lost by that."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.feature import growing, lexical
from services.feature.encoding import Encoding, cosine
from services.feature.growing import SEGMENT_WORDS, Growing, pooled

PIECES = st.sampled_from(
    [
        *("word", "Why", "x86", "e\u0301", "don't", "12,5", "3.14", "東京", "である", "f(x);"),
        *(" ", "  ", "\n", "\t", ". ", "? ", "...", "。", "！", '." ', ", ", "\u2019", "-", "_"),
    ]
)
PARTIALS = st.lists(st.lists(PIECES, max_size=12).map("".join), min_size=1, max_size=12)


def grown(partials):
    """One text after the other, each the one before and more."""
    text, growing_text = "", Growing()
    for more in partials:
        text += more
        growing_text.grow(text)
        yield text, growing_text


@given(PARTIALS)
@example(["One. ", "\n", '"Two', '." three'])
@example([" ".join(["word"] * 60), " and ", "more. Done"])
def test_lexical_features_of_a_growing_text_are_those_of_the_whole(partials):
    """At each partial exactly what reading from scratch gives."""
    for text, now in grown(partials):
        assert now.features() == lexical.read(text)


@given(PARTIALS)
def test_segments_are_the_same_whenever_they_were_cut(partials):
    """A segment that was finished stays as it was; all together hold all words."""
    finished = []
    for text, now in grown(partials):
        again = Growing()
        again.grow(text)
        assert now.segments == again.segments
        assert list(growing.cut(text))[: len(finished)] == finished
        finished = list(growing.cut(text))
        words = [word for each in now.segments for word in lexical.split_words(each)]
        assert words == lexical.split_words(text)


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("one two", []),
        ("One. Two", ["One. "]),
        ("One. ", []),
        ('She said "no." He', ['She said "no." ']),
        ("今日は。明日", ["今日は。"]),
        ("a\nb", ["a\n"]),
        ("Pi is 3.14 here", []),
        ("w " * SEGMENT_WORDS + "w", ["w " * SEGMENT_WORDS]),
    ],
)
def test_a_text_is_cut_after_sentences_and_long_stretches(text, segments):
    """Only where something follows, so that what follows cannot move the cut."""
    assert list(growing.cut(text)) == segments


def test_a_text_that_changed_its_beginning_is_read_anew():
    """A recogniser may think better of what it heard."""
    now = Growing()
    now.grow("Their are two. And then")
    now.grow("There are two. And then some")
    assert now.segments == ["There are two. ", "And then some"]
    assert now.features() == lexical.read("There are two. And then some")


def test_the_pooled_encoding_is_the_mean_weighted_by_words():
    """Three words against one: worked out by hand."""
    first = Encoding(np.array([1.0, 0.0], np.float32), 0.2, 0.4, 0.0)
    second = Encoding(np.array([0.0, 1.0], np.float32), 0.6, 0.8, 1.0)
    both = pooled(["one two three ", "four"], [first, second])
    assert both.embedding == pytest.approx(np.array([3.0, 1.0]) / np.sqrt(10.0))
    assert both.semantic_complexity == pytest.approx(0.3)
    assert (both.attention_entropy, both.vocabulary_rarity) == pytest.approx((0.5, 0.25))


def test_one_segment_is_pooled_to_itself():
    """Nothing is lost where there is nothing to pool."""
    only = Encoding(np.array([0.6, 0.8], np.float32), 0.2, 0.4, 0.5)
    assert cosine(pooled(["a b"], [only]).embedding, only.embedding) == pytest.approx(1.0)
