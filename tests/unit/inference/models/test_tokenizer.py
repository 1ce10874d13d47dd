"""Tokenizers of both kinds of file, and what each token adds to a text."""

import hypothesis.strategies as st
import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings

from services.inference.models import load
from services.inference.models.tokenizer import byte_alphabet
from thermesh.errors import FailedPrecondition, InvalidArgument

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.fixture(params=["gguf", "folder"])
def tokenizer(request, write_gguf, write_folder):
    """The same small byte-level tokenizer from either kind of file."""
    path = write_gguf() if request.param == "gguf" else write_folder()
    return load(path, "tiny").tokenizer


def pieces(tokenizer, text):
    return [tokenizer.token_bytes(token) for token in tokenizer.encode(text)]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=TEXTS)
def test_the_bytes_of_a_texts_tokens_are_the_text(tokenizer, text):
    """Any text without control tokens comes back byte for byte."""
    assert b"".join(pieces(tokenizer, text)) == text.encode()


def test_merges_apply_in_their_order(tokenizer):
    """`hello` is one token, ` wor` another, the rest single bytes."""
    assert pieces(tokenizer, "hello world") == [b"hello", b" wor", b"l", b"d"]


def test_control_tokens_match_whole_and_add_nothing(tokenizer):
    """The text of a control token is its id, wherever it stands, and no output."""
    assert tokenizer.encode("h<|im_end|>") == [tokenizer.encode("h")[0], 2]
    assert tokenizer.token_bytes(2) == b""


def test_control_tokens_end_a_turn(tokenizer):
    """The end-of-sequence token ends, and every control token known to end turns."""
    assert tokenizer.end_ids == {0, 2}


def test_ids_beyond_the_vocabulary_add_nothing(tokenizer):
    """A network's vocabulary may be padded."""
    assert tokenizer.token_bytes(tokenizer.vocabulary_size) == b""
    assert tokenizer.token_bytes(-1) == b""


def test_chat_is_the_rendered_template(tokenizer):
    """Roles and content stand between control tokens; the assistant's turn is open."""
    ids = tokenizer.encode_chat([("user", "hello")])

    expected = tokenizer.encode("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n")
    assert ids == expected
    assert ids.count(1) == 2


def test_control_tokens_in_content_count_as_in_the_reference(tokenizer):
    """Content is not escaped: transformers does not either, and ids must be equal."""
    assert tokenizer.encode_chat([("user", "<|im_end|>")]).count(2) == 2


def test_byte_alphabet_covers_every_byte_once():
    """256 characters, each for one byte, the printable ones for themselves."""
    alphabet = byte_alphabet()

    assert sorted(alphabet.values()) == list(range(256))
    assert (alphabet["A"], alphabet["Ġ"], alphabet["Ċ"]) == (0x41, 0x20, 0x0A)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, False),
        ({"tokenizer.ggml.add_bos_token": True}, True),
        ({"tokenizer.ggml.pre": "llama-bpe"}, True),
        ({"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.add_bos_token": False}, False),
    ],
)
def test_gguf_text_begins_with_a_token_only_where_asked(write_gguf, metadata, expected):
    """The file's word counts, then the habit of its pre-tokenizer; chats never get one."""
    tokenizer = load(write_gguf(metadata=metadata), "tiny").tokenizer

    assert (tokenizer.encode("h")[0] == 1) is expected
    assert tokenizer.encode_chat([("user", "h")])[:2].count(1) == 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0]),
        ({"add_bos_token": True, "bos_token": "<|im_start|>"}, [1]),
        ({"add_bos_token": True, "bos_token": {"content": "<|im_start|>"}}, [1]),
        ({"add_bos_token": False}, []),
    ],
)
def test_folder_text_begins_as_its_settings_say(write_folder, settings, expected):
    """An explicit setting wins over the post-processor of tokenizer.json."""
    folder = write_folder(settings=settings)
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    backend.save(str(folder / "tokenizer.json"))

    ids = load(folder, "tiny").tokenizer.encode("h")

    assert ids[:-1] == expected


CUTS = {
    # (pre-tokenizer, text) -> pieces, with all merges of characters known
    ("gpt-2", "it's 2024  now"): ["it", "'s", " 2024", " ", " now"],
    ("smollm", "it's 2024  now"): ["it", "'s", " ", "2", "0", "2", "4", " ", " now"],
    ("smollm", "a   7"): ["a", "   ", "7"],
    ("llama-bpe", "IT'S 20245 ok\n\n x"): ["IT", "'S", " ", "202", "45", " ok", "\n\n", " x"],
    ("qwen2", "IT'S 202 ok!\n x"): ["IT", "'S", " ", "2", "0", "2", " ok", "!\n", " x"],
    ("tekken", "camelCase 12/\n"): ["camel", "Case", " ", "1", "2", "/\n"],
}


@pytest.mark.parametrize(("case", "expected"), CUTS.items())
def test_text_is_cut_as_the_pre_tokenizer_says(write_gguf, tiny, case, expected):
    """Cuts come before merges: whole pieces that are tokens stay whole, no others do."""
    name, text = case
    alphabet = {byte: character for character, byte in byte_alphabet().items()}

    def spelled(piece):
        return "".join(alphabet[byte] for byte in piece.encode())

    # Every substring is a token; those that start first merge first, each by one
    # more character, so that a piece always merges whole.
    grown = [text[i:j] for i in range(len(text)) for j in range(i + 2, len(text) + 1)]
    grown = list(dict.fromkeys(grown))
    merges = [f"{spelled(piece[:-1])} {spelled(piece[-1])}" for piece in grown]
    known = {spelled(piece) for piece in grown}
    tokens = [*tiny().tokens[: 3 + 256], *sorted(known)]
    kinds = [3] * 3 + [1] * (len(tokens) - 3)
    metadata = {
        "tokenizer.ggml.pre": name,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.add_bos_token": False,
    }

    tokenizer = load(write_gguf(tiny(tokens=tokens), metadata=metadata), "tiny").tokenizer

    assert [piece.decode() for piece in pieces(tokenizer, text)] == expected


def test_qwen_text_is_composed_first(write_gguf):
    """qwen2 vocabularies were learned on Unicode NFC."""
    tokenizer = load(write_gguf(metadata={"tokenizer.ggml.pre": "qwen2"}), "tiny").tokenizer

    assert tokenizer.encode("e\u0301") == tokenizer.encode("\u00e9")


def test_user_defined_tokens_match_whole_and_are_text(write_gguf, tiny):
    """A user-defined token is found in a text and adds itself."""
    tokens = [*tiny().tokens, "<think>"]
    kinds = [3] * 3 + [1] * (len(tokens) - 4) + [4]
    path = write_gguf(tiny(tokens=tokens), metadata={"tokenizer.ggml.token_type": kinds})

    tokenizer = load(path, "tiny").tokenizer

    assert pieces(tokenizer, "a<think>b") == [b"a", b"<think>", b"b"]


SENTENCEPIECE = [
    *("<unk>", "<s>", "</s>"),
    *(f"<0x{byte:02X}>" for byte in range(256)),
    *("\u2581", "h", "e", "l", "o", "he", "ll", "hell", "hello", "\u2581hello", "lo"),
]


def sentencepiece_metadata(**changes):
    normal = len(SENTENCEPIECE) - 259
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * normal,
        "tokenizer.ggml.scores": [0.0] * 259 + [-float(rank) for rank in range(normal)],
        "tokenizer.ggml.merges": None,
    } | changes


def test_sentencepiece_joins_by_score(write_gguf, tiny):
    """Best unions first, a space before the text, bytes where no token fits."""
    path = write_gguf(tiny(tokens=SENTENCEPIECE), metadata=sentencepiece_metadata())

    tokenizer = load(path, "tiny").tokenizer

    assert tokenizer.encode("hello")[0] == 1
    assert pieces(tokenizer, "hello lo") == [b"", b" hello", b" ", b"lo"]
    assert pieces(tokenizer, "\u00e9") == [b"", b" ", b"\xc3", b"\xa9"]
    assert tokenizer.end_ids == {2}


def test_sentencepiece_without_prefix_adds_no_space(write_gguf, tiny):
    """`add_space_prefix` and `add_bos_token` are honoured."""
    changes = {
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.ggml.add_bos_token": False,
    }
    metadata = sentencepiece_metadata(**changes)

    tokenizer = load(write_gguf(tiny(tokens=SENTENCEPIECE), metadata=metadata), "tiny").tokenizer

    assert pieces(tokenizer, "hello") == [b"hello"]


def test_a_model_without_template_refuses_chats(write_gguf):
    """The error tells what to send instead."""
    tokenizer = load(write_gguf(metadata={"tokenizer.chat_template": None}), "tiny").tokenizer

    with pytest.raises(FailedPrecondition, match="send a prompt instead"):
        tokenizer.encode_chat([("user", "hello")])


def test_the_template_of_a_folder_may_stand_in_its_own_file(write_folder):
    """chat_template.jinja wins over tokenizer_config.json."""
    folder = write_folder()
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}!")

    tokenizer = load(folder, "tiny").tokenizer

    assert tokenizer.encode_chat([("user", "hello")]) == tokenizer.encode("hello!")


def test_the_default_of_several_templates_counts(write_folder):
    """tokenizer_config.json may name several templates."""
    several = [
        {"name": "tool_use", "template": "tools"},
        {"name": "default", "template": "hello"},
    ]

    tokenizer = load(write_folder(settings={"chat_template": several}), "tiny").tokenizer

    assert tokenizer.encode_chat([("user", "x")]) == tokenizer.encode("hello")


def test_a_token_listed_twice_is_refused(write_gguf, tiny):
    """Ids must be unique."""
    tokens = [*tiny().tokens]
    tokens[-1] = tokens[-2]

    with pytest.raises(InvalidArgument, match="holds a token twice"):
        load(write_gguf(tiny(tokens=tokens)), "tiny")
