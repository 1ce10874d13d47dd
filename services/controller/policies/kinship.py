"""How alike the actions of a grid are, so that what one earned says something of its neighbours.

The mean rewards of a task are one draw of a Gaussian process (Rasmussen & Williams 2006,
equations 2.25 and 2.26) over the grid. In units of the variance of one reward its covariance is
C = likeness / strength, `strength` being what the prior is worth in decisions, and

    likeness(a, b) = kinship * exp(-(T_a - T_b)^2 / (2 REACH^2)) * ALIKE^(members that differ)
                     + (1 - kinship) [a = b]

where the members are guard, token cap and path. A kinship of 0 makes every action a stranger to
the others. With enough rewards each action has its own mean, whatever its kin earns.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from services.controller.policies.actions import Action

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

REACH = 0.4
"""How far apart two temperatures must be to differ."""

ALIKE = 0.9


@lru_cache(maxsize=16)
def likeness(actions: tuple[Action, ...], kinship: float) -> Matrix:
    """Return the correlations of what is believed of the actions at first, [actions, actions]."""
    heat = np.array([each.temperature for each in actions])
    gaps = (heat[:, None] - heat[None, :]) / REACH
    differing = np.array([[_differing(one, other) for other in actions] for one in actions])
    kin = np.exp(-0.5 * gaps**2) * ALIKE**differing
    found = np.asarray(kinship * kin + (1.0 - kinship) * np.eye(len(actions)))
    found.flags.writeable = False
    return found


def _differing(one: Action, other: Action) -> int:
    members = ("guard", "cap_share", "path")
    return sum(getattr(one, name) != getattr(other, name) for name in members)


def posterior(covariance: Matrix, counts: Vector, misses: Vector) -> tuple[Vector, Vector]:
    """Return how far the means move and what variance is left, [..., actions] each.

    `counts` are the rewards of each action and `misses` the sums of what they differed from
    the mean expected, both [..., actions]; variances are in units of one reward's.
    """
    root = np.sqrt(counts)
    seen = root[..., :, None] * covariance
    among = np.eye(covariance.shape[-1]) + seen * root[..., None, :]
    # by the square root of the counts, so that actions without rewards need no exception
    scaled = np.divide(misses, root, out=np.zeros_like(misses), where=root > 0.0)
    solved = np.linalg.solve(among, np.concatenate([seen, scaled[..., None]], axis=-1))
    moved = (seen * solved[..., -1:]).sum(axis=-2)
    left = np.diagonal(covariance, axis1=-2, axis2=-1) - (seen * solved[..., :-1]).sum(axis=-2)
    return moved, np.maximum(left, 0.0)
