"""Reads function calls out of an answer while it is written.

The grammar of `tools` leaves one spelling, so that a few states are enough:

    undecided --> text
    undecided --> head --> arguments --> tail --> head ...

What may still become a call is held back; `flush` gives it up as text.
"""

from __future__ import annotations

import enum
import re
import uuid
from dataclasses import dataclass, field

from services.gateway.tools import CALL_BEGIN, CALL_END

_HEAD = re.compile(r'\n?<tool_call>\n\{"name": "([^"]*)", "arguments": ')
_TAIL = f"}}\n{CALL_END}"


class _State(enum.Enum):
    UNDECIDED = enum.auto()
    TEXT = enum.auto()
    HEAD = enum.auto()
    ARGUMENTS = enum.auto()
    TAIL = enum.auto()


@dataclass(slots=True)
class Call:
    """One call, as far as it was read; `arguments` is JSON text."""

    index: int
    id: str
    name: str
    arguments: str = ""
    is_complete: bool = False


@dataclass(slots=True)
class Piece:
    """What some text brought: words of the answer, calls that began, pieces of arguments."""

    text: str = ""
    began: list[Call] = field(default_factory=list)
    arguments: dict[int, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.text or self.began or self.arguments)


class CallReader:
    """Follows one answer."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._state = _State.UNDECIDED
        self._held = ""
        self._depth = 0
        self._in_string = False
        self._is_escaped = False

    @property
    def has_called(self) -> bool:
        """True where the answer is calls and every one of them is whole."""
        return bool(self.calls) and all(call.is_complete for call in self.calls)

    def read(self, text: str) -> Piece:
        """Take more of the answer; return what of it is certain."""
        self._held += text
        piece = Piece()
        while self._advance(piece):
            pass
        return piece

    def flush(self) -> str:
        """Return text held back in vain, at the end of the answer."""
        held, self._held = self._held, ""
        return held if self._state is _State.UNDECIDED else ""

    def _advance(self, piece: Piece) -> bool:
        """Do what the state allows; tell whether another state goes on."""
        before = self._state
        if before is _State.UNDECIDED:
            self._decide()
        elif before is _State.TEXT:
            piece.text, self._held = piece.text + self._held, ""
        elif before is _State.HEAD:
            self._read_head(piece)
        elif before is _State.ARGUMENTS:
            self._read_arguments(piece)
        elif self._held.startswith(_TAIL):
            self.calls[-1].is_complete = True
            self._held = self._held[len(_TAIL) :]
            self._state = _State.HEAD
        return self._state is not before

    def _decide(self) -> None:
        if self._held.startswith(CALL_BEGIN):
            self._state = _State.HEAD
        elif not CALL_BEGIN.startswith(self._held):
            self._state = _State.TEXT

    def _read_head(self, piece: Piece) -> None:
        found = _HEAD.match(self._held)
        if found is None:
            return
        call = Call(len(self.calls), f"call_{uuid.uuid4().hex[:24]}", found[1])
        self.calls.append(call)
        piece.began.append(call)
        self._held = self._held[found.end() :]
        self._state = _State.ARGUMENTS

    def _read_arguments(self, piece: Piece) -> None:
        end = next((i + 1 for i, c in enumerate(self._held) if self._closes(c)), None)
        taken, self._held = self._held[:end], "" if end is None else self._held[end:]
        call = self.calls[-1]
        call.arguments += taken
        if taken:
            piece.arguments[call.index] = piece.arguments.get(call.index, "") + taken
        if end is not None:
            self._state = _State.TAIL

    def _closes(self, character: str) -> bool:
        """Follow JSON by one character; tell whether the object ends with it."""
        if self._in_string:
            self._in_string = self._is_escaped or character != '"'
            self._is_escaped = character == "\\" and not self._is_escaped
            return False
        self._in_string = character == '"'
        self._depth += (character in "{[") - (character in "}]")
        return self._depth == 0 and character == "}"
