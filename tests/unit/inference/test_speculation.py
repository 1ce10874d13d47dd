"""Guessing ahead: the same output in fewer steps, whatever else happens."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.events import Applied, FinishReason
from services.inference.request import Source, Update
from services.inference.sampling.constraint import Matcher
from services.inference.sampling.settings import Edt, Fixed, Penalties, Sampling
from services.inference.scheduling.costs import StepCosts
from services.inference.scheduling.speculation import Speculation, lengths
from services.inference.sequences.acceptance import Acceptance, Acceptances
from services.inference.sequences.drafting import LONGEST_MATCH, Suffixes, Verified
from thermesh.testing import FakeClock

from .conftest import Bench, Reader

COPYING = "copy this, copy this, copy"
GREEDY = Sampling(Fixed(0.0))


def run(*, speculation: bool, **changes: Any) -> tuple[Bench, Any]:
    """Decode one request that repeats itself, with and without guesses."""
    bench = Bench(FakeClock(), repeats=True, speculation=speculation)
    reader = bench.submit(COPYING, **{"max_tokens": 60, **changes})
    bench.run()
    return bench, reader


SAMPLINGS = {
    "greedy": GREEDY,
    "warm": Sampling(Fixed(1.0)),
    "a program": Sampling(Edt(1.0, 0.3)),
    "penalties": Sampling(Fixed(0.7), penalties=Penalties(1.05, 0.05, 0.05)),
}


@pytest.mark.parametrize("name", SAMPLINGS)
def test_guessing_changes_nothing_but_the_number_of_steps(name: str) -> None:
    """Tokens with all that is told of them are equal, and steps are fewer."""
    changes = {"sampling": SAMPLINGS[name], "candidate_count": 2, "stop": ("qqqq",)}
    plain, plain_reader = run(speculation=False, **changes)
    guessing, reader = run(speculation=True, **changes)
    told = [
        [vars(token) | {"step_time_us": 0} for token in bench.tokens(one)]
        for bench, one in ((plain, plain_reader), (guessing, reader))
    ]
    assert told[0] == told[1]
    assert guessing.network.steps < plain.network.steps


class Interrupting(Reader):
    """A reader that interrupts as soon as `most` tokens were drawn."""

    def __init__(self, bench: Bench, most: int) -> None:
        SimpleNamespace.__init__(self, taken=0)
        self.bench = bench
        self.most = most

    @property
    def is_cancelled(self) -> bool:
        return any(one.output_count >= self.most for one in self.bench.decoder.scheduler.running)


def test_an_interruption_ends_a_step_amid_its_draft() -> None:
    """Of guesses that came true nothing is drawn beyond the interruption, whenever it comes."""
    plain, reader = run(speculation=False, sampling=GREEDY)
    for most in range(1, 31):
        bench = Bench(FakeClock(), repeats=True)
        interrupting = Interrupting(bench, most)
        bench.submit(COPYING, max_tokens=60, sampling=GREEDY, reader=interrupting)
        bench.run()
        assert bench.ids(interrupting) == plain.ids(reader)[:most]
        bench.decoder.cancel(interrupting)
        bench.run()
        assert bench.end(interrupting).usage.completion_tokens == most


def test_guesses_are_accounted_for() -> None:
    """Outcome, telemetry and counters agree on what was guessed and what was right."""
    bench, _ = run(speculation=True, sampling=GREEDY)
    [outcome] = bench.outcomes
    acceptances = bench.decoder.scheduler.speculation.acceptances
    assert 0 < outcome.accepted_tokens <= outcome.drafted_tokens
    assert acceptances.right == {0.0: outcome.accepted_tokens}
    assert bench.telemetry[-1].accepted_tokens <= outcome.accepted_tokens
    assert bench.network.steps == 60 - outcome.accepted_tokens


def test_an_update_holds_from_the_token_it_names() -> None:
    """Between two steps of guesses a change applies to exactly the acknowledged token."""
    bench = Bench(FakeClock(), repeats=True)
    reader = bench.submit(COPYING, max_tokens=60, sampling=GREEDY)
    for _ in range(30):
        bench.step()
    decoded = len(bench.tokens(reader))
    bench.decoder.update(reader, Update(Source.CLIENT, 1, program=Fixed(0.3)))
    bench.run()
    [applied] = [event for event in bench.events[reader] if isinstance(event, Applied)]
    assert decoded > 30
    assert applied.token_index == decoded
    seen = [(token.temperature, token.revision) for token in bench.tokens(reader)]
    assert seen == [(0.0, 0)] * decoded + [(0.3, 1)] * (60 - decoded)


@pytest.mark.parametrize("most", [7, 31, 32])
def test_limits_hold_in_the_midst_of_a_draft(most: int) -> None:
    """Neither the budget of tokens nor credit is exceeded by a token that was foreseen."""
    bench, reader = run(speculation=True, sampling=GREEDY, max_tokens=most)
    assert len(bench.tokens(reader)) == most
    bench = Bench(FakeClock(), repeats=True)
    reader = bench.submit(COPYING, max_tokens=60, sampling=GREEDY, initial_credit=most)
    bench.run()
    assert len(bench.tokens(reader)) == most
    bench.decoder.credit(reader, 100)
    bench.run()
    whole, whole_reader = run(speculation=False, sampling=GREEDY)
    assert bench.ids(reader) == whole.ids(whole_reader)


def test_a_stop_string_ends_in_the_midst_of_a_draft() -> None:
    """What comes after the end was computed, and is not told."""
    plain, plain_reader = run(speculation=False, sampling=GREEDY)
    text = "".join(token.text for token in plain.tokens(plain_reader))
    stop = (text[20:24],)
    bench, reader = run(speculation=True, sampling=GREEDY, stop=stop)
    assert bench.end(reader).finish_reason is FinishReason.STOP_STRING
    told = "".join(token.text for token in bench.tokens(reader))
    assert told == text[: text.index(stop[0])]
    assert bench.decoder.load().kv_pages_used == 0


class Alphabet(Matcher):
    """Allows letters; remembers what it was told to follow."""

    is_over = False
    is_complete = True

    def __init__(self) -> None:
        self.followed: list[int] = []

    def mask(self) -> Any:
        """See `Matcher`."""
        import torch  # noqa: PLC0415

        allowed = torch.zeros(260, dtype=torch.bool)
        allowed[97:123] = True
        return allowed

    def forced(self) -> tuple[int, ...]:
        """See `Matcher`."""
        return ()

    def advance(self, token_id: int) -> None:
        """See `Matcher`."""
        self.followed.append(token_id)


def test_a_constraint_follows_drawn_tokens_only() -> None:
    """A guess that the language does not allow is wrong, and the matcher never hears of it."""
    matchers = Alphabet(), Alphabet()
    plain, plain_reader = run(speculation=False, constraint=matchers[0])
    bench, reader = run(speculation=True, constraint=matchers[1])
    assert bench.ids(reader) == plain.ids(plain_reader)
    assert matchers[1].followed == bench.ids(reader)


def test_guesses_drive_nobody_out() -> None:
    """With every page taken sequences go on without guesses, and none is preempted."""
    bench = Bench(FakeClock(), pages=4, repeats=True, prefix_cache=False)
    readers = [bench.submit(COPYING[:24], max_tokens=8, request_id=str(i)) for i in range(2)]
    bench.run()
    assert [len(bench.tokens(reader)) for reader in readers] == [8, 8]
    assert bench.decoder.scheduler.preempted_count == 0


# Where drafts come from.


def test_the_longest_match_is_continued() -> None:
    """Of places that end alike, the one with more tokens in common foretells."""
    tokens = [1, 2, 3, 4, 5, 9, 3, 4, 6, 1, 2, 3, 4]
    draft = Suffixes().draft(tokens, 2)
    assert draft is not None
    assert (draft.token_ids, draft.match) == ((5, 9), 4)


def test_a_loop_goes_on() -> None:
    """Beyond its own end a text that repeats itself is expected to do so again."""
    draft = Suffixes().draft([1, 2, 3, 1, 2, 3], 8)
    assert draft is not None
    assert draft.token_ids == (1, 2, 3, 1, 2, 3, 1, 2)


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 8))
def test_drafts_are_what_followed_somewhere(tokens: list[int], most: int) -> None:
    """Grown token by token or indexed at once, the draft is the same and has occurred."""
    growing, draft = Suffixes(), None
    for size in range(len(tokens) + 1):
        draft = growing.draft(tokens[:size], most)
    assert draft == Suffixes().draft(tokens, most)
    if draft is None:
        return
    assert 1 <= len(draft.token_ids) <= most
    assert 2 <= draft.match <= LONGEST_MATCH
    pattern = [*tokens[-draft.match :], draft.token_ids[0]]
    assert any(tokens[at : at + len(pattern)] == pattern for at in range(len(tokens)))


def test_a_wrong_guess_voids_the_rest() -> None:
    """Logits that follow a token that was not drawn are of no use."""
    verified = Verified((5, 6, 7), ["after 5", "after 6", "after 7"])
    assert (verified.guess, verified.after(5), verified.guess) == (5, "after 5", 6)
    assert (verified.after(9), verified.guess) == (None, None)


# Whether they pay.


def test_nothing_is_guessed_where_rows_cost_as_much_as_steps() -> None:
    """A certain guess is worth a row only while the row is cheaper than a step."""
    assert lengths([(0.9, 8)], 1, lambda guesses: 1.0 + guesses, 64) == [0]
    assert lengths([(0.99, 8)], 1, lambda guesses: 1.0 + 0.01 * guesses, 64) == [8]
    assert lengths([(0.0, 8)], 1, lambda guesses: 1.0, 64) == [0]


def test_many_are_not_held_up_for_one() -> None:
    """A draft that pays alone is not taken in company that gains nothing by it."""
    cost = {0: 1.0, 1: 1.1, 2: 1.2, 3: 1.3, 4: 1.4}
    assert lengths([(0.8, 4)], 1, cost.__getitem__, 64) == [4]
    assert lengths([(0.8, 4)], 16, cost.__getitem__, 64) == [0]


@given(
    st.lists(st.tuples(st.floats(0, 0.99), st.integers(1, 6)), min_size=1, max_size=3),
    st.floats(0.001, 0.5),
)
def test_the_choice_is_the_best_there_is(offers: list[tuple[float, int]], row: float) -> None:
    """No other numbers of guesses promise more, by exhaustive search."""

    def value(counts: tuple[int, ...]) -> float:
        gained = [
            math.log(sum(chance**i for i in range(count + 1)))
            for (chance, _), count in zip(offers, counts, strict=True)
        ]
        return sum(gained) - len(offers) * math.log(1 + row * sum(counts))

    chosen = lengths(offers, len(offers), lambda guesses: 1 + row * guesses, 64)
    every: list[tuple[int, ...]] = [()]
    for _, most in offers:
        every = [(*some, count) for some in every for count in range(most + 1)]
    assert value(tuple(chosen)) >= max(map(value, every)) - 1e-9


def test_costs_are_multiples_of_steps_without_guesses() -> None:
    """A machine that slows down changes nothing; between what was measured is the line."""
    costs = StepCosts()
    for slowness in (1, 3):
        for _ in range(8):
            costs.observe(1, 0, 0.010 * slowness)
        for _ in range(5):
            costs.observe(1, 4, 0.014 * slowness)
    assert costs.relative(1, 4) == pytest.approx(1.4)
    assert costs.relative(1, 2) == pytest.approx(1.2)
    assert costs.relative(1, 8) == pytest.approx(1.8)


def test_costs_of_one_stand_for_those_of_several_until_measured() -> None:
    """Rows of other sequences cost what guesses of one do."""
    costs = StepCosts()
    costs.observe(1, 0, 0.010)
    costs.observe(1, 10, 0.020)
    assert costs.relative(6, 5) == pytest.approx(2.0 / 1.5)
    costs.observe(6, 0, 0.015)
    costs.observe(6, 5, 0.045)
    assert costs.relative(6, 5) == pytest.approx(3.0)


def test_steps_without_guesses_come_again() -> None:
    """The measure of all costs is never older than some steps."""
    costs = StepCosts()
    assert costs.wants_plain(1)
    costs.observe(1, 0, 0.010)
    assert not costs.wants_plain(1)
    for _ in range(40):
        costs.observe(1, 3, 0.010)
    assert costs.wants_plain(1)


def test_what_did_not_pay_is_tried_again_ever_more_rarely() -> None:
    """Steps that cost as much as their rows are given up, but not for good."""
    bench = Bench(FakeClock(), repeats=True)
    speculation = bench.decoder.scheduler.speculation
    speculation.costs.observe(1, 0, 0.010)
    for guesses in range(1, 16):
        for _ in range(5):
            speculation.costs.observe(1, guesses, 0.010 * (1 + 5 * guesses))
    speculation.costs.observe(1, 0, 0.010)
    reader = bench.submit(COPYING, max_tokens=400, sampling=GREEDY)
    bench.run()
    drafted = bench.outcomes[-1].drafted_tokens
    assert len(bench.tokens(reader)) == 400
    assert 0 < drafted < 40


def test_a_sequence_learns_from_the_others_and_then_from_itself() -> None:
    """The prior is what held at that temperature; own guesses outweigh it."""
    everyone, first, second = Acceptances(), Acceptance(), Acceptance()
    for _ in range(200):
        everyone.note(first, 4, 1.0, is_right=False)
    assert everyone.chance(second, 4, 1.0) < 0.1
    assert everyone.chance(second, 4, 0.0) == 0.5
    for _ in range(30):
        everyone.note(second, 4, 1.0, is_right=True)
    assert everyone.chance(second, 4, 1.0) > 0.7
    assert everyone.right == {1.0: 30}


def test_switched_off_nothing_is_guessed() -> None:
    """THERMESH_SPECULATION=off computes one row a token."""
    bench, _ = run(speculation=False)
    assert bench.network.rows == len(COPYING) + 59
    assert not Speculation(is_enabled=False).drafts([], 10)


def test_guesses_do_not_keep_prompts_out() -> None:
    """A prompt that joins a stream that guesses is computed to its end."""
    bench = Bench(FakeClock(), pages=100, repeats=True)
    bench.submit(COPYING, max_tokens=400, sampling=GREEDY)
    for _ in range(10):
        bench.step()
    reader = bench.submit("abcdefgh" * 50, max_tokens=1, request_id="long")
    for _ in range(150):
        bench.step()
    assert len(bench.tokens(reader)) == 1
