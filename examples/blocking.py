"""Ask without asyncio, and rate the answer: `python examples/blocking.py [HOST:PORT]`."""

import sys

from thermesh.client import Plan, Tokens
from thermesh.client.sync import MeshClient


def main() -> None:
    """Ask once; the answer survives a connection that breaks."""
    with MeshClient(*sys.argv[1:2]) as mesh:
        plan = None
        for event in mesh.converse("What is the capital of Japan?", resumable=True):
            if isinstance(event, Plan):
                plan = event
            elif isinstance(event, Tokens):
                print(event.text, end="", flush=True)
        if plan and plan.decision_id:
            receipt = mesh.feedback(plan.decision_id, 1.0)
            print(f"\nfeedback {receipt.feedback_id}: {receipt.state}")


main()
