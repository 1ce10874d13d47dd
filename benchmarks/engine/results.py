"""The file of a run: samples as they were taken, and where.

It is written after every sample, so that an interrupted run loses none and
can go on.
"""

from __future__ import annotations

import json
import os
import pathlib
import time
from collections import Counter
from typing import Any

from benchmarks import machine
from benchmarks.engine.plan import Sample, Samples
from thermesh.errors import FailedPrecondition, InvalidArgument

SAME = ("processor", "cores")
"""What must not change between the slices of one run. The commit may: a figure that was
finished at another one is kept and says so, any other is measured anew.
"""


class Results:
    """Samples by figure and contender, in the order of rounds."""

    def __init__(self, path: pathlib.Path, model: str) -> None:
        self.path = path
        self.content: dict[str, Any] = {
            "machine": machine.describe(),
            "model": model,
            "slices": [],
            "contenders": {},
            "commits": {},
            "trials": {},
            "samples": {},
            "failures": {},
        }

    @classmethod
    def resumed(cls, path: pathlib.Path, model: str) -> Results:
        """Read a file and go on in it.

        Raises InvalidArgument where it is none, FailedPrecondition where it
        was taken on another machine or model.
        """
        results = cls(path, model)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            before = {key: found["machine"][key] for key in SAME} | {"model": found["model"]}
            found.setdefault("commits", dict.fromkeys(found["samples"], found["machine"]["commit"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = f"{path} is no file of an engine benchmark"
            raise InvalidArgument(message, field="resume") from error
        now = results.content
        after = {key: now["machine"][key] for key in SAME} | {"model": model}
        if before != after:
            changed = ", ".join(
                f"{key} ({before[key]}, here {after[key]})"
                for key in before
                if before[key] != after[key]
            )
            raise FailedPrecondition(f"{path} was measured with another {changed}: begin anew")
        results.content = {**now, **found, "machine": now["machine"]}
        return results

    def claim(self, figure: str) -> None:
        """Begin to take samples of a figure; those of another commit are dropped."""
        commit = self.content["machine"]["commit"]
        if self.content["commits"].setdefault(figure, commit) != commit:
            self.forget(figure)
            self.content["commits"][figure] = commit

    def forget(self, figure: str) -> None:
        """Drop all that is known of a figure."""
        for kind in ("commits", "trials", "samples", "failures"):
            self.content[kind].pop(figure, None)

    @property
    def samples(self) -> Samples:
        """Samples by figure and contender."""
        found: Samples = self.content["samples"]
        return found

    def count(self, figure: str, contender: str) -> int:
        """Return for how many rounds a contender has samples."""
        return len(self.samples.get(figure, {}).get(contender, ()))

    def add(self, figure: str, contender: str, sample: Sample) -> None:
        """Keep the sample of one more round."""
        self.content["samples"].setdefault(figure, {}).setdefault(contender, []).append(sample)
        self.save()

    def trial(self, figure: str, contender: str) -> Sample | None:
        """Return what a contender's trial gave, None where it had none or failed."""
        found: Sample | None = self.content["trials"].get(figure, {}).get(contender)
        return found

    def add_trial(self, figure: str, contender: str, sample: Sample) -> None:
        """Keep what the trial gave."""
        self.content["trials"].setdefault(figure, {})[contender] = sample
        self.save()

    def has_failed(self, figure: str, contender: str) -> bool:
        """Whether a contender is out of a figure."""
        return contender in self.content["failures"].get(figure, {})

    def fail(self, figure: str, contender: str, words: str) -> None:
        """Note why a contender is out of a figure."""
        self.content["failures"].setdefault(figure, {})[contender] = words
        self.save()

    def describe(self, contender: str, described: Any) -> None:
        """Keep what a contender says of itself."""
        self.content["contenders"][contender] = described

    def begin_slice(self) -> None:
        """Note when and under which load a stretch of the run begins."""
        load = [round(each, 2) for each in os.getloadavg()]
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.content["slices"].append({"at": now, "load_average": load, "seconds": 0.0})

    def end_slice(self, seconds: float, figures: Counter[str]) -> None:
        """Note how long it took, and how many samples of which figures it has."""
        self.content["slices"][-1].update(seconds=round(seconds, 1), samples=dict(figures))
        self.save()

    def save(self) -> None:
        """Write the file in one piece."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".new")
        partial.write_text(json.dumps(self.content, indent=1) + "\n", encoding="utf-8")
        partial.replace(self.path)
