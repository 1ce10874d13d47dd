"""What training minimises: the divergence of the student's next token from the teacher's.

    KL(teacher || student) = sum p log(p / q), by logits of the student: q - p

The gradient is known, so no logit is kept for a backward pass, only its gradient, in the
precision of products: places go through the vocabulary in pieces, and the heads' own
products, where the time goes, take all places at once. Hinton et al., 2015,
https://arxiv.org/abs/1503.02531.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

_PLACES_AT_ONCE = 64
"""12 MB of float32 for a vocabulary of 49,152: what an allocator keeps for the next piece."""


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
    product = _product_dtype(state)
    # Cast once: without gradients autocast casts a head at each of its products.
    head, teacher_head = head.to(product), teacher_head.to(product)
    total, count = torch.zeros((), device=state.device), len(state)
    by_logit = torch.empty(count, head.shape[1], dtype=product, device=state.device)
    for start in range(0, count, _PLACES_AT_ONCE):
        piece = slice(start, start + _PLACES_AT_ONCE)
        wanted = torch.log_softmax((taught[piece].to(product) @ teacher_head).float(), -1)
        found = torch.log_softmax((state[piece].to(product) @ head).float(), -1)
        chances = wanted.exp()
        total += (chances * wanted.sub_(found)).sum()
        by_logit[piece] = found.exp_().sub_(chances).div_(count)
    by_state = by_logit @ head.t()
    by_head = state.to(product).t() @ by_logit
    return Loss(float(total) / count, by_state.to(state.dtype), by_head.float())


def _product_dtype(state: torch.Tensor) -> torch.dtype:
    kind = state.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else state.dtype
