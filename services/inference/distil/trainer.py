"""One step of training after another: what the student learns, and how fast.

Adam (Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980) with the rate of each
tensor relative to the size of its numbers, so that one rate fits weights, scales
and norms. Where there is a light path, each text teaches both networks, whole and
path, as they share their weights (the sandwich of Yu and Huang, 2019,
https://arxiv.org/abs/1903.05134, without its middle).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from services.inference.distil import objective, schedule
from services.inference.distil.schedule import Progress
from services.inference.distil.student import Student
from services.inference.models import nested_weights
from services.inference.models.nested import Prefix
from services.inference.models.weights import Weights
from services.inference.quantise import forward

_BETAS = (0.9, 0.95)
"""Runs are short: the second moment follows within some twenty steps."""
_TEXTS_AT_ONCE = 4
"""A step casts all weights once for so many texts; more of them would take much memory."""


@dataclass(frozen=True)
class Lesson:
    """How to train; `rate` is the share of its size that a number moves in a step at most."""

    rate: float = 1e-3
    texts: int = 4
    """Of each step."""
    seed: int = 1
    is_mixed: bool = False
    """Whether products are of bfloat16, accumulated in float32."""


class Trainer:
    """Teaches `student` what `teacher` says of `texts` ([texts, tokens] int64)."""

    def __init__(
        self,
        student: Student,
        teacher: Weights,
        texts: torch.Tensor,
        lesson: Lesson,
        light: Prefix | None = None,
    ) -> None:
        self.student = student
        self.progress = Progress()
        self._teacher = teacher
        self._texts = texts
        self._lesson = lesson
        self._paths = [None] if light is None else [None, light]
        self._device = teacher.norm.device
        self._names = list(student.parameters)
        groups = [{"params": [one], "size": _size(one)} for one in student.parameters.values()]
        self._optimizer = torch.optim.Adam(groups, lr=0.0, betas=_BETAS)

    def step(self, share: float) -> float:
        """Take one step at `share` of the run; return the mean divergence before it, in nats."""
        lesson = self._lesson
        chosen = schedule.batch(self.progress.steps, len(self._texts), lesson.texts, lesson.seed)
        means = [
            self._learn(part, len(part) / len(chosen)) * len(part)
            for start in range(0, len(chosen), _TEXTS_AT_ONCE)
            if (part := chosen[start : start + _TEXTS_AT_ONCE])
        ]
        self._move(schedule.rate(share, lesson.rate))
        mean = sum(means) / len(chosen)
        self.progress.steps += 1
        self.progress.means.append(mean)
        return mean

    def state(self) -> dict[str, Any]:
        """Return everything that a later process needs to go on."""
        return {
            "parameters": self.student.parameters,
            "optimizer": self._optimizer.state_dict(),
            "progress": vars(self.progress),
        }

    @torch.no_grad()
    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        for name, tensor in self.student.parameters.items():
            tensor.copy_(state["parameters"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
        self.student.materialise()

    def _learn(self, indices: Sequence[int], weight: float) -> float:
        """Add the gradients of some texts, run together, at `weight`; return the mean loss."""
        ids, config = self._texts[list(indices)].to(self._device), self.student.config
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._lesson.is_mixed):
            with torch.no_grad():
                start = forward.embedded(self._teacher, ids)
                taught = forward.hidden(config, self._teacher, start).flatten(0, 1)
            means = [self._learn_path(path, ids, taught, weight) for path in self._paths]
        return sum(means) / len(means)

    def _learn_path(
        self, path: Prefix | None, ids: torch.Tensor, taught: torch.Tensor, weight: float
    ) -> float:
        config, weights = self.student.config, self.student.weights
        if path is not None:
            config, weights = path.config(config), nested_weights.cut(weights, config, path)
        state = forward.hidden(config, weights, forward.embedded(weights, ids)).flatten(0, 1)
        loss = objective.divergence(state.detach(), weights.head, taught, self._teacher.head)
        share = weight / len(self._paths)
        torch.autograd.backward(state, loss.by_state * share)
        head = self.student.weights.head
        if head.requires_grad:
            # The embedding's part is there already where it is the head as well.
            by_head = loss.by_head * share
            head.grad = by_head if head.grad is None else head.grad.add_(by_head)
        return loss.mean

    def _move(self, rate: float) -> None:
        gradients = self.student.gradients()
        for name, group in zip(self._names, self._optimizer.param_groups, strict=True):
            group["lr"] = rate * group["size"]
            group["params"][0].grad = gradients.pop(name)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.student.materialise()


def _size(tensor: torch.Tensor) -> float:
    """Return the root mean square of a tensor's numbers, 1 where all are 0."""
    return float(tensor.square().mean().sqrt()) or 1.0
