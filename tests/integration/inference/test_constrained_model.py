"""Constrained output of the packaged model: always valid, at next to no cost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import jsonschema
import pytest
from random_schemas import random_schema

from services.inference import models
from services.inference.config import Config
from services.inference.service import Service
from thermesh import rpc
from thermesh.models import locate
from thermesh.testing import free_port
from thermesh.v1 import common_pb2

from .conftest import Served, fixed

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(900)]
NAME = "smollm2-135m-instruct"
SCHEMAS = 60
AT_ONCE = 8
TEMPERATURES = (0.0, 0.7, 1.5)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A service on the packaged model."""
    model = models.load(locate(NAME), NAME)
    config = Config(port=0, grace_seconds=0.2, controller_target=f"127.0.0.1:{free_port()}")
    service = Service(config, model, "replica-1", threads=2)
    channel = rpc.connect(f"127.0.0.1:{await service.start()}")
    yield Served(service, model, channel)
    await channel.close()
    await service.stop()


async def answer(served: Served, seed: int, slots: asyncio.Semaphore) -> tuple[dict, str, int]:
    """Ask for one instance of schema `seed`; return the schema, the text and how it ended."""
    schema = json.dumps(random_schema(seed))
    turn = common_pb2.ChatMessage(role=common_pb2.ROLE_USER, content="Give me one example as JSON.")
    async with slots:
        call = await served.open(
            chat=common_pb2.ChatInput(messages=[turn]),
            constraint=common_pb2.OutputConstraint(json_schema=schema),
            sampling=common_pb2.Sampling(
                program=fixed(TEMPERATURES[seed % len(TEMPERATURES)]),
                guard=common_pb2.Guard(top_n_sigma=1.0),
            ),
            max_tokens=500,
            seed=seed,
        )
        await call.hear_all()
    return json.loads(schema), call.text, call.of("end")[0].finish_reason


async def test_random_schemas_are_fitted_every_time(served: Served) -> None:
    """Random schemas, each at one of three temperatures: every whole answer is valid.

    A small model may repeat itself inside a string without bounds until
    max_tokens cuts it: such an answer is told as cut, and is not the rule.
    """
    slots = asyncio.Semaphore(AT_ONCE)
    answers = await asyncio.gather(*(answer(served, seed, slots) for seed in range(SCHEMAS)))
    invalid, cut = [], 0
    for seed, (schema, text, reason) in enumerate(answers):
        if reason == common_pb2.FINISH_REASON_LENGTH:
            cut += 1
            continue
        try:
            jsonschema.validate(json.loads(text), schema)
        except (ValueError, jsonschema.ValidationError) as error:
            invalid.append((seed, reason, text[:200], str(error)[:200]))
    assert invalid == []
    assert cut <= SCHEMAS / 5
