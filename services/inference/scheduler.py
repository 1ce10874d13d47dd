"""Continuous batching: which sequences compute how many tokens in the next step.

Pure bookkeeping over sequences and page numbers. A step has a budget of
tokens. Sequences that decode (one token each) come first, then prefills in
chunks of what is left, then waiting requests are admitted while pages for all
their known tokens and one page to grow are free. Everything is taken in order
of priority class, earliest deadline, arrival.

When a sequence must grow and no page is free, or a request of a higher class
finds no room, another is *preempted by recompute*: its pages are freed and it
waits in its old place until its tokens can be computed again. We chose that
over reserving `max_tokens` pages on admission because most requests leave
max_tokens open, and a reservation up to the context would let two of them fill
the cache. Victims are sequences whose reader gives no credit, then those last
in order; never one before the claimant, so the first in order always gets on.
Between requests of one class a waiting one never drives out a running one.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass

from services.inference.pages import PageAllocator
from services.inference.sequence import Sequence
from thermesh.errors import ResourceExhausted

RETRY_AFTER_SECONDS = 1.0


@dataclass(frozen=True)
class Limits:
    """Bounds of the engine: sequences, waiting requests, tokens a step."""

    max_running: int = 32
    max_waiting: int = 64
    step_tokens: int = 512
    prefill_chunk: int = 256
    page_size: int = 16

    @property
    def max_requests(self) -> int:
        """Most requests in the engine."""
        return self.max_running + self.max_waiting


@dataclass(frozen=True)
class Work:
    """`count` tokens of `sequence`, from its `computed_count` on."""

    sequence: Sequence
    count: int


class Scheduler:
    """The waiting queue, the running set, and who owns which pages."""

    def __init__(self, limits: Limits, pages: PageAllocator) -> None:
        self.limits = limits
        self.pages = pages
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []
        self.preempted_count = 0

    @property
    def request_count(self) -> int:
        """Requests in the engine, running or waiting."""
        return len(self.running) + len(self.waiting)

    def sequences(self) -> Iterable[Sequence]:
        """Return all sequences, running ones first."""
        return [*self.running, *self.waiting]

    def submit(self, sequence: Sequence) -> None:
        """Queue a new sequence; raise ResourceExhausted where the queue is full."""
        refuse_when_full(self.request_count, self.limits)
        bisect.insort(self.waiting, sequence, key=_order)

    def discard(self, sequence: Sequence) -> None:
        """Forget a sequence that is over, if it is here, and free its pages."""
        for group in (self.running, self.waiting):
            if sequence in group:
                group.remove(sequence)
        self.pages.free(sequence.pages)
        sequence.pages = []

    def expired(self, now: float) -> list[Sequence]:
        """Return the sequences whose deadline passed."""
        return [sequence for sequence in self.sequences() if sequence.is_expired(now)]

    def wakes_at(self) -> float:
        """Return when the next deadline or plan grace ends; inf: never."""
        return min((sequence.wakes_at() for sequence in self.sequences()), default=float("inf"))

    def schedule(self, now: float) -> list[Work]:
        """Return the work of the next step; pages for it are allocated."""
        step = _Step(self.limits)
        self.running.sort(key=_order)
        for sequence in list(self.running):
            if _decodes(sequence) and sequence.may_draw(now):
                self._continue(sequence, step)
        for sequence in list(self.running):
            if sequence.remaining_count and not _decodes(sequence):
                self._continue(sequence, step)
        self._admit_waiting(step)
        return step.work()

    def _continue(self, sequence: Sequence, step: _Step) -> None:
        if sequence not in self.running:
            return  # preempted for a sequence before it, in this step
        count = step.share(sequence)
        if count and self._grow(sequence, sequence.computed_count + count, step):
            step.take(sequence, count)

    def _admit_waiting(self, step: _Step) -> None:
        """Admit in order only: passing over a large request because it does
        not fit yet would starve it. Preempted sequences without credit are
        passed over: computing what nobody reads would only thrash.
        """
        for sequence in [other for other in self.waiting if other.has_credit]:
            known = self._pages_for(len(sequence.token_ids))
            wanted = min(known + 1, self.pages.total)
            if not step.share(sequence) or not self._make_room(sequence, wanted, step):
                return
            sequence.pages = self.pages.allocate(known)
            self.waiting.remove(sequence)
            self.running.append(sequence)
            step.take(sequence, step.share(sequence))

    def _make_room(self, sequence: Sequence, wanted: int, step: _Step) -> bool:
        """Preempt sequences of lower classes where that admits this one."""
        below = [other for other in self.running if other.priority < sequence.priority]
        reclaimable = sum(len(other.pages) for other in below)
        is_possible = self.pages.can_allocate(wanted - reclaimable) and (
            len(self.running) - len(below) < self.limits.max_running
        )
        while is_possible and not self._has_room(wanted):
            victim = max(below, key=_order)
            below.remove(victim)
            self._preempt(victim, step)
        return is_possible

    def _has_room(self, wanted: int) -> bool:
        return len(self.running) < self.limits.max_running and self.pages.can_allocate(wanted)

    def _grow(self, sequence: Sequence, token_count: int, step: _Step) -> bool:
        missing = self._pages_for(token_count) - len(sequence.pages)
        while missing > 0 and not self.pages.can_allocate(missing):
            victim = self._victim(sequence)
            if victim is None:
                return False
            self._preempt(victim, step)
        if missing > 0:
            sequence.pages += self.pages.allocate(missing)
        return True

    def _victim(self, claimant: Sequence) -> Sequence | None:
        holders = [other for other in self.running if other.pages and other is not claimant]
        stalled = [other for other in holders if not other.has_credit]
        behind = [other for other in holders if other.order > claimant.order]
        return max(stalled or behind, key=_order, default=None)

    def _preempt(self, sequence: Sequence, step: _Step) -> None:
        step.drop(sequence)
        self.running.remove(sequence)
        self.pages.free(sequence.pages)
        sequence.restart()
        bisect.insort(self.waiting, sequence, key=_order)
        self.preempted_count += 1

    def _pages_for(self, token_count: int) -> int:
        return -(-token_count // self.limits.page_size)


class _Step:
    """The token budget of one step and who has a share of it."""

    def __init__(self, limits: Limits) -> None:
        self._left = limits.step_tokens
        self._prefill_chunk = limits.prefill_chunk
        self._counts: dict[Sequence, int] = {}

    def share(self, sequence: Sequence) -> int:
        return min(sequence.remaining_count, self._prefill_chunk, self._left)

    def take(self, sequence: Sequence, count: int) -> None:
        self._counts[sequence] = count
        self._left -= count

    def drop(self, sequence: Sequence) -> None:
        self._left += self._counts.pop(sequence, 0)

    def work(self) -> list[Work]:
        return [Work(sequence, count) for sequence, count in self._counts.items()]


def refuse_when_full(request_count: int, limits: Limits) -> None:
    """Raise ResourceExhausted where one more request is one too many."""
    if request_count >= limits.max_requests:
        raise ResourceExhausted(
            f"the engine runs {limits.max_running} and holds {limits.max_waiting} waiting"
            " requests; try again later",
            retry_after=RETRY_AFTER_SECONDS,
        )


def _order(sequence: Sequence) -> tuple[int, float, int]:
    return sequence.order


def _decodes(sequence: Sequence) -> bool:
    return sequence.remaining_count == 1 and sequence.output_count > 0
