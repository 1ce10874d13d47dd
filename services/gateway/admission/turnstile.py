"""What a request passes before anything is opened for it, and holds until its end.

A place in the gateway, one in the engine, and its tenant's buckets, in this order: whoever is
refused has taken nothing. All of it is free again when the stack that holds it closes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from services.gateway.admission.bound import Admission
from services.gateway.admission.buckets import Quota
from services.gateway.admission.places import Places
from services.gateway.admission.quotas import Quotas, expected_tokens
from services.gateway.asking import Ask


@dataclass(frozen=True)
class Turnstile:
    """Everything that lets in; one for the whole gateway."""

    admission: Admission
    places: Places
    quotas: Quotas

    def enter(self, ask: Ask, held: contextlib.ExitStack) -> None:
        """Take both places at once, or raise what refuses; `held` gives them back."""
        tenant, most = ask.context.tenant, ask.allowance.requests_at_once
        held.enter_context(self.admission.entered(tenant, most, ask.share_of_places))
        held.enter_context(self.places.taken(tenant, ask.priority))

    async def take(
        self, ask: Ask, held: contextlib.ExitStack, used: Callable[[], int]
    ) -> Quota | None:
        """Take from the tenant's buckets; when `held` closes, `used` tokens are settled.

        Whether that went well is in the quota, None where the tenant has no bound.
        """
        tenant, allowance, tokens = ask.context.tenant, ask.allowance, expected_tokens(ask)
        quota = await self.quotas.take(tenant, allowance, tokens)
        if quota is not None and not quota.wait_seconds:
            held.callback(lambda: self.quotas.settle(tenant, allowance, tokens, used()))
        return quota
