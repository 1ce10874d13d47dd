"""What a replay asks for: runs of tokens that were drawn alike, and where two answers part."""

from __future__ import annotations

import pytest

from thermesh.replay import Recorded, first_difference
from thermesh.v1 import chat_pb2, common_pb2


def sampling(program, min_p=None):
    """Sampling by a program, behind a guard where there is one."""
    return common_pb2.Sampling(program=program, guard=common_pb2.Guard(min_p=min_p))


FIXED = common_pb2.TemperatureProgram(fixed=common_pb2.FixedProgram(temperature=0.5))
EDT = common_pb2.TemperatureProgram(edt=common_pb2.EdtProgram(base_temperature=1.0, theta=0.5))


def token(index, temperature, revision=0, **members):
    """One token of a trace."""
    return common_pb2.Token(
        index=index, token_id=index, temperature=temperature, revision=revision, **members
    )


def recorded(tokens, plan_program=FIXED, applied=()):
    """An answer as its client saw it."""
    plan = common_pb2.DecodingPlan(sampling=sampling(plan_program), seed=7)
    chunk = common_pb2.TokenChunk(tokens=tokens)
    responses = [
        chat_pb2.ConverseResponse(plan=plan),
        *(chat_pb2.ConverseResponse(applied=each) for each in applied),
        chat_pb2.ConverseResponse(tokens=chunk),
    ]
    start = chat_pb2.ConverseStart(messages=[common_pb2.ChatMessage(content="Hello")])
    return Recorded.of(start, responses)


def test_tokens_of_one_temperature_are_one_run():
    """Credit is given for all of them at once."""
    (run,) = recorded([token(index, 0.5) for index in range(4)]).runs
    assert (run.count, run.sampling.program.fixed.temperature) == (4, 0.5)


def test_each_revision_brings_its_own_guard():
    """The change holds from its first token on."""
    change = common_pb2.ParametersApplied(revision=1, token_index=2, sampling=sampling(FIXED, 0.2))
    tokens = [token(0, 0.5), token(1, 0.5), token(2, 0.75, 1)]
    first, second = recorded(tokens, applied=[change]).runs

    assert (first.count, second.count) == (2, 1)
    assert not first.sampling.guard.HasField("min_p")
    assert second.sampling.guard.min_p == pytest.approx(0.2)
    assert second.sampling.program.fixed.temperature == 0.75


def test_a_program_is_replayed_by_its_trace():
    """Also one that gave every token its own temperature; what cannot be set stays a program."""
    tokens = [token(0, 0.5), token(1, 0.75), token(2, 0.03125), token(3, 0.0)]
    runs = recorded(tokens, EDT).runs
    assert [run.sampling.program.WhichOneof("kind") for run in runs] == [
        *("fixed", "fixed", "edt", "fixed")
    ]


@pytest.mark.parametrize("member", ["temperature", "entropy", "log_probability"])
def test_answers_part_where_a_bit_differs(member):
    """Not only where the token does."""
    left = [token(0, 0.5), token(1, 0.5)]
    right = [token(0, 0.5), token(1, 0.5)]
    assert first_difference(left, right) is None
    setattr(right[1], member, 0.25)
    assert first_difference(left, right) == 1
    assert first_difference(left, left[:1]) == 1
