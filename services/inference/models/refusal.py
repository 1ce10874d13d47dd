"""The two ways to refuse a model: its file is broken, or it asks for what we lack.

Both name the file by its last path component only: the message may reach a
client, who has no business knowing the folders of the server.
"""

from __future__ import annotations

import pathlib

from thermesh.errors import FailedPrecondition, InvalidArgument


def malformed(path: pathlib.Path, problem: str) -> InvalidArgument:
    """Return the error for a file that is not what it claims to be."""
    return InvalidArgument(f"{path.name}: {problem}", field="model", reason="MALFORMED_MODEL")


def unsupported(path: pathlib.Path, problem: str) -> FailedPrecondition:
    """Return the error for a sound file that this engine cannot run."""
    return FailedPrecondition(f"{path.name}: {problem}", field="model", reason="UNSUPPORTED_MODEL")
