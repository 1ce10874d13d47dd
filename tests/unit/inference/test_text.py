"""Incremental text: incomplete characters and stop strings."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from services.inference.sequences.text import Detokenizer


def shown(pieces: list[bytes], stop: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    """Push pieces until a stop string; return every text shown and whether it stopped."""
    detokenizer = Detokenizer(stop)
    texts = []
    for piece in pieces:
        texts.append(detokenizer.push(piece))
        if detokenizer.stopped:
            break
    else:
        texts.append(detokenizer.flush())
    return texts, detokenizer.stopped


def test_bytes_of_an_incomplete_character_are_held_back() -> None:
    """A character appears with the token that completes it."""
    euro = "€".encode()
    assert shown([b"a" + euro[:1], euro[1:2], euro[2:] + b"b"])[0] == ["a", "", "€b", ""]


def test_what_never_completes_is_replaced_at_the_end() -> None:
    """Bytes that stay incomplete come out as U+FFFD when nothing follows."""
    assert shown(["é".encode()[:1]])[0] == ["", "\ufffd"]


def test_text_that_may_become_a_stop_string_is_held_back() -> None:
    """A beginning of a stop string is shown only once it cannot become one."""
    assert shown([b"x<", b"en", b"t>"], ("<end>",))[0] == ["x", "", "<ent>", ""]


def test_a_stop_string_is_not_shown() -> None:
    """Output ends before the stop string, also inside one token."""
    assert shown([b"one\n", b"\ntwo"], ("\n\n",)) == (["one", ""], True)
    assert shown([b"one END two"], ("END",)) == (["one "], True)


def test_a_held_beginning_is_shown_at_the_end() -> None:
    """What was held back in vain comes with the last token."""
    assert "".join(shown([b"almost EN"], ("END",))[0]) == "almost EN"


def test_the_stop_string_complete_first_wins() -> None:
    """Of several stop strings the one that is complete first ends the text."""
    assert shown([b"abcd"], ("abcd", "bc")) == (["a"], True)
    assert shown([b"abc"], ("bc", "abc")) == ([""], True)


def test_nothing_follows_a_stop() -> None:
    """After a stop string pushes and flush show nothing."""
    detokenizer = Detokenizer(("!",))
    assert detokenizer.push(b"a!b") == "a"
    assert (detokenizer.push(b"c"), detokenizer.flush()) == ("", "")


def expected(text: str, stop: tuple[str, ...]) -> tuple[str, bool]:
    """Text up to the stop string that is complete first, by trying every end."""
    for end in range(len(text) + 1):
        starts = [end - len(one) for one in stop if text[:end].endswith(one)]
        if starts:
            return text[: min(starts)], True
    return text, False


@given(
    content=st.text(alphabet="abn€😀 \n", max_size=40).map(str.encode) | st.binary(max_size=40),
    cuts=st.lists(st.integers(0, 200), max_size=12),
    stop=st.lists(st.text(alphabet="abn€\n\ufffd", min_size=1, max_size=4), max_size=4).map(tuple),
)
@example("aé".encode()[:-1], [1], ("\ufffd",))
def test_any_split_gives_the_same_text(
    content: bytes, cuts: list[int], stop: tuple[str, ...]
) -> None:
    """However the bytes are split, what is shown is the text up to the stop string."""
    places = sorted({min(cut, len(content)) for cut in cuts} | {0, len(content)})
    pieces = [content[start:end] for start, end in pairwise(places)]
    texts, stopped = shown(pieces, stop)
    whole, stops = expected(content.decode("utf-8", errors="replace"), stop)
    assert ("".join(texts), stopped) == (whole, stops)
