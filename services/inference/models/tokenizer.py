"""Text <-> token ids of one model.

Special tokens: like transformers with its defaults, `encode` and `encode_chat`
recognise the text of a control token (`<|im_end|>`) wherever it stands, also
inside what a user wrote, so that ids are equal to the reference's for every
input. A user can thus write a turn for the assistant. Whoever needs to keep
users from that must take such text out before it gets here; escaping it here
would make every id after it differ from the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tokenizers

from services.inference.models.chat_template import ChatTemplate
from thermesh.errors import FailedPrecondition

END_TOKENS = frozenset(
    {
        "</s>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end|>",
        "<end_of_turn>",
    }
)
"""Control tokens that end a turn in every model that has them. Files name one or
two of theirs and forget the rest; llama.cpp keeps such a list for that reason
(`special_eog_ids` in llama-vocab.cpp)."""


class Tokenizer:
    """A tokenizer with its chat template, if the model has one."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        pieces: Sequence[bytes],
        end_ids: Iterable[int],
        template: ChatTemplate | None,
        *,
        prefix_ids: Sequence[int] = (),
        suffix_ids: Sequence[int] = (),
    ) -> None:
        """`pieces` are the bytes of each token, `prefix_ids` and `suffix_ids` what
        `encode` puts around a text beside what `backend` does by itself.
        """
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._pieces = tuple(pieces)
        self._template = template
        self._prefix_ids = tuple(prefix_ids)
        self._suffix_ids = tuple(suffix_ids)
        self.end_ids = frozenset(end_ids)
        # The network's vocabulary may be padded beyond it.
        self.vocabulary_size = len(self._pieces)

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text` without a template.

        A beginning-of-sequence token comes first only where the model's
        metadata asks for it, likewise an end-of-sequence token last.
        """
        ids = self._backend.encode(text, add_special_tokens=True).ids
        return [*self._prefix_ids, *ids, *self._suffix_ids]

    def encode_literal(self, text: str) -> list[int]:
        """Return the ids of `text` as it stands inside a longer one: nothing around it.

        A backend may still begin it as the start of a text (SentencePiece's space).
        """
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_chat(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """Return the ids of (role, content) `messages` and the opened assistant's turn.

        Raises FailedPrecondition where the model has no template and what
        `ChatTemplate.render` raises.
        """
        if self._template is None:
            raise FailedPrecondition(
                "the model has no chat template; send a prompt instead of messages",
                field="chat",
            )
        text = self._template.render(messages)
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes a token adds to the text, b"" for control tokens.

        The bytes of one token need not be valid UTF-8: join before decoding.
        Ids of the network's padding beyond the vocabulary add nothing.
        """
        return self._pieces[token_id] if 0 <= token_id < len(self._pieces) else b""


def byte_alphabet() -> dict[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for.

    GPT-2's spelling (`bytes_to_unicode` in openai/gpt-2, src/encoder.py):
    printable Latin-1 characters stand for themselves, the other bytes for the
    characters from U+0100 on, in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in set(printable)]
    spelling = {chr(byte): byte for byte in printable}
    return spelling | {chr(0x100 + index): byte for index, byte in enumerate(others)}


def byte_level_piece(token: str, alphabet: dict[str, int]) -> bytes:
    """Return the bytes of a byte-level token; one with other characters is plain text."""
    try:
        return bytes([alphabet[character] for character in token])
    except KeyError:
        return token.encode()


def sentencepiece_piece(token: str) -> bytes:
    """Return the bytes of a SentencePiece token: `<0x0A>` is a byte, U+2581 a space."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("\u2581", " ").encode()
