"""Constraints compiled: what is allowed next, what is refused, what is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from fake_model import END_ID, VOCABULARY_SIZE, FakeTokenizer
from llguidance import LLParserLimits

from services.inference.sampling import grammar
from services.inference.sampling.constraint import Kind, OutputConstraint
from services.inference.sampling.grammar import Grammars
from thermesh.errors import FailedPrecondition, InvalidArgument

PATH = "start.constraint"
PADDED = VOCABULARY_SIZE + 12
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "population": {"type": "integer"}},
        "required": ["city", "population"],
        "additionalProperties": False,
    }
)


@pytest.fixture
def grammars() -> Iterator[Grammars]:
    """Grammars over bytes, for a network whose vocabulary is padded."""
    compiling = Grammars(FakeTokenizer(), PADDED)
    yield compiling
    compiling.close()


def constraint(kind: Kind, text: str = "", *options: str) -> OutputConstraint:
    return OutputConstraint(kind, text, options)


async def follows(grammars: Grammars, wanted: OutputConstraint, text: str) -> str:
    """Feed `text` byte by byte; return what of it the language took."""
    matcher = await grammars.matcher_of(wanted, PATH)
    for index, byte in enumerate(text.encode()):
        if matcher.is_over or not matcher.mask()[byte]:
            return text.encode()[:index].decode()
        matcher.advance(byte)
    return text if matcher.is_complete else f"{text}..."


@pytest.mark.parametrize(
    ("wanted", "text", "taken"),
    [
        (constraint(Kind.JSON_OBJECT), '{"a": [1, null]}', '{"a": [1, null]}'),
        (constraint(Kind.JSON_OBJECT), "[1]", ""),
        (constraint(Kind.JSON_OBJECT), '{\n"a": 1}', "{"),
        (
            constraint(Kind.JSON_SCHEMA, SCHEMA),
            '{"city": "Köln", "population": 3}',
            '{"city": "Köln", "population": 3}',
        ),
        (constraint(Kind.JSON_SCHEMA, SCHEMA), '{"city": 7', '{"city": '),
        (constraint(Kind.JSON_SCHEMA, SCHEMA), '{"city": "Oslo"}', '{"city": "Oslo"'),
        (constraint(Kind.JSON_SCHEMA, "{}"), "[1, {}]", "[1, {}]"),
        (constraint(Kind.REGEX, "[a-c]{2}x?"), "abx", "abx"),
        (constraint(Kind.REGEX, "[a-c]{2}x?"), "ad", "a"),
        (constraint(Kind.REGEX, "[a-c]{2}"), "a", "a..."),
        (constraint(Kind.CHOICE, "", "yes", 'no "way"'), 'no "way"', 'no "way"'),
        (constraint(Kind.CHOICE, "", "yes", "no"), "nay", "n"),
        (constraint(Kind.LARK, 'start: "(" start ")" | "x"'), "((x))", "((x))"),
        (constraint(Kind.LARK, 'start: "(" start ")" | "x"'), "((x)x", "((x)"),
    ],
)
async def test_the_mask_allows_the_language_and_nothing_else(grammars, wanted, text, taken):
    """Each kind takes texts of its language up to the first byte outside it."""
    assert await follows(grammars, wanted, text) == taken


async def test_the_end_of_a_turn_is_allowed_where_the_output_is_complete(grammars):
    """End tokens are masked inside an output and allowed after a whole one."""
    matcher = await grammars.matcher_of(constraint(Kind.REGEX, "ab*"), PATH)
    assert not matcher.mask()[END_ID]
    matcher.advance(ord("a"))
    assert (bool(matcher.mask()[END_ID]), matcher.is_complete, matcher.is_over) == (
        True,
        True,
        False,
    )
    matcher.advance(END_ID)
    assert matcher.is_over


async def test_a_language_that_allows_no_more_is_over_at_once(grammars):
    """The last byte of a closed language ends it, without an end token."""
    matcher = await grammars.matcher_of(constraint(Kind.CHOICE, "", "ok"), PATH)
    for byte in b"ok":
        assert not matcher.is_over
        matcher.advance(byte)
    assert matcher.is_over


async def test_control_tokens_and_padding_are_never_allowed(grammars):
    """Text of any kind never holds a control token or an id beyond the tokenizer's."""
    matcher = await grammars.matcher_of(constraint(Kind.REGEX, r"(?s:.*)"), PATH)
    mask = matcher.mask()
    assert len(mask) == PADDED
    assert mask[ord("a")]
    assert mask[END_ID]
    assert not mask[END_ID + 1 :].any()


async def test_two_requests_with_one_grammar_do_not_disturb_each_other(grammars):
    """A kept grammar gives every request a matcher at the beginning."""
    wanted = constraint(Kind.REGEX, "abc")
    first = await grammars.matcher_of(wanted, PATH)
    first.advance(ord("a"))
    second = await grammars.matcher_of(wanted, PATH)
    assert np.flatnonzero(second.mask()).tolist() == [ord("a")]
    assert np.flatnonzero(first.mask()).tolist() == [ord("b")]


async def test_only_so_many_grammars_are_kept(grammars, monkeypatch):
    """The grammar that was used longest ago is dropped first."""
    monkeypatch.setattr(grammar, "MAX_COMPILED", 2)
    for text in ("a", "b", "a", "c"):
        await grammars.matcher_of(constraint(Kind.REGEX, text), PATH)
    kept = [grammar._key(constraint(Kind.REGEX, text)) for text in "ac"]
    assert list(grammars._compiled) == kept


REFUSED = [
    ("empty schema", constraint(Kind.JSON_SCHEMA), "json_schema", "1 to 65536 bytes"),
    ("large regex", constraint(Kind.REGEX, "a" * 65_537), "regex", "1 to 65536 bytes"),
    ("not JSON", constraint(Kind.JSON_SCHEMA, "{bad"), "json_schema", "valid JSON"),
    ("deep JSON", constraint(Kind.JSON_SCHEMA, "[" * 30_000), "json_schema", "valid JSON"),
    ("a list", constraint(Kind.JSON_SCHEMA, "[1]"), "json_schema", "a JSON object"),
    ("bad type", constraint(Kind.JSON_SCHEMA, '{"type": "objet"}'), "json_schema", "objet"),
    ("keyword", constraint(Kind.JSON_SCHEMA, '{"not": {}}'), "json_schema", "not"),
    (
        "hidden",
        constraint(Kind.JSON_SCHEMA, '{"x-guidance":{"lenient":true},"not":{}}'),
        "json_schema",
        "not",
    ),  # one case a line
    (
        "pointer",
        constraint(Kind.JSON_SCHEMA, '{"$ref": "#/$defs/x"}'),
        "json_schema",
        "does not exist",
    ),  # one case a line
    (
        "remote",
        constraint(Kind.JSON_SCHEMA, '{"$ref": "http://example.com/"}'),
        "json_schema",
        "does not compile",
    ),  # one case a line
    ("nothing fits", constraint(Kind.JSON_SCHEMA, '{"enum": []}'), "json_schema", "nsatisfiable"),
    ("regex", constraint(Kind.REGEX, "[a-"), "regex", "regex"),
    ("look-ahead", constraint(Kind.REGEX, "a(?=b)"), "regex", "does not compile"),
    ("nothing matches", constraint(Kind.REGEX, "[^\\s\\S]"), "regex", "does not compile"),
    ("unknown rule", constraint(Kind.LARK, "start: other"), "lark", "other"),
    ("no options", constraint(Kind.CHOICE), "choice.options", "1 to 256 members"),
    ("empty option", constraint(Kind.CHOICE, "", "a", ""), "choice.options[1]", "1 to 1024"),
]


@pytest.mark.parametrize(
    ("wanted", "field", "told"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
async def test_what_cannot_be_enforced_is_refused(grammars, wanted, field, told):
    """A constraint that is empty, too large or does not compile names its member."""
    with pytest.raises(InvalidArgument) as refusal:
        await grammars.matcher_of(wanted, PATH)
    assert refusal.value.field == f"{PATH}.{field}"
    assert told in refusal.value.message
    assert len(refusal.value.message) < 400


async def test_a_grammar_that_costs_too_much_ends_its_own_request(grammars, monkeypatch):
    """An ambiguous grammar runs out of fuel while it is followed, not the step out of time."""
    monkeypatch.setattr(grammar, "_LIMITS", LLParserLimits(step_max_items=500))
    matcher = await grammars.matcher_of(
        constraint(Kind.LARK, 'start: a\na: a a | "x" | "y" | ""'), PATH
    )

    def follow():
        for _ in range(1000):
            matcher.mask()
            matcher.advance(ord("x"))

    with pytest.raises(FailedPrecondition, match="too complex"):
        follow()
    assert not matcher.is_over
