"""The engine with the packaged model."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import torch
from scored import scored

from services.inference.config import Config
from services.inference.service import Service
from thermesh import rpc
from thermesh.models import locate
from thermesh.testing import eventually, free_port
from thermesh.v1 import common_pb2, inference_pb2

from .conftest import Served, fixed

pytestmark = [pytest.mark.model, pytest.mark.timeout(120)]
NAME = "smollm2-135m-instruct"
QUESTIONS = ("What is the capital of France?", "Name three colours.", "What is two plus two?")
TOKENS = 12


@pytest.fixture(scope="module")
def model():
    """The packaged model, loaded once."""
    from services.inference import models  # noqa: PLC0415  # only where the model is there

    return models.load(locate(NAME), NAME)


@pytest.fixture
async def served(model) -> AsyncIterator[Served]:
    """A service on the packaged model, small enough that prompts are chunked."""
    config = Config(
        port=0, grace_seconds=0.2, controller_target=f"127.0.0.1:{free_port()}", prefill_chunk=16
    )
    service = Service(config, model, "replica-1", threads=1)
    channel = rpc.connect(f"127.0.0.1:{await service.start()}")
    yield Served(service, model, channel)
    await channel.close()
    await service.stop()


async def ask(served: Served, question: str, temperature: float = 0.0):
    turn = common_pb2.ChatMessage(role=common_pb2.ROLE_USER, content=question)
    return await served.open(
        chat=common_pb2.ChatInput(messages=[turn]),
        max_tokens=TOKENS,
        sampling=common_pb2.Sampling(program=fixed(temperature)),
    )


def by_scoring(model, question: str) -> list[int]:
    """Decode greedily without engine, cache or batch."""
    token_ids = model.tokenizer.encode_chat([("user", question)])
    decoded: list[int] = []
    while len(decoded) < TOKENS and not set(decoded) & model.tokenizer.end_ids:
        logits = scored(model.network, torch.tensor([*token_ids, *decoded]))
        decoded.append(int(logits[-1].argmax()))
    return decoded


async def test_greedy_decoding_equals_plain_scoring(served: Served, model) -> None:
    """Pages, chunks and batches change nothing: tokens are those of a forward pass each."""
    calls = [await ask(served, question) for question in QUESTIONS]
    for call, question in zip(calls, QUESTIONS, strict=True):
        await call.hear_all()
        assert [token.token_id for token in call.tokens] == by_scoring(model, question)
    assert "Paris" in calls[0].text
    await eventually(served.is_idle)


async def test_the_prefix_cache_changes_no_answer(served: Served, model) -> None:
    """Asked again, and asked for several answers at once, the model says the same from
    shared pages as from its own."""
    expected = by_scoring(model, QUESTIONS[0])
    first = await ask(served, QUESTIONS[0])
    await first.hear_all()
    again = [await ask(served, QUESTIONS[0]) for _ in range(3)]
    for call in again:
        await call.hear_all()
        assert [token.token_id for token in call.tokens] == expected
        assert call.of("end")[0].usage.cached_prompt_tokens >= 16
    await eventually(served.is_idle)


async def test_a_seed_replays(served: Served) -> None:
    """The same seed gives the same answer, with its log-probabilities."""
    answers = []
    for _ in range(2):
        call = await ask(served, QUESTIONS[1], temperature=0.8)
        await call.hear_all()
        answers.append([(token.token_id, token.log_probability) for token in call.tokens])
    assert answers[0] == answers[1]


async def test_an_interruption_is_exact(served: Served) -> None:
    """Of an answer that copies, several tokens a step, what came after the interruption is
    neither sent nor counted, and on credit there is little to throw away."""
    lines = "\n".join(f"line {number} of the poem" for number in range(12)) + "\n"
    credit = 24
    for kept in (1, 7, 16):
        call = await served.open(
            prompt=lines * 2,
            max_tokens=0,
            initial_credit=credit,
            sampling=common_pb2.Sampling(program=fixed(0.0)),
        )
        await call.hear_tokens(kept)
        await call.say(cancel=inference_pb2.CancelGeneration(kept_tokens=kept))
        await call.hear_all()
        [end] = call.of("end")
        assert end.finish_reason == common_pb2.FINISH_REASON_CANCELLED
        assert end.usage.completion_tokens == kept
        assert len(call.tokens) <= kept + end.discarded_tokens <= credit
        await eventually(served.is_idle)
