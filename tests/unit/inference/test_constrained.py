"""Decoding under a constraint: what is drawn, how it ends, what it reports."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest
import torch
from fake_model import VOCABULARY_SIZE, FakeTokenizer

from services.inference.events import Ended, FinishReason
from services.inference.request import Plan, Source, Update
from services.inference.sampling.constraint import Kind, OutputConstraint
from services.inference.sampling.grammar import Grammars
from services.inference.sampling.sampler import Row, sample
from services.inference.sampling.settings import Dynatemp, Edt, Fixed, Guard, Penalties, Sampling
from thermesh.errors import FailedPrecondition
from thermesh.testing import FakeClock

from .conftest import Bench

SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 6}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
)
LOGITS = torch.tensor([2.0, 1.0, 0.5, -1.0, 3.0])


@pytest.fixture
async def matcher() -> AsyncIterator[Callable]:
    """A function that compiles a constraint over the fake model's bytes."""
    grammars = Grammars(FakeTokenizer(), VOCABULARY_SIZE)

    async def compiled(kind: Kind, text: str = "", *options: str):
        return await grammars.matcher_of(OutputConstraint(kind, text, options), "start.constraint")

    yield compiled
    grammars.close()


@pytest.fixture
def bench() -> Bench:
    """A decoder on the fake model."""
    return Bench(FakeClock())


def text_of(bench: Bench, reader) -> str:
    return "".join(token.text for token in bench.tokens(reader))


def end_of(bench: Bench, reader) -> Ended:
    return bench.events[reader][-1]


def allowed(*token_ids: int) -> np.ndarray:
    mask = np.zeros(len(LOGITS), np.bool_)
    mask[list(token_ids)] = True
    return mask


def draw(sampling: Sampling, mask: np.ndarray, index: int = 0):
    [drawn] = sample(LOGITS[None], [Row(sampling, 1, index, allowed=mask)])
    return drawn


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(Fixed(0)),
        Sampling(Fixed(2.0)),
        Sampling(Edt(1.5, 1.0), Guard(min_p=0.1)),
        Sampling(Dynatemp(1.0, 0.9, 1.0), Guard(top_k=2)),
        Sampling(Fixed(1.0), Guard(top_n_sigma=1.0), logit_bias=((4, 100.0),)),
        Sampling(Fixed(1.0), Guard(top_p=0.2), Penalties(2.0, 1.0, 1.0)),
    ],
)
def test_only_allowed_tokens_are_drawn_whatever_the_sampling(sampling):
    """The mask comes before guard and temperature and no bias brings a token back."""
    drawn = {draw(sampling, allowed(1, 3), index).token_id for index in range(50)}
    assert drawn <= {1, 3}


def test_the_guard_measures_from_the_best_allowed_token():
    """min_p keeps the best of what is allowed, however unlikely the model finds it."""
    assert draw(Sampling(Fixed(1.0), Guard(min_p=1.0)), allowed(2, 3)).token_id == 2


def test_the_log_probability_is_that_of_the_constrained_distribution():
    """A forced token has log-probability 0; of two, both share one distribution."""
    forced = draw(Sampling(Fixed(1.3)), allowed(3))
    assert (forced.token_id, forced.log_probability) == (3, 0.0)
    expected = torch.log_softmax(LOGITS[[0, 1]] / 0.5, 0)
    drawn = draw(Sampling(Fixed(0.5)), allowed(0, 1))
    assert drawn.log_probability == pytest.approx(float(expected[drawn.token_id]))


def test_adaptive_temperature_follows_the_entropy_of_what_is_allowed():
    """EDT cools to the floor where one token is left; telemetry keeps the model's entropy."""
    program = Edt(1.0, 1.0)
    free, pair, forced = (
        draw(Sampling(program), mask) for mask in (None, allowed(0, 1), allowed(3))
    )
    entropy = float(torch.distributions.Categorical(logits=LOGITS[[0, 1]]).entropy())
    assert pair.temperature == pytest.approx(0.8 ** (1 / entropy), rel=1e-5)
    assert forced.temperature == pytest.approx(0.01)
    assert free.entropy == pair.entropy == forced.entropy
    assert free.model_log_probability == pytest.approx(float(torch.log_softmax(LOGITS, 0)[4]))


@pytest.mark.parametrize("temperature", [0, 0.7, 2.0])
async def test_an_output_under_a_schema_fits_it(bench, matcher, temperature):
    """The fake model's noise becomes JSON of the schema, and ends by itself."""
    readers = [
        bench.submit(
            f"prompt {index}",
            constraint=await matcher(Kind.JSON_SCHEMA, SCHEMA),
            sampling=Sampling(Fixed(temperature), Guard(top_k=5)),
            max_tokens=400,
            request_id=f"req-{index}",
            ignore_end_of_sequence=True,
        )
        for index in range(4)
    ]
    bench.run()
    for reader in readers:
        if end_of(bench, reader).finish_reason is FinishReason.STOP:
            answer = json.loads(text_of(bench, reader))
            assert list(answer) == ["name", "age"]
            assert len(answer["name"]) <= 6
            assert isinstance(answer["age"], int)
    reasons = [end_of(bench, reader).finish_reason for reader in readers]
    assert FinishReason.STOP in reasons or temperature == 0


async def test_a_closed_language_ends_without_an_end_token(bench, matcher):
    """The last token of a choice ends the request with STOP."""
    reader = bench.submit(constraint=await matcher(Kind.CHOICE, "", "yes", "no"), max_tokens=0)
    bench.run()
    assert text_of(bench, reader) in {"yes", "no"}
    assert end_of(bench, reader).finish_reason is FinishReason.STOP
    assert end_of(bench, reader).usage.completion_tokens == len(text_of(bench, reader))


async def test_the_clients_maximum_cuts_anywhere(bench, matcher):
    """max_tokens ends a constrained output in its middle with LENGTH."""
    reader = bench.submit(constraint=await matcher(Kind.REGEX, "a{9}"), max_tokens=4)
    bench.run()
    assert text_of(bench, reader) == "aaaa"
    assert end_of(bench, reader).finish_reason is FinishReason.LENGTH


async def test_a_plans_budget_cuts_only_where_the_output_is_complete(bench, matcher):
    """The policy's budget lets an object close; open text it ends as ever."""
    plan = Plan(Sampling(Fixed(0.5)), seed=3, token_budget=4)
    closed = bench.submit(constraint=await matcher(Kind.REGEX, "a{9}b*"), max_tokens=0)
    text = bench.submit(constraint=await matcher(Kind.REGEX, "a*"), max_tokens=0, request_id="b")
    for reader in (closed, text):
        bench.decoder.plan(reader, plan)
    bench.run()
    assert text_of(bench, closed) == "aaaaaaaaa"
    assert text_of(bench, text) == "aaaa"
    reasons = {end_of(bench, reader).finish_reason for reader in (closed, text)}
    assert reasons == {FinishReason.LENGTH}


async def test_an_update_of_the_client_cuts_anywhere(bench, matcher):
    """A budget that the client sets while decoding is its own maximum."""
    reader = bench.submit(constraint=await matcher(Kind.REGEX, "a{30}"), max_tokens=0)
    bench.decoder.update(reader, Update(Source.CLIENT, 1, token_budget=5))
    bench.run()
    assert text_of(bench, reader) == "aaaaa"


async def test_preemption_does_not_lose_the_place_in_the_grammar(matcher):
    """Two constrained sequences that push each other out of the cache still both fit."""
    bench = Bench(FakeClock(), pages=4)
    pattern = "[a-z]{24}[0-9]{24}"
    readers = [
        bench.submit(
            "x" * 10, constraint=await matcher(Kind.REGEX, pattern), max_tokens=0, request_id=name
        )
        for name in "ab"
    ]
    bench.run()
    assert bench.decoder.scheduler.preempted_count > 0
    for reader in readers:
        text = text_of(bench, reader)
        assert (text[:24].isalpha(), text[24:].isdigit(), len(text)) == (True, True, 48)


async def test_a_constraint_that_fails_ends_only_its_own_request(bench, matcher):
    """Where a mask cannot be computed that request ends with an error; others go on."""

    class Broken:
        is_over = is_complete = False

        def mask(self):
            raise FailedPrecondition("too complex", field="start.constraint")

        def forced(self):
            return ()

    broken = bench.submit(constraint=Broken())
    sound = bench.submit(request_id="sound", max_tokens=5)
    bench.run()
    assert end_of(bench, broken).error.field == "start.constraint"
    assert len(bench.tokens(sound)) == 5


async def test_the_same_seed_repeats_a_constrained_output(bench, matcher):
    """Replay holds under a constraint, whatever else is in the batch."""
    texts = []
    for name in ("first", "again"):
        wanted = await matcher(Kind.REGEX, "[a-z ]{20}")
        reader = bench.submit(constraint=wanted, max_tokens=0, request_id=name)
        if name == "again":
            bench.submit("other", request_id="other")
        bench.run()
        texts.append(text_of(bench, reader))
    assert texts[0] == texts[1]


async def test_what_a_language_forces_is_not_decoded_step_by_step(matcher):
    """Keys and quotes of a schema are guessed and always right: equal tokens in fewer steps."""
    texts, steps = [], []
    for speculation in (False, True):
        bench = Bench(FakeClock(), speculation=speculation)
        reader = bench.submit(constraint=await matcher(Kind.JSON_SCHEMA, SCHEMA), max_tokens=40)
        bench.run()
        texts.append(text_of(bench, reader))
        steps.append(bench.network.steps)
    assert texts[0] == texts[1]
    assert steps[1] < 0.7 * steps[0]
