"""A light path with weights of its own, beside a network that stays bit for bit as it was.

    order -> cut -> refit and round -> training -> judgement -> file

Heads are dear and stay, as does everything else of attention, so that both networks read
each other's cache. Cut are neurons, and the bits of embedding and head. What is cut is
fitted anew (`refitting`), and what feed-forward parts and norms are is trained then, with
the original as teacher.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from services.inference.distil.judgement import Judge
from services.inference.distil.order import Order
from services.inference.distil.refitting import refit
from services.inference.distil.run import Lessons, Task
from services.inference.distil.source import OrderedSource
from services.inference.distil.straight_through import Matrix
from services.inference.distil.student import Student, moved
from services.inference.models import nested
from services.inference.models.group_codes import BLOCK, GroupFormat, Rows
from services.inference.models.nested import Prefix
from services.inference.models.weights import Weights, expected_shapes
from services.inference.quantise import forward
from services.inference.quantise.compensating import second_moments
from services.inference.quantise.compensation import compensated, rounded_to
from services.inference.quantise.rounding import rounded
from services.inference.quantise.search import Options, Progress, texts_of
from services.inference.quantise.source import Stored
from services.inference.quantise.workplace import Workplace

NEURONS_FORM = GroupFormat(4, BLOCK, True)
"""Of the feed-forward part: blocks of Q4_1."""
HEAD_FORM = GroupFormat(4, BLOCK, False)
"""Of embedding and head: blocks of Q4_0."""
_SHOWN = 64
"""Texts to train on that show which inputs matrices have."""
_HEADS = ("token_embd.weight", "output.weight")


class LightRun(Lessons):
    """Everything between a model and its file with a light path of its own.

    `task.light` is the share of neurons that the path keeps.
    """

    def __init__(
        self,
        source: OrderedSource,
        task: Task,
        options: Options,
        workplace: Workplace,
        progress: Progress,
    ) -> None:
        super().__init__(task, options, workplace, progress)
        config = source.config
        measured = texts_of(source, options, workplace, progress)
        self.held_out = measured.held_out
        self.source = OrderedSource(source.path, self._orders(source, measured.fitted))
        neurons = nested.of_share(config, task.light).neurons
        self.light = Prefix(config.heads // config.kv_heads, neurons)
        self._sizes = self.light.config(config)
        self._heads: dict[str, Stored] = {}

    def _orders(self, source: OrderedSource, fitted: torch.Tensor) -> list[Order]:
        # Heads stay where they are: their tensors are the whole's.
        heads = np.arange(source.config.heads)
        return [Order(heads, one.neurons) for one in self.orders(source, fitted)]

    def student(self, device: torch.device, is_mixed: bool, *, is_begun: bool) -> Student:
        """Return the path as refitting and rounding leave it.

        Where training `is_begun` it goes on from its own numbers, and nothing is refitted.
        """
        whole = self.source.weights()
        part = nested.separated(whole, self.source.config, self.light)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            self._round_heads(whole, part)
        views = part.destinations(self._sizes)
        found = {
            name: self._rounded(view.contiguous())
            for name, view in views.items()
            if ".ffn_" in name and view.dim() == 2
        }
        if not is_begun:
            self._refit(whole, part, found, is_mixed)
        matrices = {
            name: Matrix(latent.to(device).contiguous(), grid, NEURONS_FORM)
            for name, (latent, grid) in found.items()
        }
        others = {name: view.to(device) for name, view in views.items() if name not in matrices}
        vectors = {name: other for name, other in others.items() if name.endswith("norm.weight")}
        fixed = {name: other for name, other in others.items() if name not in vectors}
        return Student(self._sizes, matrices, vectors, part.inverse_frequencies.to(device), fixed)

    @torch.no_grad()
    def _round_heads(self, whole: Weights, part: Weights) -> None:
        """Round embedding and head in place; codes of the head make up for one another."""
        config, views = self.source.config, part.destinations(self._sizes)
        texts = self._shown_texts()
        state = forward.hidden(config, whole, forward.embedded(whole, texts)).float()
        heads = ("token_embd.weight",) if config.tied_embeddings else _HEADS
        for name in heads:
            matrix = views[name].contiguous()
            moments = second_moments(state) if name == heads[-1] else torch.eye(matrix.shape[1])
            numbers, grid = compensating_codes(matrix, moments, HEAD_FORM)
            rows = rounded_to(grid, HEAD_FORM, numbers)
            views[name].copy_(torch.from_numpy(rows.weights(HEAD_FORM)))
            self._heads[name] = (rows, HEAD_FORM)

    def _rounded(self, matrix: torch.Tensor) -> tuple[torch.Tensor, Rows]:
        even = np.ones(matrix.shape[1], np.float32)
        return matrix, rounded(matrix, even, NEURONS_FORM)

    def _refit(
        self,
        whole: Weights,
        part: Weights,
        found: dict[str, tuple[torch.Tensor, Rows]],
        is_mixed: bool,
    ) -> None:
        def stored(name: str, matrix: torch.Tensor, moments: torch.Tensor) -> torch.Tensor:
            numbers, grid = found[name] = compensating_codes(matrix, moments, NEURONS_FORM)
            return torch.from_numpy(rounded_to(grid, NEURONS_FORM, numbers).weights(NEURONS_FORM))

        refit(
            (self.source.config, whole),
            (self._sizes, part),
            self._shown_texts(),
            stored,
            is_mixed=is_mixed,
            progress=lambda done, of: self._progress("refitting", done, of),
        )

    def _shown_texts(self) -> torch.Tensor:
        return self.lessons()[:: self._task.texts // _SHOWN or 1]

    def judged(self, judge: Judge, student: Student) -> dict[str, Any]:
        """Return what the path is worth."""
        weights = moved(student.weights, torch.device("cpu"))
        return {"light": judge.judged(weights, self._sizes)}

    def write(self, student: Student, target: Any) -> None:
        """Write the file."""
        matrices: dict[str, Stored] = {
            name: (matrix.rows(), NEURONS_FORM) for name, matrix in student.matrices.items()
        }
        own: dict[str, torch.Tensor | Stored] = {**student.vectors, **self._heads, **matrices}
        self.source.write_beside(target, own, self.light.metadata())

    def sizes(self) -> dict[str, Any]:
        """Return what the report says of the file."""
        shapes = expected_shapes(self._sizes)
        own = {name: shape for name, shape in shapes.items() if ".ffn_" in name or name in _HEADS}
        added = sum(
            shape[0] * (HEAD_FORM if name in _HEADS else NEURONS_FORM).row_bytes(shape[1])
            for name, shape in own.items()
            if len(shape) == 2
        )
        return {"bytes": self.source.path.stat().st_size + added, "light": vars(self.light)}


def compensating_codes(
    matrix: torch.Tensor, moments: torch.Tensor, form: GroupFormat
) -> tuple[torch.Tensor, Rows]:
    """Return numbers whose nearest codes compensate, and their grid."""
    grid = rounded(matrix, moments.diagonal().numpy(), form)
    return compensated(matrix, grid, form, moments), grid
