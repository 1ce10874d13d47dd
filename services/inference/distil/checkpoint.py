"""A run on disk: whoever interrupts it loses a minute at most."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable

import torch

from services.inference.distil.trainer import Trainer

_EVERY_SECONDS = 60.0


class Checkpoint:
    """One file, written beside its place and moved there when it is whole."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    @property
    def is_there(self) -> bool:
        """Tell whether a run was here before."""
        return self._path.is_file()

    def restore(self, trainer: Trainer) -> None:
        """Let `trainer` go on where it was, if it was."""
        if self.is_there:
            trainer.resume(torch.load(self._path, map_location="cpu", weights_only=True))

    def save(self, trainer: Trainer) -> None:
        """Keep what `trainer` knows."""
        partial = self._path.with_suffix(".partial")
        torch.save(trainer.state(), partial)
        partial.replace(self._path)


def trained(
    trainer: Trainer,
    checkpoint: Checkpoint,
    budget_seconds: float,
    show: Callable[[int, float, float], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Train until the time is spent; `show` is told (steps, seconds, divergence in nats).

    Only steps count, whichever process took them.
    """
    progress, kept = trainer.progress, trainer.progress.seconds
    try:
        while (share := progress.share(budget_seconds)) < 1:
            started = clock()
            mean = trainer.step(share)
            progress.seconds += clock() - started
            show(progress.steps, progress.seconds, mean)
            if progress.seconds - kept >= _EVERY_SECONDS:
                checkpoint.save(trainer)
                kept = progress.seconds
    except KeyboardInterrupt:
        # A step that was not finished changed nothing yet, or all it was to change.
        checkpoint.save(trainer)
        raise
    checkpoint.save(trainer)
