"""What training minimises: the divergence of the student's next token from the teacher's.

    KL(teacher || student) = sum p log(p / q), by logits of the student: q - p

The gradient is known, so no logit is kept for a backward pass: places go through
the vocabulary in pieces. Hinton et al., 2015, https://arxiv.org/abs/1503.02531.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

_PLACES_AT_ONCE = 256
"""50 MB of float32 for a vocabulary of 49,152."""


@dataclass(frozen=True)
class Loss:
    """Mean divergence in nats over places, and its gradients."""

    mean: float
    by_state: torch.Tensor
    """[places, hidden]."""
    by_head: torch.Tensor
    """[hidden, vocabulary]."""


@torch.no_grad()
def divergence(
    state: torch.Tensor, head: torch.Tensor, taught: torch.Tensor, teacher_head: torch.Tensor
) -> Loss:
    """Compare what the heads make of `state` (the student's) and `taught`: [places, hidden]."""
    total, count = torch.zeros((), device=state.device), len(state)
    by_state, by_head = torch.empty_like(state), torch.zeros_like(head)
    for start in range(0, count, _PLACES_AT_ONCE):
        piece = slice(start, start + _PLACES_AT_ONCE)
        wanted = torch.log_softmax((taught[piece] @ teacher_head).float(), -1)
        found = torch.log_softmax((state[piece] @ head).float(), -1)
        chances = wanted.exp()
        total += (chances * (wanted - found)).sum()
        by_logit = found.exp_().sub_(chances).div_(count)
        by_state[piece] = (by_logit @ head.t()).float()
        by_head += (state[piece].t() @ by_logit).float()
    return Loss(float(total) / count, by_state, by_head)
