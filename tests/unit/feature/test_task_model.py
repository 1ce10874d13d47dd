"""The task classifier with the real encoder, on prompts that are none of its prototypes."""

import json
import pathlib

import pytest
import torch

from services.feature.encoder import Encoder
from services.feature.task import TaskClassifier
from thermesh.models import locate

PROMPTS = json.loads(pathlib.Path(__file__).with_name("task_prompts.json").read_text("utf-8"))


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.parametrize(("part", "least"), [("held_out", 0.9), ("later", 0.8)])
def test_the_encoder_names_most_prompts(part, least):
    """Accuracy passes the bar, abstentions counted as wrong."""
    torch.set_num_threads(1)
    encoder = Encoder(locate("all-minilm-l6-v2"))
    classifier = TaskClassifier(lambda text: encoder.encode(text).embedding)
    answers = [
        name == classifier.guess(text, encoder.encode(text).embedding).task
        for name, texts in PROMPTS[part].items()
        for text in texts
    ]
    assert sum(answers) >= least * len(answers)
