"""Distance of the default tier's distributions to float32's on the same weights."""

from __future__ import annotations

import os
import pathlib
from unittest import mock

import numpy as np
import torch

from benchmarks.engine.ours.thermesh import Thermesh
from services.inference.models import load

TEXT = pathlib.Path(__file__).with_name("text.txt")
"""The opening of "On the Origin of Species" (Darwin, 1859, public domain) and
a page of code: prose that the model knows little of, and text it predicts well."""


def to_float32(contender: Thermesh) -> dict[str, float]:
    """Return mean KL divergence in nats a token, and the share of equal likeliest tokens."""
    ids = np.array(contender.model.tokenizer.encode(TEXT.read_text(encoding="utf-8")))
    with mock.patch.dict(os.environ, {"THERMESH_KERNELS": "reference"}):
        exact = load(contender.path, "float32")
    expected, actual = (
        torch.as_tensor(model.network.score(ids)).log_softmax(-1)
        for model in (exact, contender.model)
    )
    same = (actual.argmax(-1) == expected.argmax(-1)).float().mean()
    return {
        "mean_kl": float((expected.exp() * (expected - actual)).sum(-1).mean()),
        "top1_agreement": float(same),
        "tokens": float(len(ids)),
    }
