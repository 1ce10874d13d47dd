"""Any history of requests that begin alike: pages, owners, writers, outputs."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.inference.events import Ended
from services.inference.kernels import PAGE_SIZE
from services.inference.request import Priority
from thermesh.testing import FakeClock

from .conftest import Bench

BEGINNINGS = ("you are an assistant that answers at length and politely. ", "be brief: ")
QUESTIONS = ("why?", "how does one keep pages of many sequences apart?", "when is it over?")
MOST_TOKENS = 40
PAGES = 20

_alone: dict[tuple[str, int], list[int]] = {}


def alone(prompt: str, seed: int) -> list[int]:
    """What a request gives in an engine of its own without prefix cache and guesses."""
    if (prompt, seed) not in _alone:
        bench = Bench(FakeClock(), repeats=True, prefix_cache=False, speculation=False)
        reader = bench.submit(prompt, seed=seed, max_tokens=MOST_TOKENS)
        bench.run()
        _alone[prompt, seed] = bench.ids(reader)
    return _alone[prompt, seed]


class Histories(RuleBasedStateMachine):
    """Requests come, fork, go on, stall, are cancelled and end, in any order. They
    repeat themselves often enough for guesses, which are right or wrong.

    The fake network fails where a page is written that another sequence reads.
    """

    def __init__(self) -> None:
        super().__init__()
        limits = {"max_running": 6, "step_tokens": 40, "prefill_chunk": 24}
        self.bench = Bench(FakeClock(), pages=PAGES, repeats=True, **limits)
        self.asked: dict[Any, tuple[str, int]] = {}

    def submit(self, prompt: str, seed: int, **changes: Any) -> None:
        """Ask, and remember what was asked."""
        reader = self.bench.submit(
            prompt, seed=seed, max_tokens=MOST_TOKENS, request_id=str(len(self.asked)), **changes
        )
        self.asked[reader] = (prompt, seed)

    @rule(
        beginning=st.sampled_from(BEGINNINGS),
        question=st.sampled_from(QUESTIONS),
        tenant=st.sampled_from("ab"),
        priority=st.sampled_from(Priority),
        credit=st.sampled_from([0, 0, 3]),
    )
    def ask(
        self, beginning: str, question: str, tenant: str, priority: Priority, credit: int
    ) -> None:
        """A request arrives that may begin as others did."""
        changes = {"tenant": tenant, "priority": priority, "initial_credit": credit}
        self.submit(beginning + question, 1, **changes)

    @precondition(lambda self: self.asked)
    @rule(choice=st.integers(0, 99), copies=st.integers(1, 3))
    def fork(self, choice: int, copies: int) -> None:
        """Further answers to a prompt that was asked before are wanted at once."""
        prompt, _ = list(self.asked.values())[choice % len(self.asked)]
        for seed in range(2, 2 + copies):
            self.submit(prompt, seed)

    @precondition(lambda self: self.asked)
    @rule(choice=st.integers(0, 99))
    def cancel(self, choice: int) -> None:
        """A client goes away, perhaps after the end."""
        self.bench.decoder.cancel(list(self.asked)[choice % len(self.asked)])

    @precondition(lambda self: self.asked)
    @rule(choice=st.integers(0, 99))
    def credit(self, choice: int) -> None:
        """A reader that stalled takes a little more."""
        self.bench.decoder.credit(list(self.asked)[choice % len(self.asked)], 5)

    @rule(count=st.integers(1, 25))
    def step(self, count: int) -> None:
        """Time passes."""
        for _ in range(count):
            self.bench.step()

    @invariant()
    def every_page_has_its_owners(self) -> None:
        """Owners are exactly the running sequences; shared pages are full for all of them."""
        scheduler = self.bench.decoder.scheduler
        for page in range(PAGES):
            holders = [one for one in scheduler.running if page in one.pages]
            assert scheduler.pages.owners(page) == len(holders)
            assert all(one.pages.count(page) == 1 for one in holders)
            if len(holders) > 1:
                for one in holders:
                    end = (one.pages.index(page) + 1) * PAGE_SIZE
                    assert end <= one.computed_count
        assert not any(one.pages for one in scheduler.waiting)

    def teardown(self) -> None:
        """In the end nothing is owned, and each answer is as it would be alone."""
        for reader in self.asked:
            self.bench.decoder.credit(reader, 2 * MOST_TOKENS)
        self.bench.run(most=3000)
        for reader, (prompt, seed) in self.asked.items():
            tokens = self.bench.ids(reader)
            assert tokens == alone(prompt, seed)[: len(tokens)]
            end = self.bench.events[reader][-1]
            assert isinstance(end, Ended)
            assert end.error is None or not tokens
        pages = self.bench.decoder.scheduler.pages
        assert pages.used_count == 0
        assert not any(pages.owners(page) for page in range(PAGES))


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
