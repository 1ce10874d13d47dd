"""The encoder against the reference implementation of the same weights."""

import importlib
import math

import numpy as np
import pytest
import torch

from services.feature.encoder import Encoder
from services.feature.encoding import cosine, pack, unpack
from services.feature.linear import Linear
from thermesh.errors import InvalidArgument
from thermesh.models import locate

pytestmark = [pytest.mark.model, pytest.mark.slow]

TEXTS = (
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "def add(a, b): return a + b",
    "東京はどこですか",
    "   ",
    "x",
    "A long text. " * 200,
)


@pytest.fixture(scope="module")
def folder():
    return locate("all-minilm-l6-v2")


@pytest.fixture(scope="module")
def encoder(folder):
    torch.set_num_threads(1)
    return Encoder(folder)


@pytest.fixture(scope="module")
def transformers():
    """The reference implementation; importing it takes seconds, so only these tests do."""
    return importlib.import_module("transformers")


@pytest.fixture(scope="module")
def reference(folder, transformers):
    return transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()


@pytest.mark.parametrize("text", TEXTS)
def test_hidden_states_and_attention_equal_the_reference(encoder, reference, text):
    """Same tokens, same last hidden states, same attention entropy as transformers' BERT."""
    ids = encoder._tokenizer.encode(text).ids
    hidden = encoder.forward(ids)
    with torch.inference_mode():
        expected = reference(torch.tensor([ids]), output_attentions=True)
    torch.testing.assert_close(hidden.states, expected.last_hidden_state[0], atol=2e-5, rtol=1e-4)
    rows = [torch.special.entr(layer).sum(-1).mean().item() for layer in expected.attentions]
    entropy = sum(rows) / len(rows) / math.log(len(ids))
    assert entropy == pytest.approx(hidden.attention_entropy, abs=1e-5)


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_equal_the_reference_tokenizer(encoder, folder, transformers, text):
    """256 tokens at most, the special ones included."""
    expected = transformers.BertTokenizerFast.from_pretrained(folder)(
        text, truncation=True, max_length=256
    )
    assert expected["input_ids"] == encoder._tokenizer.encode(text).ids


@pytest.mark.parametrize("text", TEXTS)
def test_an_encoding_is_in_range_and_survives_rest(encoder, text):
    """Features lie in [0, 1], the embedding has length one, and both outlive packing."""
    encoding = encoder.encode(text)
    for feature in (
        encoding.semantic_complexity,
        encoding.attention_entropy,
        encoding.vocabulary_rarity,
    ):
        assert 0.0 <= feature <= 1.0
    assert float(np.linalg.norm(encoding.embedding)) == pytest.approx(1.0, abs=1e-5)
    again = unpack(pack(encoding), encoder.dimensions)
    np.testing.assert_allclose(encoding.embedding, again.embedding, atol=1e-3)


@pytest.mark.parametrize("text", TEXTS)
def test_fewer_layers_end_where_the_reference_is_after_them(encoder, reference, text):
    """Two layers give the reference's hidden states after two; the whole stays whole."""
    shallow = encoder.truncated(2)
    ids = encoder._tokenizer.encode(text).ids
    with torch.inference_mode():
        expected = reference(torch.tensor([ids]), output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(shallow.forward(ids).states, expected[0], atol=2e-5, rtol=1e-4)
    assert (shallow.depth, encoder.depth) == (2, 6)


def test_rare_words_are_those_in_pieces(encoder):
    """One of three words stands in pieces; punctuation is no word."""
    assert encoder.encode("the cat, xylophagous!").vocabulary_rarity == pytest.approx(1 / 3)
    assert encoder.encode("?!").vocabulary_rarity == 0.0


def test_meaning_orders_cosines(encoder):
    """A paraphrase is nearer than another subject."""
    first, near, far = (
        encoder.encode(text).embedding
        for text in ("How do I bake bread?", "What is a recipe for a loaf?", "Sort a list in C.")
    )
    assert cosine(first, near) > cosine(first, far) + 0.2


def test_another_architecture_is_refused(tmp_path):
    """The message names what is allowed."""
    (tmp_path / "config.json").write_text('{"model_type": "roberta", "hidden_act": "gelu"}')
    with pytest.raises(InvalidArgument, match="BERT"):
        Encoder(tmp_path)


@pytest.mark.parametrize("text", TEXTS)
def test_bfloat16_says_the_same(folder, encoder, text):
    """Embeddings of both types have a cosine above 0.999, and features differ by less than 0.01."""
    exact, fast = encoder.encode(text), Encoder(folder, torch.bfloat16).encode(text)
    assert cosine(exact.embedding, fast.embedding) > 0.999
    assert fast.semantic_complexity == pytest.approx(exact.semantic_complexity, abs=0.01)
    assert fast.attention_entropy == pytest.approx(exact.attention_entropy, abs=0.01)


@pytest.mark.parametrize("activation", ["none", "gelu"])
def test_a_row_does_not_depend_on_those_beside_it(activation):
    """Rows that are filled up to eights change nothing: a bit is the same alone and among nine."""
    made = torch.Generator().manual_seed(5)
    weight, bias = torch.randn(32, 64, generator=made), torch.randn(32, generator=made)
    layer = Linear.of(weight.bfloat16(), bias.bfloat16())
    rows = torch.randn(9, 64, generator=made)

    together = layer(rows, activation)
    alone = torch.cat([layer(row[None], activation) for row in rows])

    assert together.shape == (9, 32)
    assert torch.equal(together, alone)
