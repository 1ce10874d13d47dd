"""A client that asks and reads until it is killed; see `gone`."""

from __future__ import annotations

import asyncio
import sys

from benchmarks.load import gone, ways
from thermesh import rpc


async def main(door: str, port: str, target: str, words: str) -> None:
    """Ask one long question by `door`."""
    question = gone.long_question(int(words))
    if door == "rest":
        await ways.Rest(int(port)).complete(question)
    else:
        await ways.converse(rpc.connect(target), question)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
