"""What a client asks for, whichever door it came by."""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass, field, replace

from services.gateway.constraint import OutputConstraint
from services.gateway.decoding import Constraints
from thermesh.keys import UNLIMITED, Allowance

DEFAULT_TENANT = "default"


class Priority(enum.StrEnum):
    """Who waits for the answer; a higher class is scheduled first."""

    BATCH = "batch"
    STANDARD = "standard"
    INTERACTIVE = "interactive"
    VOICE = "voice"


PLACES = {Priority.BATCH: 0.75, Priority.STANDARD: 0.9}
"""How much of the gateway, and of all that the engine holds, a class may fill; the others, all
of it. So a flood of what can wait is refused while a person is still let in."""


class Role(enum.StrEnum):
    """Who speaks in a chat message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Context:
    """What travels unchanged on every hop; `deadline_unix_ms` 0: none."""

    request_id: str
    session_id: str = ""
    tenant: str = DEFAULT_TENANT
    priority: Priority | None = None
    deadline_unix_ms: int = 0
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation that the model continues as the assistant."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Raw text, tokenised without a template."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """A prompt that is already tokenised for the model."""

    token_ids: tuple[int, ...]


Input = Chat | Prompt | TokenPrompt


@dataclass(frozen=True, slots=True)
class Voice:
    """What a voice front end heard besides the words."""

    speech_duration_ms: int = 0
    recognition_confidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for decoding."""

    context: Context
    input: Input
    route: str
    model: str = ""
    constraints: Constraints = field(default_factory=Constraints)
    stop: tuple[str, ...] = ()
    candidate_count: int = 0
    initial_credit: int = 0
    voice: Voice | None = None
    constraint: OutputConstraint | None = None
    allowance: Allowance = UNLIMITED

    @property
    def priority(self) -> Priority:
        """The class of the request."""
        return self.context.priority or Priority.STANDARD

    @property
    def share_of_places(self) -> float:
        """How much of the gateway may be taken when this is let in."""
        return PLACES.get(self.priority, 1.0)

    @property
    def newest_text(self) -> str:
        """The newest user turn, or the whole prompt; empty where only token ids came."""
        if isinstance(self.input, Prompt):
            return self.input.text
        if isinstance(self.input, TokenPrompt):
            return ""
        turns = [turn.content for turn in self.input.messages if turn.role is Role.USER]
        return turns[-1] if turns else self.input.messages[-1].content

    @property
    def turn_count(self) -> int:
        """How many messages the conversation has, the newest included."""
        return len(self.input.messages) if isinstance(self.input, Chat) else 1

    def with_input(self, text: str, voice: Voice | None) -> Ask:
        """Return this ask with `text` as the newest user turn, for words heard over time."""
        before = self.input.messages if isinstance(self.input, Chat) else ()
        heard = Chat((*before, Message(Role.USER, text)))
        return replace(self, input=heard, voice=voice or self.voice)


@dataclass(frozen=True, slots=True)
class Features:
    """The vector of a request as the feature service sent it; only relayed here."""

    schema_version: int
    values: tuple[float, ...]
    task: str = ""
    task_confidence: float = 0.0
    encoder_used: bool = True


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of texts, in their order, as little-endian float32; `token_count` of all."""

    model: str
    vectors: tuple[bytes, ...]
    token_count: int


def new_request_id() -> str:
    """Return a name for a request: `req-` and 32 hex digits."""
    return f"req-{uuid.uuid4().hex}"
