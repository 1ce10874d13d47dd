"""Continuous batching: which sequences compute how many tokens in the next step.

Pure bookkeeping over sequences and page numbers. A step has a budget of
tokens. Sequences that decode (one token each) come first, then prompts in
chunks of what is left. A waiting request is admitted when pages for all its
known tokens and one page to grow are free. Everything is taken in order
of priority class, earliest deadline, arrival. While sequences decode, prompts
get only as many tokens as hold them up for no longer than they are used to
(`pacing`).

A request begins with the pages that the prefix cache has of it. One whose next
page is being computed by another before it is admitted when that one is done:
so equal requests that come together compute their prompt once.

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
from collections import Counter
from collections.abc import Iterable

from services.inference.limits import Limits, refuse_when_full
from services.inference.scheduling.budget import StepBudget, Work
from services.inference.scheduling.pacing import Pace
from services.inference.scheduling.pages import PageAllocator
from services.inference.scheduling.prefix import PrefixCache, is_prefilling
from services.inference.scheduling.speculation import Speculation
from services.inference.sequences.drafting import Draft
from services.inference.sequences.sequence import Sequence


class Scheduler:
    """The waiting queue, the running set, and who owns which pages."""

    def __init__(self, limits: Limits, pages: PageAllocator) -> None:
        self.limits = limits
        self.pages = pages
        self.prefix = PrefixCache(
            pages,
            limits.page_size,
            is_enabled=limits.prefix_cache,
            reuses_output=limits.reuses_output,
        )
        self.pace = Pace(limits.stretch, limits.burst_seconds)
        self.speculation = Speculation(
            is_enabled=limits.speculation, has_light_path=limits.self_speculation
        )
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []
        self.preempted_count = 0
        self._copies: list[tuple[int, int]] = []

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

    def complete(self, work: Work) -> None:
        """Note that `work` was computed."""
        self.prefix.advance(work.sequence, work.count)

    def learn(self, work: list[Work], seconds: float) -> None:
        """Take note of how long a step of `work` took, its draws included."""
        decoding = prompt_tokens = guesses = 0
        for item in work:
            if item.count == 1:
                decoding += 1
            else:
                prompt_tokens += item.count
            guesses += len(item.guesses)
        if work and not prompt_tokens:
            is_foreseen = any(item.foreseen for item in work)
            self.speculation.observe(decoding, guesses, seconds, is_foreseen=is_foreseen)
        if work and not guesses:
            self.pace.observe(seconds, decoding, prompt_tokens)

    def judge(self, sequence: Sequence, temperature: float, is_right: bool) -> None:
        """Note whether the token drawn at `temperature` is the guess: then it is
        in the KV cache already.
        """
        self.speculation.judge(sequence, temperature, is_right)
        if is_right:
            self.prefix.advance(sequence, 1)

    def take_copies(self) -> list[tuple[int, int]]:
        """Return (source, target) of pages to be copied, in order, before the step."""
        copies, self._copies = self._copies, []
        return copies

    def distrust(self, sequence: Sequence) -> None:
        """Hand on nothing of a sequence whose numbers went wrong."""
        self.pages.forget(sequence.pages)

    def expired(self, now: float) -> list[Sequence]:
        """Return the sequences whose deadline passed."""
        return [sequence for sequence in self.sequences() if sequence.is_expired(now)]

    def wakes_at(self) -> float:
        """Return when the next deadline or plan grace ends; inf: never."""
        return min((sequence.wakes_at() for sequence in self.sequences()), default=float("inf"))

    def schedule(self, now: float) -> list[Work]:
        """Return the work of the next step; pages for it are allocated."""
        step = StepBudget(self.limits.step_tokens, self.limits.prefill_chunk)
        self.running.sort(key=_order)
        for sequence in list(self.running):
            if sequence.remaining_count and not is_prefilling(sequence) and sequence.may_draw(now):
                self._continue(sequence, step)
        decoding = step.sequences
        allowance = self.pace.allowance(len(decoding), self.limits.step_tokens)
        burst = self._burst(step)
        if burst and self._admit(self.waiting[0], step):
            allowance = max(0, allowance - burst)
        step.leave_for_prompts(allowance)
        self._take_prompts(step)
        if allowance and step.sequences == decoding:
            self._guess(decoding, step)
        work = step.work()
        if self.limits.looks_ahead:
            self._reserve(work)
        return work

    def _reserve(self, work: list[Work]) -> None:
        """Give sequences a page for the token after the next; nobody gives way for it."""
        for item in work:
            self._grow_if_free(item.sequence, len(item.sequence.token_ids) + 1)

    def _burst(self, step: StepBudget) -> int:
        """Return how many tokens the first request that waits lacks, where it may
        be computed at once beside those that decode; else 0.
        """
        first = next(iter(self.waiting), None)
        if first is None or not step.sequences or not first.has_credit:
            return 0
        found = len(self.prefix.find(first)) * self.limits.page_size
        missing = len(first.token_ids) - found
        is_whole = missing <= min(self.limits.prefill_chunk, step.left)
        if not is_whole or self._awaits_another(first):
            return 0
        return missing if self.pace.can_burst(len(step.sequences), missing) else 0

    def _guess(self, decoding: list[Sequence], step: StepBudget) -> None:
        """Let sequences compute guesses too; nobody gives way for a guess."""
        drafts = self.speculation.drafts(decoding, step.left)
        for sequence, draft in drafts.items():
            room = self._room(sequence, len(draft.token_ids))
            if room > 0:
                step.append(sequence, Draft(draft.token_ids[:room], draft.match))
        if not drafts:
            for sequence, count in self.speculation.foreseen(decoding, step.left).items():
                step.foresee(sequence, self._room(sequence, count))

    def _room(self, sequence: Sequence, guesses: int) -> int:
        """Return how many of so many guesses there are places for in the KV cache."""
        known = len(sequence.token_ids)
        self._grow_if_free(sequence, known + guesses)
        return max(0, min(guesses, len(sequence.pages) * self.limits.page_size - known))

    def _take_prompts(self, step: StepBudget) -> None:
        """Prefill and admit in order: passing over a large request because it
        does not fit yet would starve it. Preempted sequences without credit are
        passed over: computing what nobody reads would only thrash. So are those
        whose beginning is underway; they lose nothing by it.
        """
        if not self.waiting and not any(map(is_prefilling, self.running)):
            return
        taken = step.sequences
        prefilling = [one for one in self.running if is_prefilling(one) and one not in taken]
        admits = True
        for sequence in sorted([*prefilling, *self.waiting], key=_order):
            if sequence in prefilling:
                self._continue(sequence, step)
            elif admits and sequence.has_credit and not self._awaits_another(sequence):
                admits = self._admit(sequence, step)

    def _continue(self, sequence: Sequence, step: StepBudget) -> None:
        if sequence not in self.running:
            return  # preempted for a sequence before it, in this step
        count = step.share(sequence)
        if count and self._grow(sequence, sequence.computed_count + count, step):
            step.take(sequence, count)

    def _awaits_another(self, sequence: Sequence) -> bool:
        before = [other for other in self.running if other.order < sequence.order]
        return self.prefix.is_underway(sequence, before)

    def _admit(self, sequence: Sequence, step: StepBudget) -> bool:
        """Let a waiting sequence run; return False where it has no room yet."""
        if not step.share(sequence) or not self._make_room(sequence, step):
            return False
        self.prefix.attach(sequence)
        missing = self._pages_for(len(sequence.token_ids)) - len(sequence.pages)
        sequence.pages += self.pages.allocate(missing)
        self._copies += self.prefix.fork(sequence, self.running)
        self.prefix.count(sequence)
        self.waiting.remove(sequence)
        self.running.append(sequence)
        step.take(sequence, step.share(sequence))
        return True

    def _make_room(self, sequence: Sequence, step: StepBudget) -> bool:
        """Preempt sequences of lower classes where that admits this one."""
        below = [other for other in self.running if other.priority < sequence.priority]
        is_possible = self._fits_without(below, sequence)
        while is_possible and not self._fits_without([], sequence):
            victim = max(below, key=_order)
            below.remove(victim)
            self._preempt(victim, step)
        return is_possible

    def _fits_without(self, others: list[Sequence], sequence: Sequence) -> bool:
        """Tell whether `sequence` could be admitted if `others` gave way.

        A page comes free with the last of its owners. Pages that the prefix
        cache has for the sequence need no room where somebody holds them;
        idle ones do, as they count as free.
        """
        held = Counter(page for other in others for page in other.pages)
        released = sum(self.pages.owners(page) == count for page, count in held.items())
        found = self.prefix.find(sequence)
        shared = sum(self.pages.owners(page) > held[page] for page in found)
        wanted = min(self._pages_for(len(sequence.token_ids)) + 1, self.pages.total)
        places = self.limits.max_running - len(self.running) + len(others)
        return places > 0 and self.pages.can_allocate(wanted - shared - released)

    def _grow(self, sequence: Sequence, token_count: int, step: StepBudget) -> bool:
        missing = self._pages_for(token_count) - len(sequence.pages)
        while missing > 0 and not self.pages.can_allocate(missing):
            victim = self._victim(sequence)
            if victim is None:
                return False
            self._preempt(victim, step)
        if missing > 0:
            sequence.pages += self.pages.allocate(missing)
        return True

    def _grow_if_free(self, sequence: Sequence, token_count: int) -> None:
        missing = self._pages_for(token_count) - len(sequence.pages)
        if missing > 0 and self.pages.can_allocate(missing):
            sequence.pages += self.pages.allocate(missing)

    def _victim(self, claimant: Sequence) -> Sequence | None:
        holders = [other for other in self.running if other.pages and other is not claimant]
        stalled = [other for other in holders if not other.has_credit]
        behind = [other for other in holders if other.order > claimant.order]
        return max(stalled or behind, key=_order, default=None)

    def _preempt(self, sequence: Sequence, step: StepBudget) -> None:
        step.drop(sequence)
        self.running.remove(sequence)
        self.pages.free(sequence.pages)
        sequence.restart()
        bisect.insort(self.waiting, sequence, key=_order)
        self.preempted_count += 1

    def _pages_for(self, token_count: int) -> int:
        return -(-token_count // self.limits.page_size)


def _order(sequence: Sequence) -> tuple[int, float, int]:
    return sequence.order
