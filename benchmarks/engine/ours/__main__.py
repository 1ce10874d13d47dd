"""The process of our contender."""

from __future__ import annotations

import torch

from benchmarks.engine.contender import serve
from benchmarks.engine.ours.thermesh import Thermesh

if __name__ == "__main__":
    with torch.inference_mode():
        serve(lambda options: Thermesh(options["model"]))
