"""Random changes from outside while the engine's thread decodes, none of them out of place."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random

import pytest
from fake_model import VOCABULARY_SIZE, FakeNetwork, FakeTokenizer

from services.inference.decoding.decoder import Decoder
from services.inference.engine import Engine
from services.inference.events import Applied, Ended, Token
from services.inference.limits import Limits
from services.inference.request import Source, Update
from services.inference.sampling.settings import Fixed
from thermesh.clock import SystemClock

from .conftest import make_request

UPDATES = int(os.environ.get("THERMESH_SOAK_UPDATES", "4000"))
STREAMS, TOKENS = 8, 250


@dataclasses.dataclass
class Followed:
    """One stream: what was sent, what was acknowledged, what was decoded."""

    name: str = ""
    sent: dict[int, tuple[float, int]] = dataclasses.field(default_factory=dict)
    applied: list[Applied] = dataclasses.field(default_factory=list)
    tokens: list[Token] = dataclasses.field(default_factory=list)
    newest: int = 0
    stale: int = 0


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_every_change_holds_from_the_token_it_was_acknowledged_for(record_property):
    """Of all random changes, some stale or repeated: no token under another revision than
    the one in effect, and at least 99 % take hold at the next token boundary."""
    network, limits = FakeNetwork(), Limits()
    decoder = Decoder(network, FakeTokenizer(), limits, 256, SystemClock())
    engine = Engine(
        decoder, limits, context_length=512, vocabulary_size=VOCABULARY_SIZE, clock=SystemClock()
    )
    engine.network, engine.taken_at = network, {}
    revise = decoder.revise

    def noted(request_id, update):
        # runs on the engine's thread, between two steps
        engine.taken_at[request_id, update.update_id, update.program] = network.steps
        revise(request_id, update)

    decoder.revise = noted
    engine.start()
    dice, done, applied, at_next = random.Random(5), 0, 0, 0
    try:
        while done < UPDATES:
            followed = await asyncio.gather(
                *(_decoded(engine, f"r{done}-{index}", dice) for index in range(STREAMS))
            )
            for each in followed:
                _check(each)
                done += len(each.sent) + each.stale
                applied += len(each.applied)
                at_next += sum(_took_hold_at_once(engine, each, one) for one in each.applied)
    finally:
        await engine.stop()

    # what `benchmarks.trust soak` publishes
    for name, count in {"sent": done, "applied": applied, "at_next_boundary": at_next}.items():
        record_property(name, count)
    assert applied > UPDATES / 4
    assert at_next / applied >= 0.99


async def _decoded(engine, name, dice):
    """Decode one request to its end and change it at random meanwhile."""
    followed, temperature = Followed(name), 1.0
    stream = engine.open(make_request(request_id=name, max_tokens=TOKENS, seed=dice.randrange(99)))
    try:
        while True:
            for event in await stream.take():
                if isinstance(event, Token):
                    followed.tokens.append(event)
                elif isinstance(event, Applied):
                    followed.applied.append(event)
                elif isinstance(event, Ended):
                    return followed
            for _ in range(dice.randrange(3)):
                temperature = round(dice.uniform(0.1, 2.0), 6)
                number = followed.newest + dice.choice((1, 1, 2, 7, 0, -3))
                if number <= followed.newest:
                    followed.stale += 1
                    number = max(1, number)
                    if followed.newest == 0:
                        continue
                else:
                    followed.newest = number
                    followed.sent[number] = (temperature, engine.network.steps)
                engine.revise(name, Update(Source.CONTROLLER, number, program=Fixed(temperature)))
    finally:
        stream.close()


def _check(followed):
    """Each token decoded under the newest change acknowledged for it or before."""
    numbers = [one.update_id for one in followed.applied]
    assert numbers == sorted(set(numbers)), "a stale change was applied"
    for token in followed.tokens:
        held = [one for one in followed.applied if one.token_index <= token.index]
        revision = held[-1].revision if held else 0
        temperature = followed.sent[held[-1].update_id][0] if held else 1.0
        assert token.revision == revision
        assert token.temperature == pytest.approx(temperature, abs=1e-9)


def _took_hold_at_once(engine, followed, one):
    """Whether it was taken up before a second step began after it was sent.

    The first may have been about to begin: that boundary had passed already.
    """
    temperature, sent_at = followed.sent[one.update_id]
    taken_at = engine.taken_at[followed.name, one.update_id, Fixed(temperature)]
    return taken_at - sent_at <= 1
