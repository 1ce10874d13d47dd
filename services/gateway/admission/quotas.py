"""What a tenant may use in a minute, counted in Redis for all gateways together.

While Redis is away each gateway counts for itself, with the allowance divided by
the number of gateways: nobody waits for Redis and nobody gets everything. A
breaker keeps requests from trying it in vain.
"""

from __future__ import annotations

import asyncio
import logging
import math

from services.gateway.admission.buckets import Buckets, LocalBuckets, Quota
from services.gateway.asking import Ask, Chat, Prompt
from services.gateway.breaker import Breaker
from services.gateway.keeping import StoreAway
from thermesh.clock import Clock
from thermesh.errors import ResourceExhausted
from thermesh.keys import Allowance

log = logging.getLogger(__name__)

BYTES_PER_TOKEN = 4
"""Of English, as a rule of thumb; the gateway has no tokenizer, and the end settles."""

USUAL_ANSWER_TOKENS = 256
"""Expected where the request sets no bound; the end settles."""

MOST_SETTLING = 1024


class Quotas:
    """Counts; `replicas` is how many gateways share the tenants."""

    def __init__(self, shared: Buckets, clock: Clock, replicas: int) -> None:
        self._shared = shared
        self._local = LocalBuckets(clock)
        self._breaker = Breaker(clock)
        self._replicas = replicas
        self._settling: set[asyncio.Task[Quota]] = set()

    async def take(self, tenant: str, allowance: Allowance, tokens: int) -> Quota | None:
        """Take one request and `tokens`; None where the tenant has no bound.

        Whether that went well is in the quota: see `check`.
        """
        if not (allowance.requests_per_minute or allowance.tokens_per_minute):
            return None
        return await self._count(tenant, allowance, 1, tokens)

    def settle(self, tenant: str, allowance: Allowance, taken: int, used: int) -> None:
        """Count `used` tokens in place of the `taken` ones; nobody waits for it."""
        if not allowance.tokens_per_minute or taken == used:
            return
        if len(self._settling) >= MOST_SETTLING:
            log.warning("more than %d requests settle at once; one is not settled", MOST_SETTLING)
            return
        counting = asyncio.ensure_future(self._count(tenant, allowance, 0, used - taken))
        self._settling.add(counting)
        counting.add_done_callback(self._settling.discard)

    async def close(self) -> None:
        """Finish what is being settled."""
        await asyncio.gather(*self._settling, return_exceptions=True)

    async def _count(self, tenant: str, allowance: Allowance, requests: int, tokens: int) -> Quota:
        if self._breaker.allows():
            try:
                quota = await self._shared.take(tenant, allowance, requests, tokens)
            except StoreAway:
                if self._breaker.fail():
                    log.warning("limits cannot be counted in Redis; each gateway counts its share")
            else:
                if self._breaker.succeed():
                    log.warning("limits are counted in Redis again")
                return quota
        return await self._local.take(tenant, self._share(allowance), requests, tokens)

    def _share(self, allowance: Allowance) -> Allowance:
        return Allowance(
            math.ceil(allowance.requests_per_minute / self._replicas),
            math.ceil(allowance.tokens_per_minute / self._replicas),
        )


def check(quota: Quota | None) -> None:
    """Raise ResourceExhausted where `quota` says that nothing was taken."""
    if quota is None or not quota.wait_seconds:
        return
    side, what = (quota.tokens, "tokens")
    if quota.requests.wait_us >= quota.tokens.wait_us:
        side, what = (quota.requests, "requests")
    raise ResourceExhausted(
        f"the limit of {side.limit} {what} a minute is reached",
        reason="RATE_LIMIT_EXCEEDED",
        retry_after=quota.wait_seconds,
    )


def expected_tokens(ask: Ask) -> int:
    """Return how many tokens an ask will use, as far as one can tell beforehand."""
    if isinstance(ask.input, Chat):
        prompt = sum(map(text_tokens, (turn.content for turn in ask.input.messages)))
    elif isinstance(ask.input, Prompt):
        prompt = text_tokens(ask.input.text)
    else:
        prompt = len(ask.input.token_ids)
    return prompt + (ask.constraints.max_tokens or USUAL_ANSWER_TOKENS)


def text_tokens(text: str) -> int:
    """Return about how many tokens `text` has."""
    return math.ceil(len(text.encode()) / BYTES_PER_TOKEN)
