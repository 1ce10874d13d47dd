"""Row 11: answers held to random JSON schemas, by the real engine through the gateway.

The schemas are those that genson infers from random documents of Hypothesis; texts,
lists and numbers get bounds, so that every answer has an end. Each prompt is
answered with its schema and, for as many tokens, without; both decode rates are
those of the engine's own account.
"""

from __future__ import annotations

import json
import string
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import jsonschema
from genson import SchemaBuilder
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from benchmarks.load import house, ways
from benchmarks.load.figures import Figure, Json, Rounds
from benchmarks.spread import quantile
from thermesh.v1 import chat_pb2, chat_pb2_grpc, common_pb2, controller_pb2

COUNT, PER_ROUND = 200, 40
ROUNDS = COUNT // PER_ROUND
MOST_TOKENS = 700
SCHEMA_CHARACTERS = range(250, 1200)
"""Shorter ones have answers of a few tokens, which tell no rate."""

_NAMES = st.text(string.ascii_lowercase, min_size=2, max_size=7)
_LEAVES = (
    st.none() | st.booleans() | st.integers(-999, 999) | st.floats(-1e3, 1e3) | st.text(max_size=9)
)
_DOCUMENTS = st.dictionaries(
    _NAMES,
    st.recursive(
        _LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
        max_leaves=8,
    ),
    min_size=1,
    max_size=5,
)


class Bench:
    """An open mesh around the real engine."""

    def __init__(self, doors: ways.Doors) -> None:
        self._stub = chat_pb2_grpc.ChatServiceStub(doors.gateway)
        self._schemas = schemas(COUNT)

    async def round(self, number: int) -> Json:
        """Answer the next schemas, each with and without constraint."""
        first = number * PER_ROUND % COUNT
        found: Json = {"valid": 0, "count": 0, "failures": [], "constrained": [], "free": []}
        for schema in self._schemas[first : first + PER_ROUND]:
            end = await self._answer(schema, MOST_TOKENS, constrained=True)
            problem = _problem(schema, end.text)
            found["count"] += 1
            found["valid"] += not problem
            if problem:
                found["failures"].append({"schema": schema, "text": end.text, "why": problem})
            usage = end.generation.usage
            if usage.completion_tokens < 16:
                continue  # too short to tell a rate
            free = await self._answer(schema, usage.completion_tokens, constrained=False)
            found["constrained"].append(_per_token_us(usage))
            found["free"].append(_per_token_us(free.generation.usage))
        return found

    async def _answer(self, schema: Json, most: int, *, constrained: bool) -> Any:
        text = json.dumps(schema)
        content = f"Write one JSON record, as short as you can, that fits this schema:\n{text}"
        user = common_pb2.ChatMessage(role=common_pb2.ROLE_USER, content=content)
        held = common_pb2.OutputConstraint(json_schema=text) if constrained else None
        start = chat_pb2.ConverseStart(
            messages=[user],
            constraint=held,
            constraints=controller_pb2.Constraints(max_tokens=most, temperature=0.7, seed=7),
        )
        call = self._stub.Converse(_once(chat_pb2.ConverseRequest(start=start)), timeout=60)
        try:
            async for response in call:
                if response.WhichOneof("message") == "end":
                    return response.end
        finally:
            call.cancel()
        raise AssertionError("the answer had no end")


def schemas(count: int) -> list[Json]:
    """Return distinct schemas, the same in every run."""
    found: dict[str, Json] = {}

    @settings(
        max_examples=40 * count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(_DOCUMENTS)
    def collect(document: Json) -> None:
        if len(found) >= count:
            return
        builder = SchemaBuilder(schema_uri=None)
        builder.add_object(document)
        schema = bounded(builder.to_schema())
        if len(text := json.dumps(schema, sort_keys=True)) in SCHEMA_CHARACTERS:
            found.setdefault(text, schema)

    collect()
    return list(found.values())[:count]


def bounded(schema: Json) -> Json:
    """Return a schema whose texts, lists and numbers end, and whose objects have no further
    members.
    """
    kinds = schema.get("type", ())
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    more: Json = {}
    if "string" in kinds:
        more["maxLength"] = 24
    if kinds & {"integer", "number"}:
        more |= {"minimum": -1000, "maximum": 1000}
    if "number" in kinds:
        more["multipleOf"] = 0.25
    if "array" in kinds:
        # genson tells nothing of what a list holds that was empty
        more |= {"maxItems": 4, "items": {"type": "boolean"}}
    if "object" in kinds:
        more["additionalProperties"] = False
        names = schema.get("properties", {})
        more["properties"] = {name: bounded(each) for name, each in names.items()}
    if isinstance(schema.get("items"), dict):
        more["items"] = bounded(schema["items"])
    if "anyOf" in schema:
        more["anyOf"] = [bounded(each) for each in schema["anyOf"]]
    return schema | more


def _problem(schema: Json, text: str) -> str:
    try:
        jsonschema.validate(json.loads(text), schema)
    except (ValueError, jsonschema.ValidationError) as error:
        return str(error).splitlines()[0][:200]
    return ""


def _per_token_us(usage: common_pb2.Usage) -> float:
    return round(usage.decode_time_us / max(1, usage.completion_tokens - 1), 1)


async def _once(message: object) -> AsyncIterator[object]:
    yield message


@asynccontextmanager
async def opened() -> AsyncIterator[Bench]:
    """Run the mesh with the real engine."""
    async with house.opened(None) as mesh, ways.opened(mesh) as doors:
        await ways.converse(doors.gateway, ways.Question(8))
        yield Bench(doors)


def figures(rounds: Rounds) -> list[Figure]:
    """Judge validity, and how much slower a token is."""
    count, valid = (sum(each[name] for each in rounds) for name in ("count", "valid"))
    ratios = list(_ratios(rounds))
    slower = quantile(ratios, 0.5) - 1.0
    low, high = quantile(ratios, 0.25) - 1.0, quantile(ratios, 0.75) - 1.0
    return [
        (f"valid of {count} random schemas", "100 %", f"{valid} of {count}", valid == count),
        (
            "slower decode with a schema, median of pairs",
            "<= 10 %",
            f"{slower:+.1%} (quartiles {low:+.1%} to {high:+.1%}, n = {len(ratios)})",
            slower <= 0.1,
        ),
    ]


def _ratios(rounds: Rounds) -> Iterator[float]:
    for each in rounds:
        for held, free in zip(each["constrained"], each["free"], strict=True):
            yield held / free
