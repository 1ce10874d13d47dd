"""One request: parameters, revisions, plan grace, credit, account."""

from __future__ import annotations

import pytest

from services.inference.events import Applied, FinishReason, Rejected
from services.inference.request import Plan, Source, Update
from services.inference.sampling.sampler import Drawn
from services.inference.sampling.settings import Edt, Fixed, Guard, Penalties, Sampling
from services.inference.sequences.parameters import Parameters
from services.inference.sequences.repetition import repetition
from services.inference.sequences.sequence import MAX_BUFFERED_TOKENS, Sequence

from .conftest import Reader, make_request


def parameters(**changes) -> Parameters:
    return Parameters(make_request(**changes), vocabulary_size=260)


def plan(**changes) -> Plan:
    return Plan(**{"sampling": Sampling(Fixed(0.4)), "seed": 99, **changes})


def client(update_id: int, **members) -> Update:
    return Update(Source.CLIENT, update_id, **members)


def controller(update_id: int, **members) -> Update:
    return Update(Source.CONTROLLER, update_id, **members)


def sequence(**changes) -> Sequence:
    return Sequence(make_request(**changes), Reader(), 260, 100, now=0.0)


def record(sequence: Sequence, token_id: int = 97, now: float = 0.0, is_end: bool = False):
    drawn = Drawn(token_id, 0.5, 2.0, -1.0, -1.5)
    return sequence.record(drawn, bytes([token_id]), is_end=is_end, step_time_us=5, now=now)


def test_a_plan_replaces_sampling_and_seed() -> None:
    """A plan is revision 1, brings its seed, and says from which token it holds."""
    chosen = parameters()
    applied = chosen.apply_plan(plan(), token_index=3)
    assert applied == Applied(1, 3, Source.PLAN, 0, Sampling(Fixed(0.4)))
    assert (chosen.sampling, chosen.seed) == (Sampling(Fixed(0.4)), 99)


def test_an_invalid_plan_changes_nothing() -> None:
    """A plan out of range is rejected with its field; the start's values stay."""
    chosen = parameters()
    rejected = chosen.apply_plan(plan(sampling=Sampling(Fixed(9))), 0)
    assert isinstance(rejected, Rejected)
    assert rejected.field == "plan.sampling.program.fixed.temperature"
    assert (chosen.revision, chosen.sampling) == (0, Sampling(Fixed(1.0)))


def test_updates_change_only_their_members() -> None:
    """Absent members stay; guard and penalties are replaced whole."""
    chosen = parameters(sampling=Sampling(Fixed(1.0), Guard(top_k=5), Penalties(1.1)))
    applied = chosen.apply(client(1, guard=Guard(min_p=0.1)), 4)
    expected = Sampling(Fixed(1.0), Guard(min_p=0.1), Penalties(1.1))
    assert applied == Applied(1, 4, Source.CLIENT, 1, expected)


def test_stale_updates_are_dropped_and_counted_for_each_sender() -> None:
    """An id not above the sender's last one has no effect; senders do not interfere."""
    chosen = parameters()
    assert chosen.apply(client(5, program=Fixed(0.5)), 0)
    assert chosen.apply(client(5, program=Fixed(0.6)), 0) is None
    assert chosen.apply(client(4, program=Fixed(0.7)), 0) is None
    assert chosen.dropped == 2
    assert chosen.sampling.program == Fixed(0.5)
    assert chosen.apply(controller(1, guard=Guard(top_k=3)), 0)
    assert chosen.revision == 2


@pytest.mark.parametrize(
    ("update", "field"),
    [
        (client(1, program=Fixed(3)), "program.fixed.temperature"),
        (client(1, program=Edt(1, 11)), "program.edt.theta"),
        (client(1, guard=Guard(top_p=2)), "guard.top_p"),
        (client(1, penalties=Penalties(presence=9)), "penalties.presence"),
        (client(0, program=Fixed(1)), "update_id"),
        (client(1), "program"),
    ],
)
def test_invalid_updates_are_rejected_with_their_field(update: Update, field: str) -> None:
    """A bad update changes nothing, and its id can be used again."""
    chosen = parameters()
    rejected = chosen.apply(update, 0)
    assert isinstance(rejected, Rejected)
    assert (rejected.update_id, rejected.field) == (update.update_id, field)
    assert chosen.revision == 0
    assert chosen.apply(client(1, program=Fixed(0.5)), 0)


def test_a_program_of_the_client_wins_over_the_controllers() -> None:
    """Once the client set a program, plan and controller change all but the program."""
    chosen = parameters()
    chosen.apply(client(1, program=Fixed(0.9)), 0)
    chosen.apply_plan(plan(sampling=Sampling(Fixed(0.2), Guard(top_k=7))), 0)
    assert chosen.sampling == Sampling(Fixed(0.9), Guard(top_k=7))
    assert chosen.apply(controller(1, program=Fixed(0.3)), 1) is None
    applied = chosen.apply(controller(2, program=Fixed(0.3), guard=Guard(top_k=9)), 1)
    assert applied
    assert chosen.sampling == Sampling(Fixed(0.9), Guard(top_k=9))
    assert (chosen.dropped, chosen.is_program_pinned) == (1, True)


def test_a_pinned_plan_holds_against_the_controller() -> None:
    """The controller cannot change a temperature that the user pinned."""
    chosen = parameters()
    chosen.apply_plan(plan(is_pinned=True), 0)
    assert chosen.apply(controller(1, program=Fixed(0.3)), 0) is None
    assert chosen.apply(client(1, program=Fixed(0.3)), 0)


def test_the_users_maximum_bounds_the_budget() -> None:
    """Plan and controller can lower the budget below max_tokens; only the client raises it."""
    chosen = parameters(max_tokens=10)
    chosen.apply_plan(plan(token_budget=50), 0)
    assert chosen.token_budget == 10
    chosen.apply(controller(1, token_budget=4), 0)
    assert chosen.token_budget == 4
    chosen.apply(client(1, token_budget=30), 0)
    assert chosen.token_budget == 30
    chosen.apply(client(2, token_budget=0), 0)
    assert chosen.token_budget == 0


def test_a_sequence_is_parked_for_its_plan_only_for_the_grace() -> None:
    """After prefill it waits for the plan until the grace ends, then draws with defaults."""
    parked = sequence(expects_plan=True, plan_grace_seconds=0.025)
    parked.accept_logits([object()], None, now=10.0)
    assert not parked.may_draw(10.02)
    assert parked.wakes_at() == 10.025
    assert parked.may_draw(10.025)
    parked.stop_waiting_for_plan()
    assert parked.may_draw(10.0)
    assert parked.wakes_at() == float("inf")


def test_credit_bounds_what_is_drawn() -> None:
    """Each token takes a credit; without one nothing is drawn until more comes."""
    bounded = sequence(initial_credit=2)
    for _ in range(2):
        assert bounded.may_draw(0.0)
        record(bounded)
    assert not bounded.may_draw(0.0)
    bounded.add_credit(1)
    assert bounded.may_draw(0.0)


def test_the_buffer_bounds_what_is_drawn_without_credits() -> None:
    """A reader that takes nothing holds a sequence after 1024 tokens."""
    unread = Sequence(make_request(max_tokens=0), Reader(), 260, 5000, now=0.0)
    for _ in range(MAX_BUFFERED_TOKENS):
        assert unread.has_credit
        record(unread)
    assert not unread.has_credit
    unread.reader.taken = 1
    assert unread.has_credit


def test_the_end_token_carries_no_text_but_what_was_held() -> None:
    """Text held for a stop string comes with the token that ends the generation."""
    ending = sequence(stop=("ab",))
    assert record(ending, ord("a"))[0].text == ""
    token, reason = record(ending, 200, is_end=True)
    assert (token.text, reason) == ("a", FinishReason.STOP)


def test_ignoring_the_end_decodes_on() -> None:
    """ignore_end_of_sequence goes on to the budget and shows no text for the mark."""
    stubborn = sequence(ignore_end_of_sequence=True, max_tokens=2)
    token, reason = record(stubborn, 200, is_end=True)
    assert (token.text, reason) == ("", None)
    assert record(stubborn)[1] is FinishReason.LENGTH


def test_a_stop_string_ends_before_it() -> None:
    """The stop string is not part of the text."""
    stopping = sequence(stop=("aa",))
    record(stopping)
    token, reason = record(stopping)
    assert (token.text, reason) == ("", FinishReason.STOP_STRING)


def test_a_budget_already_passed_ends_at_the_next_token() -> None:
    """Lowering the budget below what was decoded ends the request with one more token."""
    lowered = sequence(max_tokens=50)
    for _ in range(3):
        record(lowered)
    lowered.parameters.apply(client(1, token_budget=2), 3)
    assert record(lowered)[1] is FinishReason.LENGTH


def test_the_account_adds_up() -> None:
    """Usage, means and the trace of temperatures are those of the decoded tokens."""
    done = sequence()
    done.account.begin(1.0)
    record(done, now=3.0)
    record(done, now=7.0)
    outcome = done.outcome(FinishReason.STOP)
    usage = outcome.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (5, 2)
    times = (usage.queue_time_us, usage.prefill_time_us, usage.decode_time_us)
    assert times == (1_000_000, 2_000_000, 4_000_000)
    assert outcome.temperatures == (0.5, 0.5)
    means = (outcome.mean_temperature, outcome.mean_entropy, outcome.mean_log_probability)
    assert means == (0.5, 2.0, -1.5)


def test_telemetry_comes_every_so_many_tokens() -> None:
    """A report covers the tokens since the last one."""
    reporting = sequence()
    record(reporting)
    assert reporting.telemetry(2) is None
    record(reporting)
    report = reporting.telemetry(2)
    assert report is not None
    assert (report.token_count, report.mean_entropy, report.temperature) == (2, 2.0, 0.5)
    assert reporting.telemetry(2) is None


def test_repetition_is_the_share_of_repeated_4_grams() -> None:
    """None in distinct tokens, nearly all in a loop."""
    assert repetition([1, 2, 3]) == 0.0
    assert repetition(range(20)) == 0.0
    assert repetition([1, 2] * 10) == pytest.approx(15 / 17)
