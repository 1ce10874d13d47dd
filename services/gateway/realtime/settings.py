"""A session's settings, and what a response asks of the mesh under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.gateway import limits
from services.gateway.asking import Ask, Chat, Message, Priority, Role, Voice
from services.gateway.realtime.bodies import ResponseBody, SessionBody
from services.gateway.rest import asks
from services.gateway.rest.bodies import Decoding
from services.gateway.speech.links import Format
from thermesh.errors import FailedPrecondition, InvalidArgument

ROUTE = "/v1/realtime"
AUDIO = "audio"

Json = dict[str, Any]


@dataclass(frozen=True)
class Manner:
    """How an answer is given."""

    modality: str
    kind: str = "audio/pcm"
    voice: str = "alloy"
    speed: float = 1.0
    max_output_tokens: int | str = "inf"
    telemetry: bool = False
    in_conversation: bool = True
    metadata: Mapping[str, str] | None = None

    @property
    def is_spoken(self) -> bool:
        """Whether the answer is spoken."""
        return self.modality == AUDIO


def merged(settings: SessionBody, patch: Mapping[str, Any]) -> SessionBody:
    """Return the settings with `patch`; raise ValidationError, or InvalidArgument for the model."""
    named = patch.get("model")
    if named and settings.model and named != settings.model:
        raise InvalidArgument(
            "the model of a session cannot be changed; open another", field="session.model"
        )
    return SessionBody.model_validate(_merged(settings.model_dump(), patch))


def session_json(settings: SessionBody, session_id: str) -> Json:
    """Return the effective settings as the API writes them."""
    return {"id": session_id, "object": "realtime.session", **settings.model_dump()}


def format_of(settings: SessionBody) -> Format:
    """Return how the ears are to listen."""
    heard = settings.audio.input
    if heard.turn_detection is None:
        return Format(heard.format.type, silence_ms=None)
    detection = heard.turn_detection
    return Format(
        heard.format.type,
        detection.threshold,
        detection.silence_duration_ms,
        detection.prefix_padding_ms,
    )


def manner_of(settings: SessionBody, wanted: ResponseBody) -> Manner:
    """Return how a response is given: as it says itself, else as its session says."""
    usual = settings.audio.output
    own = wanted.audio.output if wanted.audio else None
    extension = wanted.thermesh or settings.thermesh
    return Manner(
        modality=(wanted.output_modalities or settings.output_modalities)[0],
        kind=(own.format if own and own.format else usual.format).type,
        voice=(own.voice if own and own.voice else usual.voice),
        speed=usual.speed,
        max_output_tokens=wanted.max_output_tokens or settings.max_output_tokens,
        telemetry=bool(extension and extension.telemetry),
        in_conversation=wanted.conversation == "auto",
        metadata=wanted.metadata,
    )


def ask_of(
    settings: SessionBody,
    wanted: ResponseBody,
    messages: Sequence[Message],
    now_unix_ms: int,
    traceparent: str,
) -> Ask:
    """Return what a response asks for; raise MeshError where that cannot be."""
    instructions = settings.instructions if wanted.instructions is None else wanted.instructions
    opening = (Message(Role.SYSTEM, instructions),) if instructions else ()
    if not messages:
        raise FailedPrecondition("there is nothing to answer yet: create an item first")
    body = Decoding(temperature=wanted.temperature, thermesh=wanted.thermesh or settings.thermesh)
    manner = manner_of(settings, wanted)
    most = manner.max_output_tokens
    context = asks.context(body, now_unix_ms, traceparent)
    if manner.is_spoken and context.priority is None:
        context = replace(context, priority=Priority.VOICE)
    ask = Ask(
        context=context,
        input=Chat((*opening, *messages)),
        route=ROUTE,
        model=settings.model,
        constraints=asks.constraints(body, most if isinstance(most, int) else 0),
    )
    limits.check_ask(ask)
    return ask


def on_credit(ask: Ask, settings: SessionBody, wanted: ResponseBody, tokens: int) -> Ask:
    """Return `ask` with credit of so many tokens where a user who speaks stops the answer.

    Where nobody can, it is decoded as fast as it goes: there is nothing to save, and
    the next turn need not wait for the end of the speech.
    """
    detection = settings.audio.input.turn_detection
    may_be_stopped = detection is not None and detection.interrupt_response
    if not (may_be_stopped and manner_of(settings, wanted).is_spoken):
        return ask
    return replace(ask, initial_credit=tokens)


def spoken_by(ask: Ask, voice: Voice) -> Ask:
    """Return `ask` with what was heard besides its words."""
    return replace(ask, voice=voice)


def _merged(base: Json, patch: Mapping[str, Any]) -> Json:
    whole = dict(base)
    for name, value in patch.items():
        known = whole.get(name)
        both = isinstance(known, dict) and isinstance(value, Mapping)
        whole[name] = _merged(known, value) if both else value  # type: ignore[arg-type]  # both dicts
    return whole
