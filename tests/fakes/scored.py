"""Scores as tensors, whatever a network computes with."""

from __future__ import annotations

from typing import Any

import torch


def scored(network: Any, token_ids: torch.Tensor) -> torch.Tensor:
    """Return [tokens, vocabulary] logits after each of [tokens] ids."""
    return torch.as_tensor(network.score(token_ids))
