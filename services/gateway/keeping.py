"""What may go wrong with whatever the gateway keeps in Redis."""

from __future__ import annotations


class StoreAway(Exception):
    """The store did not answer in time, or not at all."""
