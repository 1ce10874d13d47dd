"""Measure spoken turns: end of utterance to first audio, and barge-in to last token.

    python -m benchmarks.voice                 # rooms of `make up`, two gateways of its own
    python -m benchmarks.voice --publish       # and write docs/benchmarks-voice.md
    python -m benchmarks.voice --rounds 0 --publish --questions-of FILE
                                               # barge-in alone; the rest of an earlier result

espeak-ng speaks the questions, in real time, into the WebSocket; the stack
hears, answers and speaks. Two gateways in front of the same rooms take turns:
one begins to answer in the speaker's first pause, one (the baseline) only when
the turn is over. Barge-ins are made at the first and at one that decodes as fast
as it goes, however far ahead of speech. Needs the extra `voice`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import httpx

from benchmarks import machine
from benchmarks.voice.page import table
from benchmarks.voice.talking import ask, interrupt, spoken, talking
from thermesh.testing import eventually, free_port

ATTEMPTS = 2
QUESTIONS = (
    "What is the capital of France?",
    "How are you today?",
    "What is your name?",
    "Where do penguins live?",
    "Who wrote the song?",
)
STORY = "Tell me a very long story about the sea and the old man."
INTERRUPTION = "Stop now please, that is enough."
ON_CREDIT, FREE = "barge-in", "barge-in, decoded as fast as it goes"
RESULTS = machine.ROOT / "benchmarks" / "results"
PAGE = machine.ROOT / "docs" / "benchmarks-voice.md"


@contextlib.contextmanager
def gateway(preempt: bool, lead: int | None = None) -> Iterator[str]:
    """A gateway in front of the rooms that the environment names; the URL of its door.

    `lead` is how many tokens it lets be decoded ahead of speech; None: as many as usual.
    """
    http = free_port()
    environment = (
        os.environ
        | {
            "THERMESH_GATEWAY_HTTP_PORT": str(http),
            "THERMESH_GATEWAY_GRPC_PORT": str(free_port()),
            "THERMESH_VOICE_PREEMPT": str(preempt),
        }
        | ({} if lead is None else {"THERMESH_VOICE_LEAD_TOKENS": str(lead)})
    )
    process = subprocess.Popen([sys.executable, "-m", "services.gateway"], env=environment)
    try:
        yield f"127.0.0.1:{http}"
    finally:
        process.terminate()
        process.wait(20)


async def ready(host: str) -> bool:
    """Whether the gateway and its rooms are ready."""
    try:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://{host}/readyz")).status_code == 200
    except httpx.HTTPError:
        return False


async def measure(rounds: int, barge_ins: int) -> dict[str, dict[str, list[float]]]:
    """Return samples by way and figure; ways take turns, in a new order each round."""
    samples: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    questions = [spoken(text) for text in QUESTIONS]
    async with contextlib.AsyncExitStack() as stack:
        talks = {}
        ways = {"begun in the pause": (True, None), "begun at the end": (False, None)}
        for name, options in (ways | {FREE: (True, 0)}).items():
            host = stack.enter_context(gateway(*options))
            await eventually(lambda host=host: ready(host), 60, "a gateway")
            talks[name] = f"ws://{host}/v1/realtime"
        for number in range(-1, rounds) if rounds else ():
            order = list(ways) if number % 2 else list(reversed(ways))
            for name in order:
                async with talking(talks[name]) as talk:
                    limit = {"type": "realtime", "max_output_tokens": 24}
                    update = {"type": "session.update", "session": limit}
                    await talk.socket.send(json.dumps(update))
                    figures = await ask(talk, bytes(9600) + questions[number % len(questions)])
                if number >= 0:
                    _note(samples[name], figures)
        story, interruption = spoken(STORY), spoken(INTERRUPTION)
        barge_in_ways = {ON_CREDIT: talks["begun in the pause"], FREE: talks[FREE]}
        for _ in range(ATTEMPTS * barge_ins):
            for name, url in barge_in_ways.items():
                if len(samples[name]["heard tokens"]) == barge_ins:
                    continue
                # An answer that happened to be short is over before it can be interrupted.
                async with talking(url) as talk:
                    _note(samples[name], await interrupt(talk, story, interruption))
    return samples


def _note(into: dict[str, list[float]], figures: dict[str, float]) -> None:
    for figure, value in figures.items():
        into[figure].append(round(float(value), 3))


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--barge-ins", type=int, default=5)
    parser.add_argument("--questions-of", help="result whose questions stand for those not asked")
    parser.add_argument("--publish", action="store_true", help="write the page in docs")
    options = parser.parse_args()
    where = machine.describe()
    samples = asyncio.run(measure(options.rounds, options.barge_ins))
    name = f"voice-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{where['commit']}.json"
    result: dict[str, Any] = {"file": name, "machine": where, "samples": samples}
    if options.questions_of:
        earlier = json.loads((RESULTS / options.questions_of).read_text())["samples"]
        asked = {way: earlier[way] for way in earlier if way.startswith("begun")}
        result |= {"questions_of": options.questions_of, "samples": asked | samples}
    print(table(result))
    if options.publish:
        (RESULTS / name).write_text(json.dumps(result, indent=1) + "\n")
        PAGE.write_text(table(result))


if __name__ == "__main__":
    main()
