"""Folders of the hub's layout: what loads and what is refused."""

import json

import numpy as np
import pytest
import torch

from services.inference.models import load
from thermesh.errors import FailedPrecondition, InvalidArgument, NotFound

TOKENS = torch.tensor([5, 40, 3, 77, 200, 12, 9])


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_gives_the_logits_of_its_weights(write_folder, tiny, dense_logits, shards, tied):
    """One file or several, tied head or not: the same network."""
    folder = write_folder(tiny(tied=tied), shards=shards)

    model = load(folder, "tiny")

    expected = dense_logits(tiny(tied=tied), TOKENS.numpy())
    np.testing.assert_allclose(model.network.score(TOKENS), expected, atol=3e-5, rtol=3e-5)
    assert model.parameter_count == sum(v.size for v in tiny(tied=tied).weights.values())
    assert (model.weight_format, model.name) == ("F32", "tiny")
    assert model.created_unix_s > 0


def test_bfloat16_weights_become_float32(write_folder, tiny, dense_logits):
    """Stored BF16 computes as the float32 of the same value."""
    model = tiny()
    loaded = load(write_folder(model, bf16=True), "tiny")
    for name, value in model.weights.items():
        model.weights[name] = (value.view(np.uint32) >> 16 << 16).view(np.float32)

    expected = dense_logits(model, TOKENS.numpy())
    np.testing.assert_allclose(loaded.network.score(TOKENS), expected, atol=3e-5, rtol=3e-5)
    assert loaded.weight_format == "BF16"


@pytest.mark.parametrize(
    "config",
    [
        {"rope_theta": None, "rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}},
        {"rope_theta": 500, "rope_scaling": None},
    ],
)
def test_rope_theta_is_read_in_both_spellings(write_folder, config):
    """transformers 5 writes `rope_parameters`, older versions `rope_theta`."""
    assert load(write_folder(config=config), "tiny").config.rope_theta == 500.0


def test_llama3_scaling_is_read(write_folder):
    """All four numbers of the llama3 rule come from the file."""
    scaling = {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.5,
        "high_freq_factor": 5.0,
        "original_max_position_embeddings": 64,
    }

    found = load(write_folder(config={"rope_scaling": scaling}), "tiny").config.rope_scaling

    assert (found.kind, found.factor, found.original_context_length) == ("llama3", 32.0, 64)
    assert (found.low_frequency_factor, found.high_frequency_factor) == (1.5, 5.0)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, 128),
        ({"sliding_window": 32}, 32),
        ({"sliding_window": 32, "use_sliding_window": False}, 128),
        ({"sliding_window": None}, 128),
    ],
)
def test_a_sliding_window_bounds_the_context(write_folder, config, expected):
    """Within the window attention is full, so the window is the context served."""
    assert load(write_folder(config=config), "tiny").config.context_length == expected


UNSUPPORTED = {
    "architecture": ({"model_type": "mamba"}, "only llama, mistral, qwen2, qwen3"),
    "quantised": ({"quantization_config": {"bits": 4}}, "GGUF files are"),
    "activation": ({"hidden_act": "gelu"}, "only silu"),
    "scaling": ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "only linear, llama3"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_sound_folders_of_other_kinds_are_refused(write_folder, case):
    """The error names the file, what it asks for and what is supported."""
    config, message = UNSUPPORTED[case]

    with pytest.raises(FailedPrecondition, match=message) as raised:
        load(write_folder(config=config), "tiny")

    assert raised.value.message.startswith("config.json: ")


MALFORMED = {
    "no width": ({"hidden_size": None}, "hidden_size is missing"),
    "text for a number": ({"num_hidden_layers": "2"}, "num_hidden_layers is a str, not a int"),
    "absurd": ({"num_hidden_layers": 10**9}, "layers is 1000000000, expected"),
    "factor missing": ({"rope_scaling": {"rope_type": "linear"}}, "rope scaling factor is 0.0"),
    "factor a text": ({"rope_scaling": {"rope_type": "linear", "factor": "x"}}, "not a number"),
    "shape": ({"intermediate_size": 65}, r"has shape \(64, 32\), expected \(65, 32\)"),
    "layers": ({"num_hidden_layers": 3}, "is missing"),
    "end": ({"eos_token_id": "</s>"}, "eos_token_id is '</s>', expected ids"),
    "vocabulary": ({"vocab_size": 9}, r"token_embd\.weight has shape"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_configuration_is_refused(write_folder, case):
    """The error names the key and the problem."""
    config, message = MALFORMED[case]

    with pytest.raises(InvalidArgument, match=message) as raised:
        load(write_folder(config=config), "tiny")

    assert raised.value.reason == "MALFORMED_MODEL"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe{}"])
def test_files_that_are_no_json_objects_are_refused(write_folder, name, content):
    """The error names the file."""
    folder = write_folder()
    (folder / name).write_bytes(content)

    with pytest.raises(InvalidArgument, match=name):
        load(folder, "tiny")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_files_that_are_missing_are_not_found(write_folder, name):
    """The error names the file and the folder."""
    folder = write_folder()
    (folder / name).unlink()

    with pytest.raises(NotFound, match=f"tiny: {name} is missing"):
        load(folder, "tiny")


def test_a_folder_without_weights_is_not_found(tmp_path):
    """An empty folder is no model."""
    with pytest.raises(NotFound, match=r"no \*\.safetensors"):
        load(tmp_path, "tiny")


@pytest.mark.parametrize("keep", [0, 4, 100, -8])
def test_a_truncated_shard_is_refused(write_folder, keep):
    """The error names the shard."""
    folder = write_folder()
    shard = next(folder.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:keep])

    with pytest.raises(InvalidArgument, match="not a sound safetensors file"):
        load(folder, "tiny")


def test_a_tensor_in_two_shards_is_refused(write_folder):
    """Which of two would count is nobody's guess."""
    folder = write_folder()
    shard = next(folder.glob("*.safetensors"))
    shard.with_name("model-2.safetensors").write_bytes(shard.read_bytes())

    with pytest.raises(InvalidArgument, match="in another shard too"):
        load(folder, "tiny")


def test_weights_under_other_names_are_left_alone(write_folder):
    """A second copy, as consolidated.safetensors, does not disturb."""
    folder = write_folder()
    (folder / "consolidated.safetensors").write_bytes(b"")

    assert load(folder, "tiny").name == "tiny"


def test_a_tensor_we_do_not_know_is_refused(write_folder, tiny):
    """A part of the network is never left out in silence."""
    model = tiny()
    model.weights["layers.0.mlp.router.weight"] = np.ones((2, 2), dtype=np.float32)

    with pytest.raises(FailedPrecondition, match=r"mlp\.router\.weight is not part"):
        load(write_folder(model), "tiny")


def test_weights_that_are_not_finite_are_refused(write_folder, tiny):
    """A damaged model does not decode garbage."""
    model = tiny()
    model.weights["norm.weight"][3] = np.inf

    with pytest.raises(InvalidArgument, match=r"model\.norm\.weight holds numbers"):
        load(write_folder(model), "tiny")


def test_integers_are_no_weights(write_folder, tiny):
    """A number format that is not floating point is refused."""
    model = tiny()
    model.weights["norm.weight"] = np.ones(32, dtype=np.int32)

    with pytest.raises(FailedPrecondition, match="is I32, supported are F32, F16, BF16"):
        load(write_folder(model), "tiny")


def test_end_tokens_come_from_every_file(write_folder):
    """config.json, generation_config.json and known control tokens all count."""
    folder = write_folder(config={"eos_token_id": 2})
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 50]}))

    assert load(folder, "tiny").tokenizer.end_ids == {0, 1, 2, 50}
