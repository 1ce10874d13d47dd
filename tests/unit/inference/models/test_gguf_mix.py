"""Mixes of precision: made of a small model, loaded like every model, refused when broken."""

import json
import math
import random

import numpy as np
import pytest
import torch
from scored import scored

from services.inference.kernels.cpu import status
from services.inference.models import gguf_mix, load
from services.inference.models.gguf_file import GgufFile
from services.inference.models.group_codes import GroupFormat
from services.inference.models.network import Network
from services.inference.quantise import __main__ as tool
from services.inference.quantise import curvature, forward
from services.inference.quantise.divergence import Yardstick
from services.inference.quantise.rounding import rounded
from services.inference.quantise.source import Source
from thermesh.errors import FailedPrecondition, InvalidArgument, MeshError

SIZES = {"hidden": 64, "head_size": 16, "heads": 4, "kv_heads": 2, "intermediate": 96}
KEYS = {"llama.attention.key_length": 16, "qwen3.attention.key_length": 16}
BIASED = {"tied": False, "qkv_bias": True, "output_bias": True}
VARIANTS = {
    "tied": ("llama", {}),
    "untied": ("llama", {"tied": False}),
    "biased": ("llama", BIASED),
    "normed heads": ("qwen3", {"qk_norm": True}),
}
FORMATS = [
    GroupFormat(3, 32, True),
    GroupFormat(4, 32, False),
    GroupFormat(6, 32, False),
    GroupFormat(8, 32, False),
]


@pytest.fixture(params=VARIANTS)
def source(request, write_gguf, tiny):
    """A small model of each kind."""
    architecture, changes = VARIANTS[request.param]
    return Source(write_gguf(tiny(**SIZES, **changes), architecture=architecture, metadata=KEYS))


@pytest.fixture
def mixed(source):
    """The same model, its matrices in several formats in turn."""
    return write_mix(source)


def write_mix(source):
    """Write `source` in a mix of all formats."""
    names = list(source.matrices)
    mix = {name: FORMATS[index % len(FORMATS)] for index, name in enumerate(names)}
    target = source.path.with_name("mix.gguf")
    source.write(target, mix, lambda name: rows_of(source, name, mix[name]))
    return target


def rows_of(source, name, form):
    """Round one matrix, all columns alike."""
    return rounded(source.matrix(name), np.ones(source.matrices[name][1], "f4"), form)


def test_a_mix_holds_the_rounded_weights(source, mixed):
    """Each matrix read back is the one rounded, each vector the source's own."""
    again = GgufFile(mixed)
    original = source.weights().destinations(source.config)
    whole = load(mixed, "mix")
    assert whole.weight_format.startswith("MIX_")
    for name, tensor in again.tensors.items():
        if tensor.mix is None:
            ((_, numbers),) = again.pieces(name)
            ((_, expected),) = source.file.pieces(name)
            np.testing.assert_array_equal(numbers, expected)
        else:
            assert tensor.shape == tuple(original[name].shape)


def test_a_mix_means_the_same_in_torch_and_on_the_kernels(source, mixed, monkeypatch):
    """Torch computes with exactly the rounded weights; the C++ kernels agree with it."""
    monkeypatch.setenv("THERMESH_KERNELS", "reference")
    plain = load(mixed, "mix")
    weights = source.weights()
    names = list(source.matrices)
    for index, name in enumerate(names):
        form = FORMATS[index % len(FORMATS)]
        numbers = rows_of(source, name, form).weights(form)
        weights.destinations(source.config)[name].copy_(torch.from_numpy(numbers))
    ids = torch.from_numpy(np.random.default_rng(3).integers(0, 60, 40))
    logits = scored(plain.network, ids)

    torch.testing.assert_close(logits, scored(Network(source.config, weights), ids))
    if status().available:
        monkeypatch.setenv("THERMESH_KERNELS", "cpu")
        torch.testing.assert_close(
            scored(load(mixed, "mix").network, ids), logits, atol=0.05, rtol=0.05
        )


def test_texts_side_by_side_are_scored_as_one_by_one(source):
    """The differentiable network is the network that serves."""
    ids = torch.from_numpy(np.random.default_rng(3).integers(0, 60, (2, 40)))
    weights = source.weights()
    logits = forward.logits(source.config, weights, ids)
    for row, text in enumerate(ids):
        expected = scored(Network(source.config, weights), text)
        torch.testing.assert_close(logits[row], expected, atol=1e-4, rtol=1e-4)


def test_the_estimate_foretells_the_divergence(source):
    """Rounding all matrices costs what the curvature says, within a factor of two."""
    ids = torch.from_numpy(np.random.default_rng(3).integers(0, 60, (24, 40)))
    weights = source.weights()
    found = curvature.measured(source.config, weights, ids)
    yardstick = Yardstick(source.config, weights, ids)
    form, estimate = GroupFormat(4, 32, False), 0.0
    for name, view in weights.destinations(source.config).items():
        if view.dim() > 1:
            numbers = torch.from_numpy(rows_of(source, name, form).weights(form))
            estimate += found[name].cost(numbers - view)
            view.copy_(numbers)
    true = yardstick.measure(weights)
    assert estimate / 2 < true.mean < 2 * estimate
    assert math.isfinite(true.standard_error)


@pytest.mark.slow
def test_the_tool_writes_what_the_engine_serves(write_gguf, tiny, tmp_path, capsys):
    """One command makes a file within its budget, a report, and leaves no workplace."""
    path = write_gguf(tiny(**SIZES), metadata=KEYS)
    output = tmp_path / "small.gguf"
    options = ["--fitted", "4", "--held-out", "4", "--length", "32", "--checked", "4"]

    assert tool.main([str(path), str(output), "--bits", "4.6", "--curve", "5", *options]) == 0

    report = json.loads((tmp_path / "small.gguf.json").read_text())
    chosen = report["points"][0]
    assert chosen["mix"]["bytes"] <= chosen["budget_bytes"]
    assert chosen["chosen"] in ("mix", "uniform")
    assert [point["bits"] for point in report["points"]] == [4.6, 5.0]
    assert len(report["checks"]) == 4
    assert load(output, "small").weight_format.startswith("MIX_4.")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "small.gguf",
        "small.gguf.json",
        "tiny.gguf",
    ]
    assert "mean KL" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "output", "words"),
    [
        ("absent.gguf", "small.gguf", "there is no model"),
        ("tiny.gguf", "small.bin", "must be a .gguf or .json file"),
        ("tiny.gguf", "absent/small.gguf", "in a folder that is there"),
    ],
)
def test_the_tool_says_what_it_lacks(write_gguf, capsys, name, output, words):
    """A wrong argument is one sentence on standard error and status 1."""
    folder = write_gguf().parent
    assert tool.main([str(folder / name), str(folder / output)]) == 1
    assert words in capsys.readouterr().err


def test_a_mix_is_not_quantised_again(write_gguf, tiny):
    """Whoever quantises twice is sent back to the original."""
    mixed = write_mix(Source(write_gguf(tiny(**SIZES), metadata=KEYS)))
    with pytest.raises(FailedPrecondition, match="a mix already"):
        Source(mixed)


BROKEN = {
    "not JSON": ("{", "is not JSON"),
    "not an object": ("[]", "not a JSON object"),
    "no list": ('{"a": 1}', "is not \\[bits"),
    "a boolean for a number": ('{"a": [true, 32, true, 64]}', "is not \\[bits"),
    "impossible bits": ('{"a": [9, 32, false, 64]}', "9 bits"),
    "no such tensor": ('{"a": [4, 32, false, 64]}', "not a matrix of bytes"),
    "absurd columns": ('{"token_embd.weight": [4, 32, false, 640000000000]}', "rows of"),
    "a matrix left out": ("{}", "is missing in"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_descriptions_are_named(write_gguf, tiny, case):
    """Metadata that does not describe the matrices is an error that says so."""
    text, words = BROKEN[case]
    coded = {"token_embd.weight": np.zeros((20, 36), np.int8)}
    keys = {gguf_mix.VERSION_KEY: 1, gguf_mix.MATRICES_KEY: text}
    path = write_gguf(tiny(**SIZES), metadata=KEYS | keys, tensors=coded)
    with pytest.raises(InvalidArgument, match=words):
        load(path, "broken")


def test_a_later_version_is_refused(write_gguf, tiny):
    """A file of a version to come is not guessed at."""
    path = write_gguf(tiny(**SIZES), metadata=KEYS | {gguf_mix.VERSION_KEY: 2})
    with pytest.raises(FailedPrecondition, match="this version reads 1"):
        load(path, "later")


def test_damaged_mixes_load_or_are_refused(write_gguf, tiny):
    """Whatever bytes of the file change, the outcome is a model or one of our errors."""
    mixed = write_mix(Source(write_gguf(tiny(**SIZES), metadata=KEYS)))
    content, chance, outcomes = mixed.read_bytes(), random.Random(7), set()
    start = content.find(gguf_mix.VERSION_KEY.encode()) - 8
    for turn in range(60):
        end = len(content) if turn % 3 else chance.randrange(start, len(content))
        damaged = bytearray(content[:end])
        # In the description, or in what it describes.
        last = min(start + 2000, end) if turn % 2 else end
        damaged[chance.randrange(start, last)] = chance.randrange(256)
        mixed.write_bytes(damaged)
        outcomes.add(outcome(mixed))
    assert {"InvalidArgument", "loaded"} <= outcomes


def outcome(path):
    """Return how loading ends: `loaded` or the error's name."""
    try:
        load(path, "damaged")
    except MeshError as error:
        return type(error).__name__
    return "loaded"


@pytest.mark.parametrize("kernels", ["reference", "auto"])
def test_a_calibrated_mix_divides_its_logits(source, monkeypatch, kernels):
    """Every network divides by the factor that the file names, and the format tells it."""
    monkeypatch.setenv("THERMESH_KERNELS", kernels)
    names = list(source.matrices)
    mix = {name: FORMATS[index % len(FORMATS)] for index, name in enumerate(names)}
    ids, found = torch.arange(5), {}
    for factor in (1.0, 1.25):
        target = source.path.with_name(f"mix-{factor}.gguf")
        source.write(target, mix, lambda name: rows_of(source, name, mix[name]), factor)
        model = load(target, "mix")
        assert ("temperature x 1.250" in model.weight_format) is (factor == 1.25)
        found[factor] = scored(model.network, ids)
    torch.testing.assert_close(found[1.25] * 1.25, found[1.0], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("factor", [0.0, -1.0, 3.0, math.nan, math.inf])
def test_an_absurd_temperature_is_refused(source, factor):
    """A factor that is none is named, not applied."""
    target = source.path.with_name("mix.gguf")
    source.write(target, {}, lambda name: rows_of(source, name, FORMATS[0]), factor)
    with pytest.raises(InvalidArgument, match=r"thermesh\.mix\.temperature"):
        load(target, "mix")
