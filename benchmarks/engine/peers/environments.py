"""Virtual environments of the peers, and the model files that they read.

Each peer has its own, below the state folder: their needs contradict each
other and ours. What is there is used again; the first time takes minutes.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import venv

import benchmarks
from benchmarks.engine.peers.catalogue import PEERS, QUANTISER, Peer, Variant
from thermesh.errors import FailedPrecondition
from thermesh.settings import state_dir

INSTALL_SECONDS = 3600


def is_ready(peer: Peer) -> bool:
    """Tell whether the peer is installed."""
    return _stamp(peer).is_file()


def prepare(peer: Peer) -> None:
    """Install the peer if it is not; raise FailedPrecondition where pip fails."""
    if is_ready(peer):
        return
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
    return _folder(peer) / "bin" / "python"


def model_file(variant: Variant, model: pathlib.Path) -> pathlib.Path:
    """Return the file that a variant reads; make it where it is not there yet."""
    if not variant.weights:
        return model
    made = _home() / "models" / f"{model.stem}.{variant.weights}.gguf"
    if not made.is_file():
        made.parent.mkdir(parents=True, exist_ok=True)
        prepare(QUANTISER)
        command = [str(python(QUANTISER)), "-m", "benchmarks.engine.peers.requantise"]
        command += [str(model), str(made), variant.weights]
        done = subprocess.run(
            command, check=False, env=environment(), capture_output=True, text=True, timeout=600
        )
        if done.returncode:
            raise FailedPrecondition(f"{made.name} could not be made: {done.stderr[-300:]}")
    return made


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


def known(names: list[str]) -> list[Peer]:
    """Return the peers of these names; all stands for each that there is."""
    return list(PEERS.values()) if "all" in names else [PEERS[name] for name in names]


def _home() -> pathlib.Path:
    return state_dir() / "peers"


def _folder(peer: Peer) -> pathlib.Path:
    return _home() / peer.module


def _stamp(peer: Peer) -> pathlib.Path:
    return _folder(peer) / "installed"
