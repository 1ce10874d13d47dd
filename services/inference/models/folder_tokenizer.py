"""The tokenizer of a folder: tokenizer.json and tokenizer_config.json.

tokenizer.json is complete but for three things: the chat template (a key of
tokenizer_config.json, or chat_template.jinja beside it), whether a
begin-of-sequence token is wanted (an explicit `add_bos_token` wins over the
post-processor, as in transformers) and which tokens end a turn
(generation_config.json).
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import tokenizers

from services.inference.models.chat_template import ChatTemplate
from services.inference.models.folder import JsonFile
from services.inference.models.refusal import malformed
from services.inference.models.tokenizer import (
    END_TOKENS,
    Tokenizer,
    byte_alphabet,
    byte_level_piece,
    sentencepiece_piece,
)

_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


def read_tokenizer(folder: pathlib.Path) -> Tokenizer:
    """Build the tokenizer of `folder`; raise where a file is missing or broken."""
    stored = JsonFile.read(folder / "tokenizer.json")
    settings = JsonFile.read_if_there(folder / "tokenizer_config.json")
    try:
        backend = tokenizers.Tokenizer.from_file(str(stored.path))
    except Exception as error:  # the library raises nothing narrower
        raise malformed(stored.path, "not a tokenizer that the tokenizers library reads") from error
    special_tokens = dict(_special_tokens(settings))
    prefix_ids, suffix_ids = _edges(settings, backend, special_tokens)
    return Tokenizer(
        backend,
        _pieces(backend, stored),
        _end_ids(folder, backend, special_tokens),
        _template(folder, settings, special_tokens),
        prefix_ids=prefix_ids,
        suffix_ids=suffix_ids,
    )


def _special_tokens(settings: JsonFile) -> Iterator[tuple[str, str]]:
    for name in _SPECIAL_TOKENS:
        value = settings.content.get(name)
        if isinstance(value, dict):  # an AddedToken written out
            value = value.get("content")
        if isinstance(value, str):
            yield name, value


def _pieces(backend: tokenizers.Tokenizer, stored: JsonFile) -> list[bytes]:
    """Return the bytes of each token, read the way the file's decoder would."""
    alphabet = byte_alphabet()
    is_byte_level = "ByteLevel" in str(stored.content.get("decoder"))
    added = backend.get_added_tokens_decoder()
    vocabulary = backend.get_vocab(with_added_tokens=True)
    pieces = [b""] * (max(vocabulary.values(), default=-1) + 1)
    for token, token_id in vocabulary.items():
        if token_id in added:
            pieces[token_id] = b"" if added[token_id].special else token.encode()
        elif is_byte_level:
            pieces[token_id] = byte_level_piece(token, alphabet)
        else:
            pieces[token_id] = sentencepiece_piece(token)
    return pieces


def _end_ids(
    folder: pathlib.Path, backend: tokenizers.Tokenizer, special_tokens: dict[str, str]
) -> set[int]:
    ids: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        ids |= set(_stated_ids(JsonFile.read_if_there(folder / name)))
    added = backend.get_added_tokens_decoder()
    eos = special_tokens.get("eos_token")
    for token_id, token in added.items():
        if token.content == eos or (token.special and token.content in END_TOKENS):
            ids.add(token_id)
    return ids


def _stated_ids(file: JsonFile) -> list[int]:
    stated: Any = file.content.get("eos_token_id")
    ids = stated if isinstance(stated, list) else [] if stated is None else [stated]
    if not all(type(token_id) is int for token_id in ids):
        raise malformed(file.path, f"eos_token_id is {stated!r}, expected ids")
    return ids


def _edges(
    settings: JsonFile, backend: tokenizers.Tokenizer, special_tokens: dict[str, str]
) -> tuple[list[int], list[int]]:
    if "add_bos_token" not in settings.content and "add_eos_token" not in settings.content:
        return [], []  # the post-processor of tokenizer.json does it
    backend.post_processor = None
    return (
        _edge(settings, backend, special_tokens, "bos"),
        _edge(settings, backend, special_tokens, "eos"),
    )


def _edge(
    settings: JsonFile, backend: tokenizers.Tokenizer, special_tokens: dict[str, str], edge: str
) -> list[int]:
    if not settings.optional(f"add_{edge}_token", bool, False):
        return []
    token_id = backend.token_to_id(special_tokens.get(f"{edge}_token", ""))
    return [] if token_id is None else [token_id]


def _template(
    folder: pathlib.Path, settings: JsonFile, special_tokens: dict[str, str]
) -> ChatTemplate | None:
    beside = folder / "chat_template.jinja"
    if beside.is_file():
        return ChatTemplate(beside.read_text(encoding="utf-8"), special_tokens)
    source = settings.content.get("chat_template")
    if isinstance(source, list):  # several, by name
        named = (entry for entry in source if isinstance(entry, dict))
        source = next((e.get("template") for e in named if e.get("name") == "default"), None)
    return ChatTemplate(source, special_tokens) if isinstance(source, str) else None
