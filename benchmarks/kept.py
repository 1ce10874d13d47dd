"""Long computations in steps: what is done is in a file, and is not done again."""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

Step = Callable[[], dict[str, Any]]
Steps = Mapping[str, Step]


class Kept:
    """Steps that are done, in a file; `key` names what they were computed from."""

    def __init__(self, path: pathlib.Path, key: str) -> None:
        self._path = path
        stored = json.loads(path.read_text()) if path.exists() else {}
        self._steps = stored if stored.get("key") == key else {"key": key, "seconds": 0.0}

    @property
    def seconds(self) -> float:
        """How long all steps took."""
        return float(self._steps["seconds"])

    def computed(self, name: str, step: Step) -> dict[str, Any]:
        """Return a step's result, computed now where it is not there yet."""
        if name not in self._steps:
            began = time.monotonic()
            self._steps[name] = step()
            self._steps["seconds"] += time.monotonic() - began
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._steps))
        return dict(self._steps[name])


def computed(steps: Steps, kept: Kept, tell: Callable[[str], None]) -> dict[str, Any]:
    """Return the result of every step, telling of progress; `group/member` is found by both."""
    found: dict[str, Any] = {}
    for number, (name, step) in enumerate(steps.items(), 1):
        group, _, member = name.partition("/")
        result = kept.computed(name, step)
        found |= {group: {**found.get(group, {}), member: result} if member else result}
        tell(f"[{number}/{len(steps)}] {name}: {kept.seconds:.0f} s")
    return found
