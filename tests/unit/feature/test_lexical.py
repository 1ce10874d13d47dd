"""The lexical features against cases worked out by hand."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.feature import lexical
from thermesh.features import LEXICAL_CHARACTERS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("... ?!", []),
        ("one two", ["one", "two"]),
        ("don't rock-and-roll", ["don't", "rock-and-roll"]),
        ("-dash- 'quoted'", ["dash", "quoted"]),
        ("snake_case", ["snake", "case"]),
        ("東京です", ["東", "京", "で", "す"]),
        ("GPT東京", ["GPT", "東", "京"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("cafe\u0301", ["cafe\u0301"]),
        ("3.14", ["3", "14"]),
    ],
)
def test_words_are_runs_of_letters_digits_and_marks(text, words):
    """A word is what thermesh.features says it is, in every script."""
    assert words == lexical.split_words(text)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", 0),
        ("?!", 0),
        ("no end", 1),
        ("One. Two! Three?", 3),
        ("Pi is 3.14 here.", 1),
        ("Wait... what?!", 2),
        ("first line\nsecond line\n\n", 2),
        ("今日は。明日は。", 2),
        ('He said "no." Then left.', 2),
    ],
)
def test_sentences_hold_a_word(text, sentences):
    """Ends count before a space or the end, full-width ones anywhere."""
    assert sentences == lexical.count(text).sentence_count


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("What time is it", True),
        ("It is late?", True),
        ("Who\u2019s there", True),
        ("¿Qué hora es?", True),
        ("Tell me the time.", False),
        ("Whatever you say", False),
        ("", False),
        ("?", True),
    ],
)
def test_a_question_has_a_mark_or_an_opening(text, question):
    """Either sign is enough."""
    assert question == lexical.is_question(text)


@pytest.mark.parametrize(
    ("word", "term"),
    [
        ("photosynthesis", True),
        ("backprop12", True),
        ("HTTP", True),
        ("iOS", True),
        ("x86", True),
        ("Paris", False),
        ("I", False),
        ("1984", False),
        ("tenletters", True),
        ("nineleter", False),
    ],
)
def test_terms_are_long_capital_or_mixed(word, term):
    """A capital that only opens the word makes no term."""
    assert term == lexical.is_term(word)


def test_every_feature_of_one_text_by_hand():
    """Two sentences, 11 words, one subordinator, two commas, one colon, two digits."""
    text = "If HTTP fails, retry 42 times, then stop: done. Stop ok."
    solid = len(text.replace(" ", ""))
    expected = lexical.LexicalFeatures(
        words=11,
        length=math.log(12) / math.log(4097),
        sentence_count=math.log(3) / math.log(65),
        sentence_length=11 / 2 / 40,
        clause_density=4 / 2 / 5,
        type_token_ratio=10 / 11,
        digit_ratio=2 / solid,
        code_ratio=0.0,
        question=0.0,
        terminology_density=1 / 11,
    )
    read = lexical.read(text)
    assert dataclasses.asdict(expected) == pytest.approx(dataclasses.asdict(read))


def test_code_marks_count_four_times():
    """Three marks in sixteen characters are a ratio of three quarters."""
    assert lexical.read("abcdefghijklm();").code_ratio == pytest.approx(0.75)
    assert lexical.read("x[0]={};").code_ratio == 1.0


def test_a_text_without_words_is_neutral():
    """Nothing is divided by a count of zero."""
    read = lexical.read("!!! ...")
    assert read.words == 0
    assert (read.length, read.sentence_length, read.type_token_ratio) == (0.0, 0.0, 1.0)


def test_only_the_first_characters_are_read():
    """What comes after the limit changes nothing, so a huge text costs no more."""
    start = "word " * (LEXICAL_CHARACTERS // 5 + 1)
    assert lexical.read(start[:LEXICAL_CHARACTERS]) == lexical.read(start + "?" * 1_000_000)


def test_length_of_a_long_text_is_one():
    """4096 words or more are the maximum."""
    assert lexical.read("a b " * 2048).length == 1.0


@pytest.mark.parametrize(
    ("words", "seconds", "rate"), [(12, 4.0, 0.5), (0, 1.0, 0.0), (5, 0.0, 0.0), (90, 3.0, 1.0)]
)
def test_speech_rate_is_words_a_second_over_six(words, seconds, rate):
    """Without speech there is no rate."""
    assert rate == lexical.speech_rate(words, seconds)


@given(st.text(st.characters(max_codepoint=127)))
def test_the_ascii_shortcut_splits_alike(text):
    """The faster pattern finds the words of the full one."""
    assert lexical.WORD.findall(text) == lexical.split_words(text)


@given(st.text(max_size=400))
def test_any_text_gives_values_in_range(text):
    """No Unicode text leads out of [0, 1]."""
    values = dataclasses.asdict(lexical.read(text))
    assert values.pop("words") >= 0
    assert all(0.0 <= value <= 1.0 for value in values.values())
