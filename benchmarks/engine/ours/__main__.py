"""The process of our contender."""

from __future__ import annotations

from typing import Any

from benchmarks.engine.contender import serve
from benchmarks.engine.ours.thermesh import Thermesh
from services.inference.__main__ import settle


def load(options: dict[str, Any]) -> Thermesh:
    """Load the model, and settle as the service does."""
    contender = Thermesh(options["model"])
    settle()
    return contender


if __name__ == "__main__":
    serve(load)
