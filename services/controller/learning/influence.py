"""How far the feedback of one tenant may move the policy that all share.

    weight = min(1, SHARE / (1 - SHARE) * what all others said / what it said)

counted over about the last 1,000 pieces of feedback. So whoever floods the
mesh weighs no more than all others together. Where nearly nobody else speaks
there is nobody to be protected, and the weight is 1; the guardrail watches then.
"""

from __future__ import annotations

from collections.abc import Mapping

SHARE = 0.5
FADING = 0.999
FEW = 20.0
TENANTS_LIMIT = 64


def heard(tenants: Mapping[str, float], tenant: str) -> tuple[dict[str, float], float]:
    """Return the counts after one more piece of feedback, and its weight in (0, 1]."""
    counts = {name: FADING * count for name, count in tenants.items()}
    counts[tenant] = counts.get(tenant, 0.0) + 1.0
    if len(counts) > TENANTS_LIMIT:
        others = (name for name in counts if name != tenant)
        del counts[min(others, key=lambda name: (counts[name], name))]
    others_said = sum(counts.values()) - counts[tenant]
    if others_said < FEW:
        return counts, 1.0
    return counts, min(1.0, SHARE / (1.0 - SHARE) * others_said / counts[tenant])
