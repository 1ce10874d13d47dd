"""Constraints compiled by llguidance, on a thread of their own, and kept.

Compiling is bounded by the library's fuel, not by a clock: the same schema is
refused or taken on every machine. The masks of all constrained sequences are
computed on the engine thread, so what one mask may cost is bounded too; where
a grammar needs more, its own request ends and no other is slowed.

Why llguidance: masks of a 49,152-token vocabulary in some ten microseconds on
one core, no start-up per grammar, MIT, one wheel of 8 MB without dependencies.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from services.inference.sampling.constraint import Kind, Matcher, OutputConstraint
from thermesh.errors import FailedPrecondition, InvalidArgument, ResourceExhausted

MAX_COMPILED = 128
MAX_PENDING = 64
COMPILE_SECONDS = 5.0
_LONGEST_REASON = 300

# llguidance spends about 14 units of fuel a microsecond in the lexer; in the
# parser an ambiguous grammar was measured at one to two microseconds an item.
# So a mask costs some 10 ms at worst and a grammar 40 ms to compile.
_LIMITS = LLParserLimits(
    initial_lexer_fuel=2_000_000,
    step_lexer_fuel=40_000,
    step_max_items=5_000,
    max_items_in_row=1_000,
    max_lexer_states=50_000,
    max_grammar_size=200_000,
    verbose_errors=False,
)

# One way to write each value: a small model lost in white space never ends.
# `lenient` would pass over keywords that cannot be enforced.
_JSON_STYLE = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "coerce_one_of": False,
    "lenient": False,
}


class Vocabulary(Protocol):
    """What compiling needs of a tokenizer."""

    @property
    def vocabulary_size(self) -> int:
        """Ids are in [0, vocabulary_size)."""
        ...

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids that end a turn."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of a token, b"" for control tokens."""
        ...

    def encode_literal(self, text: str) -> list[int]:
        """Return the ids of `text` as it stands inside a longer one."""
        ...


class Grammars:
    """Makes matchers for one model; `vocabulary_size` is that of its logits."""

    def __init__(self, vocabulary: Vocabulary, vocabulary_size: int) -> None:
        self._vocabulary = vocabulary
        self._vocabulary_size = vocabulary_size
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[bytes, LLMatcher] = OrderedDict()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="grammar")
        self._pending = 0

    async def matcher_of(self, constraint: OutputConstraint | None, path: str) -> Matcher | None:
        """Return a matcher at the beginning of the language; None where there is none.

        Raises InvalidArgument naming the member below `path`, and
        ResourceExhausted while many others wait to be compiled.
        """
        if constraint is None:
            return None
        constraint.validate(path)
        key = _key(constraint)
        if key not in self._compiled:
            self._keep(key, await self._compile(constraint, f"{path}.{constraint.kind}"))
        self._compiled.move_to_end(key)
        return _Following(self._compiled[key].deep_copy(), self._vocabulary_size)

    def close(self) -> None:
        """Drop what waits; the grammar being compiled is finished."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _keep(self, key: bytes, matcher: LLMatcher) -> None:
        self._compiled[key] = matcher
        while len(self._compiled) > MAX_COMPILED:
            self._compiled.popitem(last=False)

    async def _compile(self, constraint: OutputConstraint, field: str) -> LLMatcher:
        if self._pending >= MAX_PENDING:
            raise ResourceExhausted(f"{MAX_PENDING} constraints wait to be compiled", retry_after=1)
        self._pending += 1
        work = self._executor.submit(self._compiled_matcher, constraint, field)
        # The thread cannot be interrupted: a grammar counts until it is done,
        # also where its caller went away.
        loop = asyncio.get_running_loop()
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(work), COMPILE_SECONDS)
        except TimeoutError:
            message = f"{field} could not be compiled within {COMPILE_SECONDS:.0f} s"
            raise ResourceExhausted(message, field=field, retry_after=COMPILE_SECONDS) from None

    def _done(self) -> None:
        self._pending -= 1

    def _compiled_matcher(self, constraint: OutputConstraint, field: str) -> LLMatcher:
        if self._tokenizer is None:
            self._tokenizer = _tokenizer(self._vocabulary, self._vocabulary_size)
        try:
            grammar = _grammar(constraint)
        except ValueError as error:
            raise _refusal(field, str(error)) from None
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=_LIMITS)
        # The first mask builds what every request of this grammar needs.
        is_empty = not matcher.is_error() and not any(matcher.compute_bitmask())
        if matcher.is_error() or is_empty:
            raise _refusal(field, matcher.get_error() or "it allows no output at all")
        return matcher


class _Following:
    """A matcher of llguidance on its way through one output."""

    def __init__(self, matcher: LLMatcher, vocabulary_size: int) -> None:
        self._matcher = matcher
        self._vocabulary_size = vocabulary_size

    @property
    def is_over(self) -> bool:
        return self._matcher.is_stopped() and not self._matcher.is_error()

    @property
    def is_complete(self) -> bool:
        return self._matcher.is_accepting()

    def mask(self) -> npt.NDArray[np.bool_]:
        packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        bits = np.unpackbits(packed, count=self._vocabulary_size, bitorder="little")
        if self._matcher.is_error() or not bits.any():
            raise FailedPrecondition(
                "the constraint became too complex to follow; make it simpler",
                field="start.constraint",
                reason="CONSTRAINT_TOO_COMPLEX",
            )
        return bits.view(np.bool_)

    def forced(self) -> tuple[int, ...]:
        return tuple(self._matcher.compute_ff_tokens())

    def advance(self, token_id: int) -> None:
        taken = self._matcher.consume_token(token_id)
        assert taken or self._matcher.is_error(), "a token was drawn that the mask does not allow"


class _Tokens:
    """A vocabulary in the form that llguidance reads."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary, size: int) -> None:
        pieces = [vocabulary.token_bytes(token_id) for token_id in range(size)]
        self.eos_token_id = min(vocabulary.end_ids)
        self.special_token_ids = [index for index, piece in enumerate(pieces) if not piece]
        # 0xFF marks a control token; no text holds that byte.
        self.tokens = [piece or b"\xff<%d>" % index for index, piece in enumerate(pieces)]
        self._pieces = pieces
        self._encode = vocabulary.encode_literal
        self._longest_first = _by_first_byte(pieces)

    def __call__(self, text: bytes | str) -> list[int]:
        """Return the ids of `text`, as the model would have been taught them."""
        raw = text.encode() if isinstance(text, str) else text
        token_ids = self._encode(raw.decode(errors="replace"))
        if b"".join(self._pieces[token_id] for token_id in token_ids) == raw:
            return token_ids
        return self._greedy(raw)

    def _greedy(self, raw: bytes) -> list[int]:
        token_ids = []
        while raw:
            found = next(
                (one for one in self._longest_first[raw[0]] if raw.startswith(self._pieces[one])),
                None,
            )
            if found is None:
                break
            token_ids.append(found)
            raw = raw[len(self._pieces[found]) :]
        return token_ids


def _by_first_byte(pieces: Sequence[bytes]) -> list[list[int]]:
    """Return for each byte the ids of the pieces that begin with it, longest first."""
    found: list[list[int]] = [[] for _ in range(256)]
    for token_id, piece in enumerate(pieces):
        if piece:
            found[piece[0]].append(token_id)
    for token_ids in found:
        token_ids.sort(key=lambda token_id: -len(pieces[token_id]))
    return found


def _tokenizer(vocabulary: Vocabulary, size: int) -> LLTokenizer:
    tokens = TokenizerWrapper(_Tokens(vocabulary, size))
    return LLTokenizer(tokens, n_vocab=size, eos_token=sorted(vocabulary.end_ids))


def _grammar(constraint: OutputConstraint) -> str:
    """Return the constraint in the library's own form; raise ValueError where it is malformed."""
    match constraint.kind:
        case Kind.JSON_OBJECT:
            return _json_grammar('{"type": "object"}')
        case Kind.JSON_SCHEMA:
            return _json_grammar(constraint.text)
        case Kind.REGEX:
            return LLMatcher.grammar_from_regex(constraint.text)
        case Kind.CHOICE:
            options = " | ".join(map(json.dumps, constraint.options))
            return LLMatcher.grammar_from_lark(f"start: {options}")
        case Kind.LARK:
            return LLMatcher.grammar_from_lark(constraint.text)


def _json_grammar(schema: str) -> str:
    return LLMatcher.grammar_from_json_schema(schema, overrides=_JSON_STYLE)  # type: ignore[arg-type]


def _refusal(field: str, reason: str) -> InvalidArgument:
    """Tell what the library says of the client's own text: its first line."""
    told = reason.strip().split("\n", 1)[0][:_LONGEST_REASON]
    kind = field.rpartition(".")[2]
    return InvalidArgument(f"{kind} does not compile: {told}", field=field)


def _key(constraint: OutputConstraint) -> bytes:
    parts = json.dumps([constraint.kind, constraint.text, constraint.options])
    return hashlib.sha256(parts.encode()).digest()
