"""What the command line prints: plain lines, with colour and bars where they can be shown."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from thermesh.wheels import Progress

_STYLES = {"good": "32", "bad": "31", "warn": "33", "dim": "2", "bold": "1"}
PERCENT_STEP = 25


def colour_depth(stream: TextIO, environ: Mapping[str, str] = os.environ) -> int:
    """Return how many bits of colour `stream` shows: 24, 8 or 0.

    https://no-color.org: any value of NO_COLOR but the empty one means none.
    """
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb" or not stream.isatty():
        return 0
    return 24 if environ.get("COLORTERM") in {"truecolor", "24bit"} else 8


def styled(text: str, style: str, stream: TextIO = sys.stdout) -> str:
    """Return `text` in one of the styles good, bad, warn, dim, bold where colour is shown."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if colour_depth(stream) else text


def fail(message: str) -> None:
    """Print an error for a person on standard error."""
    print(f"{styled('error:', 'bad', sys.stderr)} {message}", file=sys.stderr, flush=True)


def table(rows: Sequence[tuple[str, ...]], indent: str = "  ") -> str:
    """Return `rows` as lines with aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(f"{indent}{line}".rstrip() for line in lines)


@contextlib.contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Show how far a fetch is: a bar where `rich` and a terminal are, lines elsewhere."""
    if sys.stdout.isatty() and importlib.util.find_spec("rich"):
        with _bar(title) as bar:
            yield bar
    else:
        yield _Lines(title)


@contextlib.contextmanager
def _bar(title: str) -> Iterator[Progress]:
    shown: Any = importlib.import_module("rich.progress")
    columns = ("{task.description}", shown.BarColumn(), shown.DownloadColumn())
    with shown.Progress(*columns, shown.TimeRemainingColumn()) as bars:
        task = bars.add_task(title)

        def update(stage: str, done_bytes: int, total_bytes: int) -> None:
            bars.update(
                task, description=f"{title}: {stage}", completed=done_bytes, total=total_bytes
            )

        yield update


class _Lines:
    """Progress as a line every quarter, for logs and pipes."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._said = ("", 0)

    def __call__(self, stage: str, done_bytes: int, total_bytes: int) -> None:
        step = 100 * done_bytes // max(1, total_bytes) // PERCENT_STEP * PERCENT_STEP
        if (stage, step) != self._said:
            self._said = (stage, step)
            print(f"  {self._title}: {stage} {step}% of {total_bytes / 1e6:.0f} MB", flush=True)
