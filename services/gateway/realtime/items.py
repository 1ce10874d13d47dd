"""The conversation of a session: its items in order, bounded."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from services.gateway.asking import Message, Role
from services.gateway.realtime.timeline import Timeline
from thermesh.errors import AlreadyExists, NotFound

MAX_ITEMS = 512
"""The oldest item goes when another comes; the API calls it truncation `auto`."""

Json = dict[str, Any]

_TYPES = {Role.USER: "input_text", Role.SYSTEM: "input_text", Role.ASSISTANT: "output_text"}


@dataclass
class Item:
    """A message; `is_speech`: it was spoken, so that its text is a transcript."""

    item_id: str
    role: Role
    text: str
    is_speech: bool = False
    status: str = "completed"
    timeline: Timeline | None = None

    def body(self) -> Json:
        """Return the item as the API writes it."""
        if self.is_speech:
            kind = "input_audio" if self.role is Role.USER else "output_audio"
            part = {"type": kind, "transcript": self.text}
        else:
            part = {"type": _TYPES[self.role], "text": self.text}
        return {
            "id": self.item_id,
            "object": "realtime.item",
            "type": "message",
            "status": self.status,
            "role": self.role.value,
            "content": [part] if self.text or self.status == "completed" else [],
        }


class Items:
    """The items of one session."""

    def __init__(self) -> None:
        self._items: list[Item] = []

    @property
    def last_id(self) -> str | None:
        """The id of the newest item."""
        return self._items[-1].item_id if self._items else None

    def add(self, item: Item, previous_item_id: str | None = None) -> str | None:
        """Add an item after another (None: last, `root`: first); return the id before it.

        Raises AlreadyExists where the id is taken, NotFound for an unknown other.
        """
        if any(known.item_id == item.item_id for known in self._items):
            raise AlreadyExists(f"there is an item {item.item_id}", field="item.id")
        if previous_item_id is None:
            place = len(self._items)
        elif previous_item_id == "root":
            place = 0
        else:
            place = self._index(previous_item_id, "previous_item_id") + 1
        self._items.insert(place, item)
        previous = self._items[place - 1].item_id if place else None
        if len(self._items) > MAX_ITEMS:
            del self._items[0]
        return previous

    def get(self, item_id: str) -> Item:
        """Return an item; raise NotFound."""
        return self._items[self._index(item_id, "item_id")]

    def delete(self, item_id: str) -> None:
        """Remove an item; raise NotFound."""
        del self._items[self._index(item_id, "item_id")]

    def messages(self) -> tuple[Message, ...]:
        """Return what the model is to read, in order; silence is left out."""
        return messages_of(self._items)

    def _index(self, item_id: str, field: str) -> int:
        for index, item in enumerate(self._items):
            if item.item_id == item_id:
                return index
        raise NotFound(f"there is no item {item_id}", field=field, reason="ITEM_NOT_FOUND")


def messages_of(items: Iterable[Item]) -> tuple[Message, ...]:
    """Return the messages of items that say something."""
    return tuple(Message(item.role, item.text) for item in items if item.text)


def new_id(prefix: str) -> str:
    """Return a name: `prefix`, an underscore and 24 hex digits."""
    return f"{prefix}_{uuid.uuid4().hex[:24]}"
