"""How to decide while nothing can be learned: by what is known best, without exploring.

A frozen bandit would go on exploring for ever and learn nothing from it, and what it
happened to be trying when it was frozen may only look good. So beliefs are replaced by
their lower bounds, as if they were certain:

    certain(a) = mean(a) - DOUBT * spread(a)

An action that earned a little more in few tries gives way to one that is known to
earn well. A density has no such bound and is left as it is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from services.controller.policies import bandit
from services.controller.policies.policy import Parameters

DOUBT = 3.0
# As many pieces of feedback as make a belief all but certain.
_CERTAIN = 1e5


def cautious(parameters: Parameters) -> Parameters:
    """Return parameters that decide by the lower bounds of what `parameters` believes."""
    if not isinstance(parameters, bandit.Parameters):
        return parameters
    bounds = np.empty_like(parameters.sums)
    for context in range(bandit.CONTEXTS):
        mean, spread = bandit.beliefs(parameters, context)
        bounds[context] = mean - DOUBT * spread
    return replace(
        parameters,
        counts=np.full_like(parameters.counts, _CERTAIN),
        sums=bounds * _CERTAIN,
        surprise=np.zeros_like(parameters.surprise),
    )
