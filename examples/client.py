"""Ask the mesh something and print the answer: `python examples/client.py [HOST:PORT]`."""

import asyncio
import sys

from thermesh.client import MeshClient, Plan, Tokens


async def main() -> None:
    """Ask once."""
    async with MeshClient(*sys.argv[1:2]) as mesh:
        async for event in mesh.converse("What is the capital of Japan?"):
            if isinstance(event, Plan):
                print(f"temperature {event.temperature:.2f}, chosen by {event.source}")
            elif isinstance(event, Tokens):
                print(event.text, end="", flush=True)
    print()


asyncio.run(main())
