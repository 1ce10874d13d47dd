"""Decodes a recorded answer once more and tells whether the same tokens come.

An answer is settled by its seed, by what each token was drawn at (the trace of temperatures,
guard and penalties of its revision), and by the version of the model. Whatever else ran at
the time, steering included, left its mark in the trace alone. So a replay asks the engine for
the same seed, gives it credit for as many tokens as were drawn alike, changes the temperature
to that of the next ones, and so on:

    plan(seed, T of token 0)  credit(3)  ->  3 tokens  ->  update(T of token 3)  credit(5)  -> ...

Without credit an engine waits at a token boundary, which is what makes a change hold from
exactly one token on. A replay learns nothing and is not steered: its plan is pinned and has no
decision. Engines behind a bridge cannot be held to a token and are not replayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import grpc

from thermesh.rpc import translated
from thermesh.v1 import chat_pb2, common_pb2, inference_pb2, inference_pb2_grpc

LOWEST_FIXED = 0.1
"""Below it no temperature can be set but 0; programs may still reach there."""

_COMPARED = ("token_id", "temperature", "entropy", "log_probability", "model_log_probability")


@dataclass(frozen=True)
class Recorded:
    """What a client of `ChatService.Converse` saw of one answer."""

    messages: Sequence[common_pb2.ChatMessage]
    plan: common_pb2.DecodingPlan
    applied: Sequence[common_pb2.ParametersApplied]
    tokens: Sequence[common_pb2.Token]

    @classmethod
    def of(
        cls, start: chat_pb2.ConverseStart, responses: Iterable[chat_pb2.ConverseResponse]
    ) -> Recorded:
        """Keep what a replay needs of a conversation turn."""
        plan = common_pb2.DecodingPlan()
        applied: list[common_pb2.ParametersApplied] = []
        tokens: list[common_pb2.Token] = []
        for response in responses:
            match response.WhichOneof("message"):
                case "plan":
                    plan = response.plan
                case "applied":
                    applied.append(response.applied)
                case "tokens":
                    tokens.extend(response.tokens.tokens)
        return cls(list(start.messages), plan, applied, tokens)

    @property
    def runs(self) -> list[Run]:
        """The tokens in runs that were drawn alike, in order."""
        samplings = [self._sampling(token) for token in self.tokens]
        runs = [
            (common_pb2.Sampling.FromString(key), len(list(each)))
            for key, each in groupby(s.SerializeToString(deterministic=True) for s in samplings)
        ]
        return [Run(sampling, count) for sampling, count in runs]

    def _sampling(self, token: common_pb2.Token) -> common_pb2.Sampling:
        """Return what `token` was drawn by, its temperature from the trace."""
        known = {each.revision: each.sampling for each in self.applied}
        found = common_pb2.Sampling()
        found.CopyFrom(known.get(token.revision, self.plan.sampling))
        if token.temperature == 0.0 or token.temperature >= LOWEST_FIXED:
            fixed = common_pb2.FixedProgram(temperature=token.temperature)
            found.program.CopyFrom(common_pb2.TemperatureProgram(fixed=fixed))
        return found


@dataclass(frozen=True)
class Run:
    """As many tokens in a row as were drawn by the same parameters."""

    sampling: common_pb2.Sampling
    count: int


@dataclass(frozen=True)
class Replayed:
    """How a replay compares: `differs_at` is the first token that is not the same, bit for
    bit in its id, temperature, entropy and log-probabilities; None where all are.
    """

    count: int
    differs_at: int | None


async def replay(channel: grpc.aio.Channel, recorded: Recorded, timeout: float = 60.0) -> Replayed:
    """Decode `recorded` once more on the engine behind `channel`.

    Raises what `InferenceService.Generate` says, as errors of `thermesh.errors`.
    """
    drawn: list[common_pb2.Token] = []
    asking = _Asking(recorded)
    stub = inference_pb2_grpc.InferenceServiceStub(channel)
    call = stub.Generate(asking.messages(), timeout=timeout)
    try:
        with translated():
            async for response in call:
                drawn.extend(response.tokens.tokens)
                asking.came(len(drawn))
                if response.HasField("end") or len(drawn) >= len(recorded.tokens):
                    break
    finally:
        call.cancel()
    return Replayed(len(recorded.tokens), first_difference(recorded.tokens, drawn))


def first_difference(
    expected: Sequence[common_pb2.Token], found: Sequence[common_pb2.Token]
) -> int | None:
    """Return the index of the first token that is not the same; None where all are."""
    for index, (left, right) in enumerate(zip(expected, found, strict=False)):
        if any(getattr(left, name) != getattr(right, name) for name in _COMPARED):
            return index
    return None if len(expected) == len(found) else min(len(expected), len(found))


@dataclass
class _Asking:
    """The client's side of the call: the next run is asked for when the last one came."""

    recorded: Recorded
    _count: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def came(self, count: int) -> None:
        """Note how many tokens came so far."""
        self._count = count
        self._changed.set()

    async def messages(self) -> AsyncIterator[inference_pb2.GenerateRequest]:
        """Yield start and plan, and for each further run its change and its credit."""
        first, *others = self.recorded.runs
        yield inference_pb2.GenerateRequest(start=self._start(first))
        yield inference_pb2.GenerateRequest(plan=self._plan(first))
        end = first.count
        for number, run in enumerate(others, 1):
            await self._until(end)
            yield inference_pb2.GenerateRequest(update=_update(number, run.sampling))
            yield inference_pb2.GenerateRequest(credit=common_pb2.Credit(tokens=run.count))
            end += run.count
        await self._until(end)

    def _start(self, first: Run) -> inference_pb2.GenerationStart:
        return inference_pb2.GenerationStart(
            chat=common_pb2.ChatInput(messages=self.recorded.messages),
            sampling=first.sampling,
            expects_plan=True,
            plan_grace_ms=1000,
            initial_credit=first.count,
        )

    def _plan(self, first: Run) -> common_pb2.DecodingPlan:
        return common_pb2.DecodingPlan(
            source=common_pb2.PLAN_SOURCE_PINNED,
            sampling=first.sampling,
            seed=self.recorded.plan.seed,
            compute_path=self.recorded.plan.compute_path,
        )

    async def _until(self, count: int) -> None:
        while self._count < count:
            self._changed.clear()
            await self._changed.wait()


def _update(number: int, sampling: common_pb2.Sampling) -> common_pb2.ParameterUpdate:
    return common_pb2.ParameterUpdate(
        update_id=number,
        program=sampling.program,
        guard=sampling.guard,
        penalties=sampling.penalties,
    )
