"""Which heads of a model read a window of its context on the light path.

`python -m services.inference.routing` measures them (`docs/architecture/kernels-cpu.md`
tells how) and writes them to `head_windows.json`, by a fingerprint of the model's last
norm: that is the same however its matrices are quantised.
"""

from __future__ import annotations

import functools
import hashlib
import json
import pathlib

import numpy as np
import numpy.typing as npt

from services.inference.kernels import HeadWindows
from services.inference.models.config import ModelConfig

TABLES = pathlib.Path(__file__).with_suffix(".json")


def fingerprint(last_norm: npt.NDArray[np.float32]) -> str:
    """Return the name of a model's table."""
    return hashlib.sha256(np.asarray(last_norm, dtype="<f4").tobytes()).hexdigest()[:16]


def measured(config: ModelConfig, last_norm: npt.NDArray[np.float32]) -> HeadWindows | None:
    """Return the windows of a model's heads, None where nobody has measured them."""
    windows = _tables().get(fingerprint(last_norm))
    if windows is None or [len(layer) for layer in windows] != [config.kv_heads] * config.layers:
        return None
    return windows


@functools.cache
def _tables() -> dict[str, HeadWindows]:
    tables = json.loads(TABLES.read_text(encoding="utf-8"))
    return {name: tuple(map(tuple, table["windows"])) for name, table in tables.items()}
