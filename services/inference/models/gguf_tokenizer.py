"""The tokenizer that a GGUF file describes.

A GGUF file holds the vocabulary and names, in `tokenizer.ggml.pre`, how text is
cut before merging; the cutting itself is knowledge of the reader. Each rule
below is that of the original `tokenizer.json` of the models concerned, with
which llama.cpp (`llama_vocab::impl::load` in llama-vocab.cpp) agrees.

transformers 5.23 cuts `smollm` files as GPT-2 does, where the original cuts
digits apart first: ids differ where several spaces precede a digit. Here the
original counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from services.inference.models.chat_template import ChatTemplate
from services.inference.models.gguf_file import GgufFile
from services.inference.models.refusal import malformed, unsupported
from services.inference.models.tokenizer import (
    END_TOKENS,
    byte_alphabet,
    byte_level_piece,
    sentencepiece_piece,
)
from services.inference.models.tokenizer import Tokenizer as MeshTokenizer

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 1, 2, 3, 4, 5
"""Token types of the specification (`tokenizer.ggml.token_type`)."""

_SPECIAL_TOKENS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
"""Variable of chat templates -> key below `tokenizer.ggml`."""

_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LLAMA3 = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class _Cutting:
    """How a byte-level vocabulary wants text cut before merging."""

    regex: str | None = None
    """None: GPT-2's, which the library knows by itself."""
    digits_apart: bool = False
    ignore_merges: bool = False
    """A whole piece that is a token needs no merging (vocabularies of tiktoken)."""
    composed: bool = False
    """Unicode NFC first."""
    begins_sequence: bool = False
    """Begin-of-sequence token where the file does not say."""


_LLAMA3_CUTTING = _Cutting(_LLAMA3, ignore_merges=True, begins_sequence=True)
_CUTTINGS = {
    "default": _Cutting(),
    "gpt-2": _Cutting(),
    "smollm": _Cutting(digits_apart=True),
    "llama-bpe": _LLAMA3_CUTTING,
    "llama3": _LLAMA3_CUTTING,
    "llama-v3": _LLAMA3_CUTTING,
    "qwen2": _Cutting(_QWEN2, composed=True),
    "deepseek-r1-qwen": _Cutting(_QWEN2, begins_sequence=True),
    "tekken": _Cutting(_TEKKEN, ignore_merges=True, begins_sequence=True),
}


@dataclass(frozen=True)
class _Vocabulary:
    tokens: Sequence[str]
    kinds: Sequence[int]


def read_tokenizer(file: GgufFile) -> MeshTokenizer:
    """Build the tokenizer; raise where its kind is unknown or its metadata broken."""
    model = file.require("tokenizer.ggml.model", str)
    if model not in ("gpt2", "llama"):
        raise unsupported(file.path, f"tokenizer {model} is not supported, only gpt2, llama")
    vocabulary = _read_vocabulary(file)
    build = _byte_level if model == "gpt2" else _sentencepiece
    backend, piece, begins_sequence = build(file, vocabulary)
    _add_whole_tokens(backend, vocabulary)
    return MeshTokenizer(
        backend,
        [
            _piece(token, kind, piece)
            for token, kind in zip(vocabulary.tokens, vocabulary.kinds, strict=True)
        ],
        _end_ids(file, vocabulary),
        _template(file, vocabulary),
        prefix_ids=_edge_ids(file, vocabulary, "bos", begins_sequence),
        suffix_ids=_edge_ids(file, vocabulary, "eos", False),
    )


def _read_vocabulary(file: GgufFile) -> _Vocabulary:
    tokens = _array(file, "tokenizer.ggml.tokens", str)
    if not tokens:
        raise malformed(file.path, "tokenizer.ggml.tokens is empty")
    kinds: list[int] = [_NORMAL] * len(tokens)
    if "tokenizer.ggml.token_type" in file.metadata:
        kinds = _array(file, "tokenizer.ggml.token_type", int)
    if len(kinds) != len(tokens):
        raise malformed(file.path, f"{len(tokens)} tokens but {len(kinds)} token types")
    return _Vocabulary(tokens, kinds)


def _array(file: GgufFile, key: str, kind: type[Any]) -> list[Any]:
    values: list[Any] = file.require(key, list)
    if not all(isinstance(value, kind) for value in values):
        raise malformed(file.path, f"metadata key {key} has members that are no {kind.__name__}")
    return values


Built = tuple[Tokenizer, Callable[[str], bytes], bool]
"""Backend, bytes of a normal token, begin-of-sequence token by default."""


def _byte_level(file: GgufFile, vocabulary: _Vocabulary) -> Built:
    name = file.optional("tokenizer.ggml.pre", str, "default") or "default"
    if name not in _CUTTINGS:
        allowed = ", ".join(_CUTTINGS)
        raise unsupported(file.path, f"pre-tokenizer {name} is not supported, only {allowed}")
    cutting = _CUTTINGS[name]
    merges = [_pair(file, merge) for merge in _array(file, "tokenizer.ggml.merges", str)]
    backend = _bpe(file, vocabulary, merges, ignore_merges=cutting.ignore_merges)
    if cutting.composed:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = _pre_tokenizer(cutting)
    alphabet = byte_alphabet()
    return backend, lambda token: byte_level_piece(token, alphabet), cutting.begins_sequence


def _pre_tokenizer(cutting: _Cutting) -> pre_tokenizers.PreTokenizer:
    steps: list[pre_tokenizers.PreTokenizer] = []
    if cutting.digits_apart:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    if cutting.regex is not None:
        steps.append(pre_tokenizers.Split(Regex(cutting.regex), behavior="isolated"))
    use_regex = cutting.regex is None
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex))
    return pre_tokenizers.Sequence(steps)


def _pair(file: GgufFile, merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    if not left or not right or " " in right:
        raise malformed(file.path, f"merge {merge!r} is not two tokens with a space between")
    return left, right


def _sentencepiece(file: GgufFile, vocabulary: _Vocabulary) -> Built:
    scores = _array(file, "tokenizer.ggml.scores", float)
    if len(scores) != len(vocabulary.tokens):
        raise malformed(file.path, f"{len(vocabulary.tokens)} tokens but {len(scores)} scores")
    unknown = next(
        (
            token
            for token, kind in zip(vocabulary.tokens, vocabulary.kinds, strict=True)
            if kind == _UNKNOWN
        ),
        None,
    )
    backend = _bpe(
        file,
        vocabulary,
        _merges_of_scores(vocabulary, scores),
        unk_token=unknown,
        fuse_unk=True,
        byte_fallback=True,
    )
    prefix = file.optional("tokenizer.ggml.add_space_prefix", bool, True)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(
        replacement="\u2581", prepend_scheme="first" if prefix else "never", split=False
    )
    return backend, sentencepiece_piece, True


def _merges_of_scores(vocabulary: _Vocabulary, scores: Sequence[float]) -> list[tuple[str, str]]:
    """Return the merges that a scored vocabulary implies, best first.

    SentencePiece joins the neighbours whose union has the highest score (Kudo
    and Richardson, 2018, https://arxiv.org/abs/1808.06226), so every way to cut
    a token into two tokens is a merge of that token's rank.
    """
    known = {token: index for index, token in enumerate(vocabulary.tokens)}
    ranked = sorted(
        (index for index, kind in enumerate(vocabulary.kinds) if kind == _NORMAL),
        key=lambda index: -scores[index],
    )
    return [
        (token[:cut], token[cut:])
        for token in (vocabulary.tokens[index] for index in ranked)
        for cut in range(1, len(token))
        if token[:cut] in known and token[cut:] in known
    ]


def _bpe(
    file: GgufFile, vocabulary: _Vocabulary, merges: list[tuple[str, str]], **options: Any
) -> Tokenizer:
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    if len(ids) != len(vocabulary.tokens):
        raise malformed(file.path, "tokenizer.ggml.tokens holds a token twice")
    try:
        return Tokenizer(models.BPE(vocab=ids, merges=merges, **options))
    except Exception as error:  # the library raises nothing narrower
        raise malformed(file.path, "the merges do not fit the vocabulary") from error


def _add_whole_tokens(backend: Tokenizer, vocabulary: _Vocabulary) -> None:
    """Make control and user-defined tokens match whole in a text."""
    for special, kind in ((True, _CONTROL), (False, _USER_DEFINED)):
        whole = [
            AddedToken(token, normalized=False, special=special)
            for token, found in zip(vocabulary.tokens, vocabulary.kinds, strict=True)
            if found == kind and token
        ]
        (backend.add_special_tokens if special else backend.add_tokens)(whole)


def _piece(token: str, kind: int, normal: Callable[[str], bytes]) -> bytes:
    if kind in (_CONTROL, _UNKNOWN, _UNUSED):
        return b""
    return token.encode() if kind == _USER_DEFINED else normal(token)


def _token_id(file: GgufFile, vocabulary: _Vocabulary, key: str) -> int | None:
    token_id: int | None = file.optional(f"tokenizer.ggml.{key}", int, None)
    if token_id is None:
        return None
    if not 0 <= token_id < len(vocabulary.tokens):
        raise malformed(file.path, f"tokenizer.ggml.{key} is {token_id}, beyond the vocabulary")
    return token_id


def _edge_ids(file: GgufFile, vocabulary: _Vocabulary, edge: str, default: bool) -> list[int]:
    if not file.optional(f"tokenizer.ggml.add_{edge}_token", bool, default):
        return []
    token_id = _token_id(file, vocabulary, f"{edge}_token_id")
    return [] if token_id is None else [token_id]


def _end_ids(file: GgufFile, vocabulary: _Vocabulary) -> set[int]:
    named = (_token_id(file, vocabulary, key) for key in _ENDS)
    known = (
        index
        for index, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True))
        if kind == _CONTROL and token in END_TOKENS
    )
    return {token_id for token_id in named if token_id is not None} | set(known)


def _template(file: GgufFile, vocabulary: _Vocabulary) -> ChatTemplate | None:
    source = file.optional("tokenizer.chat_template", str, None)
    if source is None:
        return None
    ids = {name: _token_id(file, vocabulary, key) for name, key in _SPECIAL_TOKENS.items()}
    return ChatTemplate(
        source,
        {name: vocabulary.tokens[index] for name, index in ids.items() if index is not None},
    )
