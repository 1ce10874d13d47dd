"""Measure a running mesh: time to first token, tokens per second, what each hop adds.

    python -m benchmarks.mesh                       # the mesh of `make up`
    python -m benchmarks.mesh --rounds 30 --publish # and write docs/benchmarks.md

Every contender is asked once a round, in a new order each round, so that all
share the machine's moods; medians are reported with their spread. The samples
themselves go to benchmarks/results.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import httpx

from benchmarks import machine
from benchmarks.mesh import doors, report
from benchmarks.spread import decode_rate, interleaved
from thermesh import rpc
from thermesh.v1 import inference_pb2, inference_pb2_grpc

Ask = Callable[[int], Awaitable[doors.Stream]]

TOGETHER = 4


class Bench:
    """Samples of one run, and the open ways to the mesh that they are taken on."""

    def __init__(
        self, ways: dict[str, Ask], feature: grpc.aio.Channel, controller: grpc.aio.Channel
    ) -> None:
        self.ways = ways
        self._feature = feature
        self._controller = controller
        self.first_token: dict[str, list[float]] = defaultdict(list)
        self.calls: dict[str, list[float]] = defaultdict(list)
        self.rates: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    async def warm_up(self) -> None:
        """Ask everything once without noting it: connections, caches, thread pools."""
        for ask in self.ways.values():
            await ask(0)
        await doors.decide(self._controller, await doors.extract(self._feature, 0))

    async def one_stream(self, name: str, kind: int) -> None:
        """Ask one door for one answer."""
        stream = await self.ways[name](kind)
        self.first_token[name].append(stream.first_token_seconds)
        rate = decode_rate(stream.arrivals, stream.token_count)
        if rate is not None:
            self.rates["1"][name].append(rate)

    async def streams_together(self, name: str) -> None:
        """Ask one door for four answers at a time; the rate is that of all of them."""
        began = time.perf_counter()
        streams = await asyncio.gather(*(self.ways[name](kind) for kind in range(TOGETHER)))
        seconds = time.perf_counter() - began
        tokens = sum(stream.token_count for stream in streams)
        self.rates[str(TOGETHER)][name].append(tokens / seconds)

    async def one_decision(self, kind: int) -> None:
        """Ask feature and controller once each, while nothing decodes."""
        began = time.perf_counter()
        features = await doors.extract(self._feature, kind)
        extracted = time.perf_counter()
        await doors.decide(self._controller, features)
        self.calls["extract"].append(extracted - began)
        self.calls["decide"].append(time.perf_counter() - extracted)


@asynccontextmanager
async def opened(targets: doors.Targets, max_tokens: int) -> AsyncIterator[tuple[Bench, str]]:
    """Open every way to the mesh; yield the bench and the name of the served model."""
    async with AsyncExitStack() as stack:

        async def channel(target: str) -> grpc.aio.Channel:
            made = rpc.connect(target)
            stack.push_async_callback(made.close)
            return made

        inference, gateway = await channel(targets.inference), await channel(targets.gateway)
        feature, controller = await channel(targets.feature), await channel(targets.controller)
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=targets.rest, timeout=doors.STREAM_SECONDS)
        )
        stub = inference_pb2_grpc.InferenceServiceStub(inference)
        served = await stub.DescribeModel(inference_pb2.DescribeModelRequest(), timeout=10)
        ways: dict[str, Ask] = {
            "inference": lambda kind: doors.generate(inference, kind, max_tokens),
            "gateway_grpc": lambda kind: doors.converse(gateway, kind, max_tokens),
            "gateway_rest": lambda kind: doors.complete(client, served.model, kind, max_tokens),
        }
        yield Bench(ways, feature, controller), f"{served.model} ({served.weight_format})"


async def measure(options: argparse.Namespace) -> dict[str, object]:
    """Run every round and return the samples with what they were taken on."""
    before = machine.describe()
    targets = doors.Targets(
        options.rest, options.gateway, options.feature, options.controller, options.inference
    )
    async with opened(targets, options.max_tokens) as (bench, model):
        await bench.warm_up()
        for number, name in enumerate(interleaved(list(bench.ways), options.rounds)):
            kind = number // len(
                bench.ways
            )  # of a question: the same in a round, as doors are compared
            await bench.one_stream(name, kind)
            await bench.one_decision(kind)
            _progress("single streams", number + 1, options.rounds * len(bench.ways))
        rounds = max(1, options.rounds // TOGETHER)
        for number, name in enumerate(interleaved(["inference", "gateway_rest"], rounds)):
            await bench.streams_together(name)
            _progress("four streams", number + 1, rounds * 2)
    return {
        "machine": before,
        "model": model,
        "options": {"rounds": options.rounds, "max_tokens": options.max_tokens},
        "first_token_seconds": {name: bench.first_token[name] for name in bench.ways},
        "call_seconds": dict(bench.calls),
        "tokens_per_second": {streams: dict(by_door) for streams, by_door in bench.rates.items()},
    }


def parser() -> argparse.ArgumentParser:
    """Return the parser; the targets' defaults are those of `make up`."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.mesh", description=__doc__)
    made.add_argument("--rest", default="http://127.0.0.1:8080", help="URL of the gateway")
    made.add_argument("--gateway", default="127.0.0.1:50050", help="gRPC door of the gateway")
    made.add_argument("--feature", default="127.0.0.1:50051")
    made.add_argument("--controller", default="127.0.0.1:50052")
    made.add_argument("--inference", default="127.0.0.1:50053")
    made.add_argument("--rounds", type=int, default=20, help="times each door is asked")
    made.add_argument("--max-tokens", type=int, default=48, help="tokens of an answer, at most")
    made.add_argument("--publish", action="store_true", help="write docs/benchmarks.md too")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Measure, save, print; return the process's exit status."""
    options = parser().parse_args(arguments)
    result = asyncio.run(measure(options))
    path = report.save(result)
    print(report.tables(result))
    print(f"samples: {path}")
    if options.publish:
        report.publish(result, path)
    return 0


def _progress(stage: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{stage}: {done} of {total}", end="\n" if done == total else "", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
