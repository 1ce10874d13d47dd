"""GGUF files: what loads, what is refused, and that nothing else can happen."""

import contextlib
import pathlib
import random
import struct

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scored import scored

from services.inference.models import load
from services.inference.models.gguf_file import GgufFile
from thermesh.errors import FailedPrecondition, InvalidArgument, MeshError, NotFound

TOKENS = torch.tensor([5, 40, 3, 77, 200, 12, 9])


def test_loaded_model_describes_itself(write_gguf, tiny):
    """Name, sizes, format, count and date come from the file."""
    path = write_gguf(tiny())

    model = load(path, "tiny")

    assert model.name == "tiny"
    assert model.weight_format == "F32"
    assert model.parameter_count == sum(value.size for value in tiny().weights.values())
    assert model.created_unix_s == int(path.stat().st_mtime)
    config = model.config
    assert (config.architecture, config.layers, config.hidden_size) == ("llama", 2, 32)
    assert (config.heads, config.kv_heads, config.head_size) == (4, 2, 8)
    assert (config.context_length, config.vocabulary_size) == (128, len(tiny().tokens))
    assert (config.tied_embeddings, config.rope_theta) == (True, 10_000.0)


@pytest.mark.parametrize(
    ("file_type", "expected"), [(3, "Q4_1"), (15, "Q4_K_M"), (None, "Q8_0"), (999, "Q8_0")]
)
def test_weight_format_is_the_files_or_the_commonest(write_gguf, file_type, expected):
    """The stated format counts; without one, that of most bytes."""
    path = write_gguf(
        metadata={"general.file_type": file_type}, kind=gguf.GGMLQuantizationType.Q8_0
    )

    assert load(path, "tiny").weight_format == expected


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0", "Q4_1", "BF16"])
def test_quantised_tensors_load_as_their_dequantised_values(write_gguf, tiny, dense_logits, kind):
    """The network computes with exactly what gguf's own dequantisation gives."""
    kind = gguf.GGMLQuantizationType[kind]
    model = tiny()
    path = write_gguf(model, kind=kind)
    for name, value in model.weights.items():
        if value.ndim == 2:
            stored = gguf.quants.quantize(value, kind)
            model.weights[name] = gguf.quants.dequantize(stored, kind)

    logits = scored(load(path, "tiny").network, TOKENS)

    np.testing.assert_allclose(
        logits.numpy(), dense_logits(model, TOKENS.numpy()), atol=3e-5, rtol=3e-5
    )


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_qwen_files_keep_the_order_of_rows(write_gguf, tiny, dense_logits, architecture):
    """Only llama files hold permuted query and key rows."""
    model = tiny(qkv_bias=architecture == "qwen2", qk_norm=architecture == "qwen3")
    path = write_gguf(model, architecture=architecture, metadata={"tokenizer.ggml.pre": "qwen2"})

    logits = scored(load(path, "tiny").network, TOKENS)

    np.testing.assert_allclose(
        logits.numpy(), dense_logits(model, TOKENS.numpy()), atol=3e-5, rtol=3e-5
    )


@pytest.mark.parametrize(
    "scaling",
    [
        {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
        {"llama.rope.scale_linear": 4.0},
    ],
)
def test_linear_rope_scaling_divides_the_frequencies(write_gguf, tiny, dense_logits, scaling):
    """Linear scaling slows every wave by the factor, in the new and the old spelling."""
    logits = load(write_gguf(metadata=scaling), "tiny").network.score(TOKENS)

    frequencies = 10_000.0 ** (-np.arange(4) / 4) / 4
    expected = dense_logits(tiny(), TOKENS.numpy(), frequencies)
    np.testing.assert_allclose(logits.numpy(), expected, atol=3e-5, rtol=3e-5)


def test_rope_factors_divide_their_frequencies(write_gguf, tiny, dense_logits):
    """`rope_freqs.weight` (llama3 scaling) slows each wave by its own factor."""
    factors = np.array([1.0, 1.0, 2.0, 8.0], dtype=np.float32)

    path = write_gguf(tensors={"rope_freqs.weight": factors})
    logits = scored(load(path, "tiny").network, TOKENS)

    frequencies = 10_000.0 ** (-np.arange(4) / 4) / factors
    expected = dense_logits(tiny(), TOKENS.numpy(), frequencies)
    np.testing.assert_allclose(logits.numpy(), expected, atol=3e-5, rtol=3e-5)


UNSUPPORTED = {
    "experts": ({"llama.expert_count": 8}, "mixtures of experts are not supported"),
    "split": ({"split.count": 2}, "split files are not supported"),
    "yarn": ({"llama.rope.scaling.type": "yarn"}, "only linear, llama3"),
    "partial rotary": ({"llama.rope.dimension_count": 4}, "rotary embedding of a part"),
    "value size": ({"llama.attention.value_length": 4}, "values of another size"),
    "tokenizer": ({"tokenizer.ggml.model": "rwkv"}, "only gpt2, llama"),
    "pre-tokenizer": ({"tokenizer.ggml.pre": "poro"}, "only default, gpt-2, smollm"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_sound_files_of_other_kinds_are_refused(write_gguf, case):
    """The error names the file, what it asks for and what is supported."""
    metadata, message = UNSUPPORTED[case]

    with pytest.raises(FailedPrecondition, match=message) as raised:
        load(write_gguf(metadata=metadata), "tiny")

    assert raised.value.message.startswith("tiny.gguf: ")
    assert (raised.value.field, raised.value.reason) == ("model", "UNSUPPORTED_MODEL")


def test_other_architectures_are_refused(write_gguf):
    """An unknown architecture is named along with those supported."""
    with pytest.raises(FailedPrecondition, match="gemma3 is not supported, only llama, qwen2"):
        load(write_gguf(architecture="gemma3"), "tiny")


def test_a_tensor_we_do_not_know_is_refused(write_gguf):
    """A part of the network is never left out in silence."""
    path = write_gguf(tensors={"blk.0.attn_sinks.weight": np.ones(4, dtype=np.float32)})

    with pytest.raises(FailedPrecondition, match=r"blk\.0\.attn_sinks\.weight is not part"):
        load(path, "tiny")


MALFORMED = {
    "no heads": ({"llama.attention.head_count": None}, "head_count is missing"),
    "no epsilon": ({"llama.attention.layer_norm_rms_epsilon": None}, "epsilon is missing"),
    "no tokens": ({"tokenizer.ggml.tokens": None}, "tokenizer.ggml.tokens is missing"),
    "no merges": ({"tokenizer.ggml.merges": None}, "tokenizer.ggml.merges is missing"),
    "text for a number": ({"llama.block_count": "two"}, "block_count is a str, not a int"),
    "zero layers": ({"llama.block_count": 0}, "layers is 0, expected 1 to"),
    "absurd layers": ({"llama.block_count": 4_000_000_000}, "expected 1 to 4096"),
    "absurd width": ({"llama.feed_forward_length": 4_000_000_000}, "intermediate_size is"),
    "zero heads": ({"llama.attention.head_count": 0}, "heads is 0"),
    "heads not shared evenly": ({"llama.attention.head_count_kv": 3}, "no multiple of kv_heads"),
    "wide but plausible": ({"llama.feed_forward_length": 128}, "has shape"),
    "more layers than tensors": ({"llama.block_count": 3}, r"blk\.2\.attn_norm.* is missing"),
    "bad epsilon": ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "rms_epsilon is nan"),
    "end beyond vocabulary": ({"tokenizer.ggml.eos_token_id": 9999}, "beyond the vocabulary"),
    "types too few": ({"tokenizer.ggml.token_type": [1, 1]}, "but 2 token types"),
    "merge of one": ({"tokenizer.ggml.merges": ["hello"]}, "is not two tokens"),
    "merge unknown": ({"tokenizer.ggml.merges": ["q x"]}, "merges do not fit"),
    "template": ({"tokenizer.chat_template": "{% for %}"}, "template does not compile"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_metadata_is_refused(write_gguf, case):
    """The error names the problem and never is a traceback."""
    metadata, message = MALFORMED[case]

    with pytest.raises(InvalidArgument, match=message) as raised:
        load(write_gguf(metadata=metadata), "tiny")

    assert (raised.value.field, raised.value.reason) == ("model", "MALFORMED_MODEL")


@pytest.mark.parametrize(
    ("tensor", "value", "message"),
    [
        ("token_embd.weight", None, "token_embd.weight is missing"),
        ("blk.1.ffn_up.weight", None, "ffn_up.weight is missing"),
        ("output_norm.weight", np.full(32, np.nan, dtype=np.float32), "not finite"),
        ("output_norm.weight", np.ones(31, dtype=np.float32), r"has shape \(31,\), expected"),
        ("rope_freqs.weight", np.ones(3, dtype=np.float32), r"expected \(4,\)"),
        ("token_embd.weight", np.ones((9, 32), dtype=np.float32), "more tokens than the network"),
    ],
)
def test_missing_and_misshapen_tensors_are_refused(write_gguf, tensor, value, message):
    """Tensors are checked before memory is taken for the network."""
    with pytest.raises(InvalidArgument, match=message):
        load(write_gguf(tensors={tensor: value}), "tiny")


HEADERS = {
    "empty": (b"", "too short"),
    "magic": (b"GGML" + bytes(60), "first bytes are not `GGUF`"),
    "version": (struct.pack("<4sIQQ", b"GGUF", 1, 0, 0), "GGUF version 1, expected 2 or 3"),
    "big endian": (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "little endian"),
    "cut": (b"GGUF\x03\x00", "truncated"),
    "tensor count": (struct.pack("<4sIQQ", b"GGUF", 3, 1 << 62, 0), "tensor count"),
    "pair count": (struct.pack("<4sIQQ", b"GGUF", 3, 0, 1 << 62), "metadata count"),
    "array count": (
        struct.pack("<4sIQQQcIIQ", b"GGUF", 3, 0, 1, 1, b"a", 9, 0, 1 << 62),
        "the a count",
    ),
    "string length": (
        struct.pack("<4sIQQQcIQ", b"GGUF", 3, 0, 1, 1, b"a", 8, 1 << 62),
        "truncated",
    ),
    "value type": (struct.pack("<4sIQQQcIQ", b"GGUF", 3, 0, 1, 1, b"a", 77, 0), "unknown type 77"),
    "not UTF-8": (struct.pack("<4sIQQQcIQ", b"GGUF", 3, 0, 1, 1, b"\xff", 8, 0), "not UTF-8"),
    "no metadata": (struct.pack("<4sIQQ", b"GGUF", 3, 0, 0), "architecture is missing"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_broken_headers_are_refused(tmp_path, case):
    """Counts that the file cannot hold are refused before they are followed."""
    content, message = HEADERS[case]
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)

    with pytest.raises(InvalidArgument, match=message):
        load(path, "tiny")


def test_a_missing_file_is_not_found(tmp_path):
    """The error names the file but not the folders of the server."""
    with pytest.raises(NotFound, match=r"^nothing\.gguf: no such model file$"):
        load(tmp_path / "nothing.gguf", "tiny")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(share=st.floats(0, 0.999))
def test_a_file_cut_anywhere_is_refused(sound_file, share):
    """No truncation loads, hangs or ends in another exception."""
    path = sound_file.with_name("cut.gguf")
    content = sound_file.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    with pytest.raises(InvalidArgument):
        load(path, "cut")


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**31), flips=st.integers(1, 6))
def test_a_file_with_changed_bytes_loads_or_is_refused(sound_file, seed, flips):
    """Whatever the header's bytes are, the outcome is a model or an error of ours."""
    generator = random.Random(seed)
    content = bytearray(sound_file.read_bytes())
    header = min(tensor.offset for tensor in GgufFile(sound_file).tensors.values())
    for _ in range(flips):
        content[generator.randrange(header)] = generator.choice([0, 1, 8, 9, 255, 128, 4])
    path = sound_file.with_name("flipped.gguf")
    path.write_bytes(content)

    with contextlib.suppress(MeshError):
        model = load(path, "flipped")
        assert model.network.score(TOKENS).shape == (len(TOKENS), model.config.vocabulary_size)


@pytest.fixture
def sound_file(write_gguf) -> pathlib.Path:
    """A good file to damage."""
    return write_gguf()
