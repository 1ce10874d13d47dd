"""One run of `thermesh distil`: each part is kept in the workplace as it is done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from services.inference.distil import order
from services.inference.distil.checkpoint import Checkpoint, trained
from services.inference.distil.judgement import Judge
from services.inference.distil.order import Order
from services.inference.distil.source import OrderedSource
from services.inference.distil.straight_through import Matrix
from services.inference.distil.student import Student, moved
from services.inference.distil.trainer import Lesson, Trainer
from services.inference.models import load, nested
from services.inference.models.group_codes import Rows
from services.inference.models.nested import Prefix
from services.inference.quantise import allocation, compensating, texts
from services.inference.quantise.allocation import Mix
from services.inference.quantise.search import Options, Progress, Search, texts_of
from services.inference.quantise.workplace import Workplace
from thermesh.errors import InvalidArgument

_SEEDS_APART = 1000
"""Between the texts that are measured on and those that are trained on."""
_COMPENSATING = 2
"""One text to train on of so many shows which inputs matrices have."""


@dataclass(frozen=True)
class Task:
    """What a run is to make; it belongs to the fingerprint of its workplace."""

    bits: float = 4.0
    light: float = 0.0
    """Share of neurons and heads on the light path; 0: there is none."""
    rate: float = 4e-4
    texts: int = 256
    """Texts to train on."""
    texts_per_step: int = 4


class Lessons:
    """What every run does: texts to train on, and training until the time is spent."""

    source: OrderedSource
    shared: Prefix | None = None
    """A path whose weights are a beginning of the student's, to be taught as well."""

    def __init__(
        self, task: Task, options: Options, workplace: Workplace, progress: Progress
    ) -> None:
        self._task = task
        self._options = options
        self._workplace = workplace
        self._progress = progress

    def orders(self, source: OrderedSource, fitted: torch.Tensor) -> list[Order]:
        """Return the units of each layer in the order of their importance on texts `fitted`."""
        kept = self._workplace.arrays("order")
        if kept is None:
            found = order.measured(source.config, source.weights(), fitted, self._options.seed)
            orders = [one.order(source.config.kv_heads) for one in found]
            kept = {
                "heads": np.stack([one.heads for one in orders]),
                "neurons": np.stack([one.neurons for one in orders]),
            }
            self._workplace.keep_arrays("order", kept)
        pairs = zip(kept["heads"], kept["neurons"], strict=True)
        return [Order(*pair) for pair in pairs]

    def lessons(self) -> torch.Tensor:
        """Return the texts to train on: [texts, tokens] int64."""
        kept = self._workplace.arrays("lessons")
        if kept is None:
            found = texts.gathered(
                load(self.source.path, "original"),
                fitted=self._task.texts,
                held_out=0,
                length=self._options.length,
                seed=self._options.seed + _SEEDS_APART,
                progress=lambda done, of: self._progress("texts to train on", done, of),
            )
            kept = {"texts": found.fitted.numpy()}
            self._workplace.keep_arrays("lessons", kept)
        return torch.from_numpy(kept["texts"])

    def train(
        self, student: Student, minutes: float, is_mixed: bool, checkpoint: Checkpoint
    ) -> Trainer:
        """Train `student` for `minutes` in all, and return what did."""
        device = student.weights.norm.device
        teacher = moved(self.source.weights(), device)
        lesson = Lesson(self._task.rate, self._task.texts_per_step, self._options.seed, is_mixed)
        trainer = Trainer(student, teacher, self.lessons(), lesson, self.shared)
        checkpoint.restore(trainer)
        trained(trainer, checkpoint, minutes * 60, self._shown(minutes))
        return trainer

    def _shown(self, minutes: float) -> Callable[[int, float, float], None]:
        def show(steps: int, seconds: float, mean: float) -> None:
            stage = f"step {steps}, {mean:.4f} nats, seconds"
            self._progress(stage, min(round(seconds), round(minutes * 60)), round(minutes * 60))

        return show


class Run(Lessons):
    """Everything between a model and its distilled file, a mix of formats."""

    def __init__(
        self,
        source: OrderedSource,
        task: Task,
        options: Options,
        workplace: Workplace,
        progress: Progress,
    ) -> None:
        super().__init__(task, options, workplace, progress)
        measured = texts_of(source, options, workplace, progress)
        self.light = nested.of_share(source.config, task.light) if task.light else None
        self.shared, self.source = self.light, source
        if self.light is not None:
            self.source = OrderedSource(source.path, self.orders(source, measured.fitted))
        self.search = Search(self.source, options, workplace, progress)
        self.held_out = measured.held_out
        self.mix = self._mix()

    def _mix(self) -> Mix:
        weights = sum(rows * columns for rows, columns in self.source.matrices.values())
        found = allocation.allocated(self.search.choices, int(weights * self._task.bits / 8))
        if found is None:
            raise InvalidArgument(f"nothing fits {self._task.bits:g} bits a weight", field="bits")
        return found

    def student(self, device: torch.device, is_mixed: bool, *, is_begun: bool) -> Student:
        """Return the network as rounding leaves it.

        Codes compensate, but where training `is_begun`: it goes on from its own.
        """
        source, mix = self.source, self.mix
        grids = {name: self.search.rows_of(name, form) for name, form in mix.items()}
        begun = {} if is_begun else dict(self._compensated(grids, is_mixed))
        matrices = {}
        for name, form in mix.items():
            latent = begun[name] if name in begun else source.matrix(name)
            matrices[name] = Matrix(latent.to(device).contiguous(), grids[name], form)
        names = [name for name in source.file.tensors if name not in mix]
        vectors = {name: source.vector(name).to(device) for name in names}
        frequencies = source.weights().inverse_frequencies.to(device)
        return Student(source.config, matrices, vectors, frequencies)

    def _compensated(
        self, grids: dict[str, Rows], is_mixed: bool
    ) -> Iterator[tuple[str, torch.Tensor]]:
        source, mix = self.source, self.mix
        texts = self.lessons()[: self._task.texts // _COMPENSATING + 1]
        found = compensating.numbers(
            source.config, source.weights(), texts, mix, grids.__getitem__, is_mixed=is_mixed
        )
        for count, pair in enumerate(found, 1):
            self._progress("compensating", count, len(mix))
            yield pair

    def judged(self, judge: Judge, student: Student) -> dict[str, Any]:
        """Return what the student is worth, the whole network and its light path."""
        weights = moved(student.weights, torch.device("cpu"))
        found = {"whole": judge.judged(weights)}
        if self.light is not None:
            found["light"] = judge.path(weights, self.light)
        return found

    def write(self, student: Student, target: Any) -> None:
        """Write the file."""
        told = {} if self.light is None else self.light.metadata()
        self.source.write(
            target,
            self.mix,
            lambda name: student.matrices[name].rows(),
            vector_of=lambda name: student.vectors[name],
            told=told,
        )

    def sizes(self) -> dict[str, Any]:
        """Return what the report says of the file."""
        return {
            "bytes": allocation.byte_count(self.search.choices, self.mix),
            "light": None if self.light is None else vars(self.light),
            "formats": {name: dataclasses.astuple(form) for name, form in self.mix.items()},
        }
