"""Tenants who want the same places: what each may hold while others want some too.

Max-min fairness (Bertsekas and Gallager 1992, section 6.5.2): everybody gets what it wants
up to an equal part, and what the modest leave is shared by the others. What a tenant wants is
the most it lately had or asked for at once, forgotten by halves, and some for chance: its
places are not given away between two of its requests. What a tenant leaves of its equal part
while it holds some it saves, as in deficit round robin (Shreedhar and Varghese 1995), and may
spend on a burst; one that always takes all has nothing to spend. Alone, a tenant has no
bound. Pure; time is an argument, in seconds, which never goes back.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

HALF_LIFE_SECONDS = 10.0
FORGOTTEN = 0.5
"""Who wants less than this wants nothing any more."""

SPARE = 8
"""One place in so many is for bursts, while several tenants want some: who floods does not get it,
so that who asks for less than its part is served at once though chance lets it ask for more."""

BURST = 0.5
"""How much of its part a tenant may hold beyond it, of what it saved."""

MOST_TENANTS = 4096


@dataclass(slots=True)
class _Tenant:
    """`peak` places wanted at once, `saved` in place-seconds, both as they were at `at`."""

    at: float
    held: int = 0
    peak: float = 0.0
    saved: float = 0.0

    def age(self, now: float, part: float, most: float) -> None:
        """Forget, and save at most so much, as an equal part of so many places allows."""
        passed = now - self.at
        self.at = now
        self.peak = max(self.held, self.peak * 0.5 ** (passed / HALF_LIFE_SECONDS))
        saved = self.saved + (part - self.held) * passed
        self.saved = min(max(0.0, saved), most) if self.held else 0.0

    def wanted(self, now: float) -> float:
        """Return how many places are kept for it: chance wants some more than the peak."""
        peak = max(self.held, self.peak * 0.5 ** ((now - self.at) / HALF_LIFE_SECONDS))
        return peak + math.sqrt(peak) if peak >= FORGOTTEN else 0.0


class Contest:
    """Counts what is held of `places` of one kind, and by whom, for about `mean_seconds`."""

    def __init__(self) -> None:
        self.places = 0
        self.mean_seconds = 1.0
        self.total = 0
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()

    def held(self, tenant: str) -> int:
        """Return how many places a tenant holds."""
        return self._tenants[tenant].held if tenant in self._tenants else 0

    def enter(self, tenant: str, now: float) -> None:
        """Count a place as taken."""
        self._aged(tenant, now).held += 1
        self.total += 1

    def leave(self, tenant: str, now: float) -> None:
        """Count a place as free again."""
        self._aged(tenant, now).held -= 1
        self.total -= 1

    def want(self, tenant: str, now: float) -> None:
        """Take note that a tenant wants one place more than it holds, whether it gets it or not."""
        known = self._aged(tenant, now)
        known.peak = max(known.peak, known.held + 1.0)
        self._tenants.move_to_end(tenant)
        self._forget(now)

    def admits(self, tenant: str, now: float) -> bool:
        """Tell whether a tenant may hold one more; quickly, where it has less than its part."""
        held = self.held(tenant)
        is_modest = held * len(self._tenants) < self._shared
        return is_modest or held < self.bound(tenant, now)

    def bound(self, tenant: str, now: float) -> float:
        """Return how many places a tenant may hold now; inf: nobody else wants any."""
        rivals = [one.wanted(now) for name, one in self._tenants.items() if name != tenant]
        rivals = [wanted for wanted in rivals if wanted]
        if not rivals:
            return math.inf
        part = math.ceil(self._shared / (len(rivals) + 1))
        known = self._tenants.get(tenant)
        burst = min(BURST * part, known.saved / self.mean_seconds) if known else 0.0
        left = self._shared - sum(math.ceil(min(each, part)) for each in rivals)
        return max(part + math.floor(burst), left)

    @property
    def _shared(self) -> int:
        return self.places - self.places // SPARE

    def _aged(self, tenant: str, now: float) -> _Tenant:
        known = self._tenants.setdefault(tenant, _Tenant(now))
        part = self._shared / len(self._tenants)
        known.age(now, part, BURST * part * self.mean_seconds)
        return known

    def _forget(self, now: float) -> None:
        """Drop the oldest that want nothing any more, and any of them where they are too many.

        Two are looked at for each that may be new, so that those who hold something, which
        go to the end, are in nobody's way for long.
        """
        for _ in range(min(2, len(self._tenants))):
            name, oldest = next(iter(self._tenants.items()))
            if oldest.held:
                self._tenants.move_to_end(name)
            elif not oldest.wanted(now) or len(self._tenants) > MOST_TENANTS:
                del self._tenants[name]
