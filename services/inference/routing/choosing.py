"""Windows that spare most tokens under a bound on divergence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def chosen(
    divergences: npt.NDArray[np.float64], sizes: Sequence[int], context: int, bound: float
) -> npt.NDArray[np.int_]:
    """Return the window of each head, 0 for none: [heads].

    `divergences` is [heads, sizes] nats for the window of each of `sizes`, `context`
    the tokens that a head without one reads. Divergences are taken to add up, which is
    right for small ones and independent heads: measure what comes out. The best ratio
    of tokens spared to divergence added is taken again and again while their sum stays
    within `bound`.
    """
    heads = len(divergences)
    tokens = np.array([context, *sizes])
    nats = np.concatenate((np.zeros((heads, 1)), divergences), axis=1)
    now = np.zeros(heads, dtype=int)
    every = np.arange(heads)
    left = bound
    while True:
        added = nats - nats[every, now][:, None]
        spared = tokens[now][:, None] - tokens[None]
        fits = (spared > 0) & (added <= left)
        if not fits.any():
            return np.where(now > 0, tokens[now], 0)
        ratio = np.where(fits, spared / np.maximum(added, 1e-9), -1.0)
        head, choice = np.unravel_index(ratio.argmax(), ratio.shape)
        left -= max(added[head, choice], 0.0)
        now[head] = choice
