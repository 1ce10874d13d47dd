"""Answers of a mesh under mixed load, each decoded once more alone and compared bit for bit.

Many conversations run at once through the gateway: decided by the policy, pinned, with
programs that give every token its own temperature, with penalties, cut short, some steered by
their client half way. What each client saw is replayed on the engine when all is quiet.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator

import grpc

from benchmarks.policy.families import FAMILIES
from thermesh import rpc
from thermesh.replay import Recorded, replay
from thermesh.v1 import chat_pb2, chat_pb2_grpc, common_pb2, controller_pb2

AT_ONCE, SECONDS = 12, 120.0
STEERED = "left to the policy, steered by its client"
_STEERED_AFTER = 6

Constraints = controller_pb2.Constraints
KINDS: dict[str, Constraints] = {
    "left to the policy": Constraints(),
    STEERED: Constraints(),
    "pinned": Constraints(temperature=0.9),
    "pinned, nothing cut, penalties": Constraints(
        temperature=0.7, penalties=common_pb2.Penalties(repetition=1.1, presence=0.2)
    ),
    "greedy": Constraints(temperature=0.0),
    "entropy-based temperature": Constraints(
        program=common_pb2.TemperatureProgram(
            edt=common_pb2.EdtProgram(base_temperature=1.0, theta=0.3)
        )
    ),
    "dynamic temperature": Constraints(
        program=common_pb2.TemperatureProgram(
            dynatemp=common_pb2.DynatempProgram(temperature=0.8, range=0.4, exponent=1.0)
        ),
        guard=common_pb2.Guard(min_p=0.05),
    ),
}


async def measured(gateway: str, inference: str, count: int) -> dict[str, object]:
    """Ask `count` conversations at once in part, replay each alone, and return what differs."""
    async with rpc.connect(gateway) as door, rpc.connect(inference) as engine:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(kind: str, start: chat_pb2.ConverseStart) -> tuple[str, Recorded]:
            async with gate:
                try:
                    return kind, await _converse(door, start, kind == STEERED)
                except grpc.aio.AioRpcError:
                    if kind != STEERED:
                        raise
                    # A change was under way as the answer ended: gRPC takes that for a failure.
                    return kind, await _converse(door, start, is_steered=False)

        answers = await asyncio.gather(*(one(*each) for each in _asked(count)))
        runs, tokens, differ = Counter[str](), Counter[str](), Counter[str]()
        revised = sum(len(recorded.runs) > 1 for _, recorded in answers)
        for kind, recorded in answers:
            found = await replay(engine, recorded, SECONDS)
            runs[kind] += 1
            tokens[kind] += found.count
            differ[kind] += found.differs_at is not None
    return {
        "at_once": AT_ONCE,
        "several_temperatures": revised,
        "by_kind": {
            kind: {"answers": runs[kind], "tokens": tokens[kind], "differ": differ[kind]}
            for kind in KINDS
        },
    }


def _asked(count: int) -> list[tuple[str, chat_pb2.ConverseStart]]:
    generator, found = random.Random("replay"), []
    prompts = [prompt for family in FAMILIES for prompt in family.prompts()]
    kinds = itertools.cycle(KINDS.items())
    for prompt, (kind, values) in zip(generator.sample(prompts, count), kinds, strict=False):
        constraints = Constraints(max_tokens=generator.choice((8, 24, 48, 96)))
        constraints.MergeFrom(values)
        messages = [
            common_pb2.ChatMessage(role=f"ROLE_{role.upper()}", content=text)
            for role, text in prompt.turns
        ]
        context = common_pb2.RequestContext(
            request_id=f"replay-{uuid.uuid4().hex}", session_id=f"s{generator.randrange(40)}"
        )
        start = chat_pb2.ConverseStart(context=context, messages=messages, constraints=constraints)
        found.append((kind, start))
    return found


async def _converse(
    door: grpc.aio.Channel, start: chat_pb2.ConverseStart, is_steered: bool
) -> Recorded:
    """Hold one conversation; a steered one asks for other temperatures while it streams."""
    wants: asyncio.Queue[float | None] = asyncio.Queue()

    async def said() -> AsyncIterator[chat_pb2.ConverseRequest]:
        yield chat_pb2.ConverseRequest(start=start)
        for number in itertools.count(1):
            temperature = await wants.get()
            if temperature is None:
                return
            fixed = common_pb2.FixedProgram(temperature=temperature)
            program = common_pb2.TemperatureProgram(fixed=fixed)
            update = common_pb2.ParameterUpdate(update_id=number, program=program)
            yield chat_pb2.ConverseRequest(update=update)

    responses, told = [], 0
    call = chat_pb2_grpc.ChatServiceStub(door).Converse(said(), timeout=SECONDS)
    try:
        async for response in call:
            responses.append(response)
            told += len(response.tokens.tokens)
            if is_steered and told >= _STEERED_AFTER * (wants.qsize() + 1):
                wants.put_nowait(0.3 if told % 2 else 1.3)
    finally:
        wants.put_nowait(None)
        call.cancel()
    return Recorded.of(start, responses)
