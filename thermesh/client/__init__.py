"""The clients of a mesh: asyncio here, the same without it in `thermesh.client.sync`.

    async with MeshClient("127.0.0.1:50050") as mesh:
        async for event in mesh.converse("What is the capital of France?"):
            if isinstance(event, Tokens):
                print(event.text, end="")

A temperature that is not given is decided by the controller and may change
from token to token. A conversation can be steered while it streams: `update`,
`credit`, `interrupt`, `cancel`. Errors are those of `thermesh.errors`.
Leaving the loop early, or the client's block, cancels the call.

What failed before its first event is tried again a few times (`retries`), a
stream that began never: its tokens may have been shown. With `resumable=True`
an answer outlives its connection instead, and goes on where it was.
"""

from __future__ import annotations

from thermesh.client.conversation import Conversation
from thermesh.client.mesh import MeshClient
from thermesh.client.patience import Patience
from thermesh.events import (
    Accepted,
    Applied,
    End,
    Event,
    Options,
    Plan,
    Rejected,
    Token,
    Tokens,
)
from thermesh.tls import Trust

__all__ = [
    "Accepted",
    "Applied",
    "Conversation",
    "End",
    "Event",
    "MeshClient",
    "Options",
    "Patience",
    "Plan",
    "Rejected",
    "Token",
    "Tokens",
    "Trust",
]
