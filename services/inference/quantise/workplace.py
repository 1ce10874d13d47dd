"""What a run has found so far, on disk: an interrupted run goes on where it was.

Everything lies in one folder beside the output. It belongs to one model and one
set of options, told by a fingerprint; for another it is emptied.
"""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np


class Workplace:
    """A folder of named results; a name is there whole or not at all."""

    def __init__(self, folder: pathlib.Path, fingerprint: Mapping[str, Any]) -> None:
        self._folder = folder
        stored = json.dumps(dict(fingerprint), sort_keys=True)
        marker = folder / "fingerprint.json"
        if not marker.is_file() or marker.read_text() != stored:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            marker.write_text(stored)

    def arrays(self, name: str) -> dict[str, np.ndarray] | None:
        """Return the arrays kept as `name`, None where there are none."""
        path = self._folder / f"{name}.npz"
        if not path.is_file():
            return None
        with np.load(path) as stored:
            return dict(stored)

    def keep_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep `arrays` as `name`."""
        partial = self._folder / f".{name}.npz"
        named: dict[str, Any] = dict(arrays)
        np.savez(partial, **named)
        partial.replace(self._folder / f"{name}.npz")

    def values(self, name: str) -> Any:
        """Return the JSON value kept as `name`, None where there is none."""
        path = self._folder / f"{name}.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def keep_values(self, name: str, value: Any) -> None:
        """Keep a JSON value as `name`."""
        partial = self._folder / f".{name}.json"
        partial.write_text(json.dumps(value))
        partial.replace(self._folder / f"{name}.json")

    def remove(self) -> None:
        """Forget everything: the run is done."""
        shutil.rmtree(self._folder, ignore_errors=True)
