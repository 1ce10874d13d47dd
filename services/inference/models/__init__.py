"""Model files -> networks and tokenizers.

`load` takes a GGUF file or a folder in the layout of the Hugging Face hub and
returns a `LoadedModel`. The Llama family is what fits: RMS norm, rotary
positions, grouped-query attention, gated SiLU; `docs/architecture/engine-model.md`
tells the rest.
"""

from __future__ import annotations

import pathlib

from services.inference.models import gguf_model, safetensors_model
from services.inference.models.config import ModelConfig, RopeScaling
from services.inference.models.loaded import LoadedModel
from services.inference.models.tokenizer import Tokenizer

__all__ = ["LoadedModel", "ModelConfig", "RopeScaling", "Tokenizer", "load"]


def load(path: pathlib.Path, name: str) -> LoadedModel:
    """Load the model at `path` and call it `name`.

    `path` is a GGUF file or a folder with config.json, *.safetensors and
    tokenizer.json. Raises NotFound where there is none, InvalidArgument where
    a file is broken and FailedPrecondition where it is sound but not supported;
    each names the file, the problem and what is supported.
    """
    if path.is_dir():
        return safetensors_model.load(path, name)
    return gguf_model.load(path, name)
