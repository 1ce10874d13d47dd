"""What deciding adds to the time to first token: the same engine with and without a controller.

    python -m benchmarks.mesh.overhead              # beside the mesh of `make up`

More gateways are started in front of the same engine: one with nobody behind its addresses of
feature and controller, so that it decodes by its default and waits for no one; one that has
the controller only; and one whose feature room asks the encoder about every text, where that
of the mesh does without where a task is told at a glance. All of them and the engine itself are
asked once a round, in a new order each round, for a new text each time; what is added is
paired by round. One gateway is there twice: what the second adds to the first is the noise.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, AsyncExitStack

from benchmarks import machine
from benchmarks.mesh import doors, report
from benchmarks.spread import added, interleaved, median_interval, summary
from thermesh import rpc
from thermesh.testing import eventually, free_port

RESULT = report.RESULTS / "first-token-overhead.json"
PAGE_BEGIN, PAGE_END = "<!-- overhead: begin -->\n", "<!-- overhead: end -->\n"
BAR_MS = 2.0
TOKENS = 4
ENGINE, WITHOUT, AGAIN, WITH = "engine", "without", "again", "with"
CONTROLLER, ENCODED = "controller", "encoded"
NAMES = {
    ENGINE: "engine alone",
    WITHOUT: "gateway, no controller",
    AGAIN: "another of the same",
    CONTROLLER: "gateway and controller, no features",
    WITH: "gateway, feature and controller",
    ENCODED: "the same, the encoder asked every time",
}
PARTS = (
    ("deciding", WITHOUT, WITH),
    ("the controller's part of it", WITHOUT, CONTROLLER),
    ("the features' part of it", CONTROLLER, WITH),
    ("the encoder, where it is asked", WITH, ENCODED),
    ("gateway and deciding", ENGINE, WITH),
    ("another gateway of the same kind, which is noise", WITHOUT, AGAIN),
)
"""What is added, over which, under which."""


@contextlib.contextmanager
def running(room: str, port: int, **environment: str) -> Iterator[str]:
    """Run a room of our own; yield its gRPC address."""
    own = {f"THERMESH_{room.upper()}_PORT": str(port), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"services.{room}"],
            env={**os.environ, **own, **environment},
            stdout=log,
            stderr=log,
        )
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def gateway(inference: str, feature: str, controller: str) -> AbstractContextManager[str]:
    """Run a gateway before these neighbours; an empty address: nobody is there."""
    port = free_port()
    return running(
        "gateway",
        port,
        THERMESH_GATEWAY_GRPC_PORT=str(port),
        THERMESH_GATEWAY_HTTP_PORT=str(free_port()),
        THERMESH_INFERENCE_TARGET=inference,
        THERMESH_FEATURE_TARGET=feature or f"127.0.0.1:{free_port()}",
        THERMESH_CONTROLLER_TARGET=controller or f"127.0.0.1:{free_port()}",
    )


async def measure(options: argparse.Namespace) -> dict[str, object]:
    """Return the times to first token of every round, seconds."""
    async with AsyncExitStack() as stack:
        reads = stack.enter_context(running("feature", free_port(), THERMESH_FEATURE_SURE="1"))
        gateways = {
            WITHOUT: gateway(options.inference, "", ""),
            AGAIN: gateway(options.inference, "", ""),
            CONTROLLER: gateway(options.inference, "", options.controller),
            ENCODED: gateway(options.inference, reads, options.controller),
        }
        targets = {ENGINE: options.inference, WITH: options.gateway}
        targets |= {name: stack.enter_context(each) for name, each in gateways.items()}
        channels = {
            name: await stack.enter_async_context(rpc.connect(target))
            for name, target in {**targets, "reads": reads}.items()
        }
        for name, channel in channels.items():
            await eventually(lambda channel=channel: rpc.is_serving(channel), 60, name)
        before = machine.describe()
        seconds: dict[str, list[float]] = {name: [] for name in NAMES}
        for number, name in enumerate(interleaved(list(NAMES), options.rounds + options.warm_up)):
            ask = doors.generate if name == ENGINE else doors.converse
            stream = await ask(channels[name], number // len(NAMES), TOKENS)
            if number >= options.warm_up * len(NAMES):
                seconds[name].append(stream.first_token_seconds)
    return {"machine": before, "rounds": options.rounds, "first_token_seconds": seconds}


def table(result: dict[str, object]) -> str:
    """Return what was found beside the bar, as Markdown."""
    samples = result["first_token_seconds"]
    assert isinstance(samples, dict)
    lines = [
        "| time to first token, ms | median | quartiles | p95 | n |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, label in NAMES.items():
        figures = summary([1000 * each for each in samples[name]])
        lines.append(
            f"| {label} | {figures.median:.1f} | {figures.low:.1f} to {figures.high:.1f}"
            f" | {figures.p95:.1f} | {figures.count} |"
        )
    lines.append("")
    for what, over, under in PARTS:
        more = [1000 * each for each in added(samples[over], samples[under])]
        low, high = median_interval(more)
        met = "met" if summary(more).median <= BAR_MS else "**not met**"
        bar = f"; at most {BAR_MS:g} ms: {met}" if what == "deciding" else ""
        lines.append(
            f"Added by {what}: {summary(more).median:+.1f} ms, 95 % interval of the median"
            f" {low:+.1f} to {high:+.1f}{bar}.\n"
        )
    about = result["machine"]
    assert isinstance(about, dict)
    lines.append(f"{about['processor']}, {about['cores']} cores, commit `{about['commit']}`.")
    return "\n".join(lines) + "\n"


def publish(result: dict[str, object]) -> None:
    """Write the samples, and the table between the markers of docs/benchmarks.md."""
    RESULT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    before, _, rest = report.PAGE.read_text().partition(PAGE_BEGIN)
    _, _, after = rest.partition(PAGE_END)
    report.PAGE.write_text(f"{before}{PAGE_BEGIN}\n{table(result)}\n{PAGE_END}{after}")


def main() -> None:
    """Measure and print; with --publish write the page too."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.mesh.overhead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--gateway", default="127.0.0.1:50050", help="gRPC door of the gateway")
    made.add_argument("--inference", default="127.0.0.1:50053")
    made.add_argument("--controller", default="127.0.0.1:50052")
    made.add_argument("--rounds", type=int, default=100, help="times each is asked")
    made.add_argument("--publish", action="store_true", help="write docs/benchmarks.md too")
    made.add_argument("--warm-up", type=int, default=4, help="rounds that are not counted")
    options = made.parse_args()
    result = asyncio.run(measure(options))
    print(table(result))
    if options.publish:
        publish(result)


if __name__ == "__main__":
    main()
