"""Log files of the supervised processes: rotated at start, bounded while running."""

from __future__ import annotations

import pathlib
import shutil

KEPT_RUNS = 3
MAX_BYTES = 32 * 1024 * 1024


def rotate(path: pathlib.Path) -> None:
    """Move `path` to `path.1`, that to `path.2`, and so on; the oldest is lost."""
    for number in range(KEPT_RUNS, 0, -1):
        older = _numbered(path, number)
        newer = _numbered(path, number - 1)
        if newer.exists():
            newer.replace(older)


def shorten(path: pathlib.Path) -> bool:
    """Copy a log that grew over MAX_BYTES to `path.1` and empty it; tell whether.

    Its writer goes on in append mode, so it need not know. Lines written
    between copy and truncation are lost.
    """
    if not path.exists() or path.stat().st_size <= MAX_BYTES:
        return False
    shutil.copyfile(path, _numbered(path, 1))
    with path.open("r+b") as file:
        file.truncate(0)
    return True


def tail(path: pathlib.Path, lines: int = 12) -> list[str]:
    """Return the last lines of a log; none where there is no log."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 16_384))
        return file.read().decode(errors="replace").splitlines()[-lines:]


def _numbered(path: pathlib.Path, number: int) -> pathlib.Path:
    return path.with_name(f"{path.name}.{number}") if number else path
