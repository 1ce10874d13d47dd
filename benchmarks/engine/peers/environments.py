"""Virtual environments of the peers, and the model files that they read.

Each peer has its own, below the state folder: their needs contradict each
other and ours. What is there is used again; the first time takes minutes.
Where the user has installed a peer, that is what is measured.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys
import venv
from collections.abc import Mapping

import benchmarks
from benchmarks.engine.peers.catalogue import FOLDERS, PEERS, QUANTISER, Peer, Variant
from thermesh.errors import FailedPrecondition
from thermesh.settings import state_dir

INSTALL_SECONDS = 3600


def is_ready(peer: Peer) -> bool:
    """Tell whether the peer is installed."""
    return peer.python is not None or _stamp(peer).is_file()


def prepare(peer: Peer) -> None:
    """Install the peer if it is not; raise FailedPrecondition where pip fails or cannot."""
    if is_ready(peer):
        return
    if not peer.requirements:
        message = f"{peer.name} cannot be installed from PyPI: name the Python that has it with"
        raise FailedPrecondition(f"{message} --peer-python {peer.name}=PATH")
    minutes = f", about {peer.build_minutes} minutes" if peer.build_minutes else ""
    print(f"installing {peer.name}{minutes}", file=sys.stderr)
    folder = _folder(peer)
    venv.create(folder, with_pip=True)
    log_path = folder / "install.log"
    command = [str(python(peer)), "-m", "pip", "install", *peer.requirements]
    environ = {**os.environ, **peer.build_environment}
    with log_path.open("wb") as log:
        done = subprocess.run(
            command, check=False, stdout=log, stderr=log, env=environ, timeout=INSTALL_SECONDS
        )
    if done.returncode:
        raise FailedPrecondition(f"{peer.name} could not be installed, see {log_path}")
    _stamp(peer).write_text("\n".join(peer.requirements))


def python(peer: Peer) -> pathlib.Path:
    """Return the interpreter of the peer's environment."""
    return peer.python or _folder(peer) / "bin" / "python"


def model_file(variant: Variant, model: pathlib.Path) -> pathlib.Path:
    """Return the file or folder that a variant reads; make it where it is not there yet."""
    if not variant.weights:
        return model
    is_folder = variant.weights in FOLDERS
    name = f"{model.stem}.{variant.weights}{'' if is_folder else '.gguf'}"
    place = _home() / "models" / name
    if not (place / "model.safetensors" if is_folder else place).is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        writer, environ = _folder_writer() if is_folder else _quantiser()
        command = [*writer, str(model), str(place), variant.weights]
        done = subprocess.run(
            command, check=False, env=environ, capture_output=True, text=True, timeout=600
        )
        if done.returncode:
            raise FailedPrecondition(f"{name} could not be made: {done.stderr[-300:]}")
    return place


def _quantiser() -> tuple[list[str], dict[str, str]]:
    prepare(QUANTISER)
    return [str(python(QUANTISER)), "-m", "benchmarks.engine.peers.requantise"], environment()


def _folder_writer() -> tuple[list[str], dict[str, str]]:
    return [sys.executable, "-P", "-m", "benchmarks.engine.ours.hub_folder"], own_environment()


def own_environment() -> dict[str, str]:
    """Return the variables of a process of ours: it sees what we see."""
    root = str(pathlib.Path(benchmarks.__file__).parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path}


def environment() -> dict[str, str]:
    """Return the variables of a peer's process: it sees `benchmarks` and nothing else of ours.

    Not our own folder of packages, where numpy may be another than the peer's.
    """
    code = _home() / "code"
    code.mkdir(parents=True, exist_ok=True)
    link, target = code / "benchmarks", pathlib.Path(benchmarks.__file__).parent
    if not link.is_symlink() or link.readlink() != target:
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    left_out = ("PYTHONPATH", "OMP_NUM_THREADS")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    # A peer that aborts would else wait for a debugger's account of it.
    return {**kept, "PYTHONPATH": str(code), "GGML_NO_BACKTRACE": "1"}


def known(names: list[str], pythons: Mapping[str, pathlib.Path]) -> list[Peer]:
    """Return the peers of these names, on the user's own Python where `pythons` names one.

    All stands for each that is there or can be installed.
    """
    peers = {
        name: dataclasses.replace(peer, python=pythons.get(name)) for name, peer in PEERS.items()
    }
    if "all" in names:
        return [peer for peer in peers.values() if peer.requirements or peer.python]
    return [peers[name] for name in names]


def _home() -> pathlib.Path:
    return state_dir() / "peers"


def _folder(peer: Peer) -> pathlib.Path:
    return _home() / peer.module


def _stamp(peer: Peer) -> pathlib.Path:
    return _folder(peer) / "installed"
