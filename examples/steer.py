"""Change the temperature in the middle of an answer: `python examples/steer.py [HOST:PORT]`.

The server acknowledges the update with the index of the first token drawn
under it; every token tells the temperature it was drawn at.
"""

import asyncio
import sys

from thermesh.client import Applied, MeshClient, Rejected, Tokens
from thermesh.events import Fixed

STORY = "Write a story about a lighthouse keeper and the sea."


async def main() -> None:
    """Raise the temperature after the first tokens."""
    async with MeshClient(*sys.argv[1:2]) as mesh:
        conversation = mesh.converse(STORY, temperature=0.3, max_tokens=60)
        is_steered = False
        async for event in conversation:
            if isinstance(event, Tokens):
                for token in event.tokens:
                    print(f"{token.index:3}  T {token.temperature:.2f}  {token.text!r}")
                if not is_steered:
                    is_steered = True
                    await conversation.update(program=Fixed(1.2))
            elif isinstance(event, Applied) and event.source == "client":
                print(f"---  update {event.update_id} holds from token {event.token_index} on")
            elif isinstance(event, Rejected):
                print(f"---  update {event.update_id} rejected: {event.field}: {event.message}")


asyncio.run(main())
