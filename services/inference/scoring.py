"""How probable a model finds a text: one forward pass, off the engine thread."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.inference.sampling.sampler import entropy_of, log_softmax
from thermesh.errors import InvalidArgument, ResourceExhausted

MAX_TOKENS = 2048
"""Longest text: its logits take 400 MB with a vocabulary of 49,152."""

MAX_PENDING = 8


class ScoringNetwork(Protocol):
    """What scoring needs of a model's network."""

    def score(self, token_ids: npt.NDArray[np.int64]) -> npt.ArrayLike:
        """Return [tokens, vocabulary] float32 logits, on the CPU, for [tokens] ids."""
        ...


class Scorer:
    """Scores one text after another on a thread of its own.

    The thread shares the cores with decoding but never makes a step wait.
    """

    def __init__(self, network: ScoringNetwork) -> None:
        self._network = network
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="score")
        self._pending = 0

    async def score(self, token_ids: list[int], field: str) -> tuple[list[float], list[float]]:
        """Return (log-probabilities, entropies) in nats of each token but the
        first. Raises InvalidArgument naming `field` for a text that is too
        short or long, ResourceExhausted while others wait.
        """
        if not 2 <= len(token_ids) <= MAX_TOKENS:
            message = f"{field} has {len(token_ids)} tokens; 2 to {MAX_TOKENS} can be scored"
            raise InvalidArgument(message, field=field)
        if self._pending >= MAX_PENDING:
            raise ResourceExhausted(f"{MAX_PENDING} texts wait to be scored", retry_after=1.0)
        self._pending += 1
        work = self._executor.submit(self._compute, token_ids)
        # The thread cannot be interrupted: a text counts until it is done,
        # also where its caller went away.
        loop = asyncio.get_running_loop()
        work.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        return await asyncio.wrap_future(work)

    def close(self) -> None:
        """Drop what waits; the text being scored is finished."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _done(self) -> None:
        self._pending -= 1

    def _compute(self, token_ids: list[int]) -> tuple[list[float], list[float]]:
        logits = np.asarray(self._network.score(np.array(token_ids)))
        # Row by row: a second matrix of that size would double the memory.
        scored = [_scored(*row) for row in zip(logits[:-1], token_ids[1:], strict=True)]
        return [one for one, _ in scored], [entropy for _, entropy in scored]


def _scored(logits: npt.NDArray[np.float32], token_id: int) -> tuple[float, float]:
    """Return (log-probability of a token, entropy), nats, by the logits before it."""
    log_probabilities = log_softmax(logits)
    return float(log_probabilities[token_id]), entropy_of(log_probabilities)
