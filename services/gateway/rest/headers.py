"""What an answer tells in its headers: the plan, and what the tenant has left."""

from __future__ import annotations

from services.gateway.admission.buckets import Quota
from services.gateway.decoding import Plan


def plan_headers(plan: Plan | None) -> dict[str, str]:
    """Return the plan as headers, for clients that hide unknown members."""
    if plan is None:
        return {}
    return {
        "X-Thermesh-Decision-Id": plan.decision_id,
        "X-Thermesh-Policy-Version": str(plan.policy_version),
        "X-Thermesh-Plan-Source": plan.source.value,
        "X-Thermesh-Temperature": f"{plan.temperature:.6g}",
    }


def quota_headers(quota: Quota | None) -> dict[str, str]:
    """Return OpenAI's headers of both buckets, each where there is a bound."""
    if quota is None:
        return {}
    headers = {}
    for name, side in (("requests", quota.requests), ("tokens", quota.tokens)):
        if side.limit:
            headers[f"X-RateLimit-Limit-{name}"] = str(side.limit)
            headers[f"X-RateLimit-Remaining-{name}"] = str(side.remaining)
            headers[f"X-RateLimit-Reset-{name}"] = duration(side.reset_seconds)
    return headers


def quota_limits(quota: Quota) -> list[dict[str, str | float]]:
    """Return both buckets as the Realtime API tells them, each where there is a bound."""
    return [
        {
            "name": name,
            "limit": side.limit,
            "remaining": side.remaining,
            "reset_seconds": side.reset_seconds,
        }
        for name, side in (("requests", quota.requests), ("tokens", quota.tokens))
        if side.limit
    ]


def duration(seconds: float) -> str:
    """Return a duration as OpenAI writes it: `120ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest:.0f}s" if minutes else f"{rest:.4g}s"
