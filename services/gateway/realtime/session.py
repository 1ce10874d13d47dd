"""One client's session: obeys its events one by one, with one response at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from services.gateway.asking import Ask, Role, Voice
from services.gateway.callers import Caller
from services.gateway.conversations.conversation import Hearing
from services.gateway.pipeline import Pipeline
from services.gateway.realtime import bodies
from services.gateway.realtime.bodies import ResponseBody, SessionBody
from services.gateway.realtime.channel import Channel
from services.gateway.realtime.ears import Ears
from services.gateway.realtime.items import Item, Items, messages_of, new_id
from services.gateway.realtime.response import Response
from services.gateway.realtime.settings import (
    ask_of,
    format_of,
    manner_of,
    merged,
    on_credit,
    session_json,
    spoken_by,
)
from services.gateway.rest.problems import error_body, validation_body
from services.gateway.speech.links import SpeechSource
from thermesh.errors import FailedPrecondition, InvalidArgument, MeshError
from thermesh.telemetry import current_traceparent

Json = dict[str, Any]

WRONG = (MeshError, ValidationError)


@dataclass(frozen=True)
class Surroundings:
    """What every session needs of the gateway."""

    pipeline: Pipeline
    listen: Callable[[Ask], Hearing]
    speech: SpeechSource
    preempt: bool
    lead_tokens: int = 0


class Session:
    """The actor; `serve` it until the client is gone, then `close` it."""

    def __init__(
        self,
        around: Surroundings,
        channel: Channel,
        admit: Callable[[], Awaitable[Caller]],
        model: str,
    ) -> None:
        self.around = around
        self.channel = channel
        self.items = Items()
        self.response: Response | None = None
        self._under_way: set[Response] = set()
        modality: bodies.Modality = "audio" if around.speech.is_there else "text"
        self.settings = SessionBody(model=model, output_modalities=[modality])
        self.ears = Ears(self)
        self.turns = asyncio.Lock()
        """Held while an event of the client or the ears is obeyed; audio never waits for it."""
        self._admit = admit
        self._id = new_id("sess")

    async def serve(self, messages: AsyncIterator[str]) -> None:
        """Obey until the messages end; `close` it afterwards, however it ended."""
        await self.channel.tell("session.created", session=self._session())
        async for message in messages:
            await self.obey(message)

    async def close(self) -> None:
        """Leave nothing running."""
        # Decoding first: the end of the ears may wait for their process.
        await self._abandon_all()
        await self.ears.close()
        await self._abandon_all()

    async def _abandon_all(self) -> None:
        """End every response, also one that was begun in a pause and never told."""
        while self._under_way:
            await self._under_way.pop().abandon()

    async def obey(self, message: str) -> None:
        """Obey one event; what is wrong with it is told as an error that names it."""
        event_id = None
        try:
            read = _read(message)
            named = read.get("event_id")
            event_id = named if isinstance(named, str) else None
            _check_kind(read)
            event = bodies.EVENT.validate_python(read)
            if isinstance(event, bodies.AudioAppend):
                await self.ears.append(event.audio)
            else:
                async with self.turns:
                    await self._obey(event)
        except WRONG as error:
            await self.complain(error, event_id)

    async def complain(self, error: MeshError | ValidationError, event_id: str | None) -> None:
        """Tell the client what went wrong."""
        if isinstance(error, ValidationError):
            told = validation_body(error.errors())["error"]
        else:
            told = error_body(error)["error"]
        await self.channel.tell("error", error={**told, "event_id": event_id})

    async def respond(self, response: Response) -> None:
        """Release a response that is under way and make it the session's one."""
        self.response = response
        previous = self.items.last_id
        if response.manner.in_conversation:
            previous = self.items.add(response.item)
        response.release(previous)

    async def begin(
        self,
        wanted: ResponseBody,
        heard: Item | None = None,
        voice: Voice | None = None,
        hearing: Hearing | None = None,
    ) -> Response:
        """Start a response, not yet told; `heard` is a turn that is not among the items yet."""
        self.check_idle()
        if wanted.input is None:
            said = self.items.messages() + messages_of([heard] if heard else [])
        else:
            said = messages_of(map(_item, wanted.input))
        pipeline = self.around.pipeline
        now = pipeline.clock.unix_ms()
        ask = ask_of(self.settings, wanted, said, now, current_traceparent())
        ask = (await self._admit()).sign(spoken_by(ask, voice) if voice else ask)
        ask = on_credit(ask, self.settings, wanted, self.around.lead_tokens)
        manner = manner_of(self.settings, wanted)
        if manner.is_spoken:
            await self.ears.speech()
        response = Response(
            pipeline,
            ask,
            manner,
            self.channel,
            speech_of=self.ears.speech,
            hearing=hearing,
        )
        self._under_way = {one for one in self._under_way if not one.is_over}
        self._under_way.add(response)
        response.start()
        return response

    def check_idle(self) -> None:
        """Raise FailedPrecondition while a response is being told."""
        if self.response and not self.response.is_over:
            raise FailedPrecondition(
                f"response {self.response.response_id} is not over; cancel it or wait for it",
                reason="CONVERSATION_ALREADY_HAS_ACTIVE_RESPONSE",
            )

    async def say(self, item: Item, previous_item_id: str | None = None) -> None:
        """Add an item and tell the client."""
        previous = self.items.add(item, previous_item_id)
        told = {"previous_item_id": previous, "item": item.body()}
        await self.channel.tell("conversation.item.added", **told)
        await self.channel.tell("conversation.item.done", **told)

    async def _obey(self, event: bodies.Event) -> None:  # one line an event
        if isinstance(event, bodies.SessionUpdate):
            await self._update(event.session)
        elif isinstance(event, bodies.ItemCreate):
            await self.say(_item(event.item), event.previous_item_id)
        elif isinstance(event, bodies.ItemDelete):
            await self._delete(event.item_id)
        elif isinstance(event, bodies.ItemRetrieve):
            item = self.items.get(event.item_id)
            await self.channel.tell("conversation.item.retrieved", item=item.body())
        elif isinstance(event, bodies.ItemTruncate):
            await self._truncate(event)
        elif isinstance(event, bodies.ResponseCreate):
            await self.respond(await self.begin(event.response))
        elif isinstance(event, bodies.ResponseCancel):
            await self._cancel(event.response_id)
        elif isinstance(event, bodies.AudioCommit):
            await self.ears.commit()
        else:
            await self.ears.clear()

    async def _update(self, patch: Json) -> None:
        before = format_of(self.settings)
        try:
            wanted = merged(self.settings, patch)
        except ValidationError as error:
            found = [{**one, "loc": ("", "session", *one["loc"])} for one in error.errors()]
            told = validation_body(found)["error"]
            raise InvalidArgument(
                told["message"], field=told["param"] or "", reason=told["code"].upper()
            ) from None
        if wanted.output_modalities == ["audio"] and not self.around.speech.is_there:
            raise FailedPrecondition(
                "this server has no voice; output_modalities must be ['text']",
                field="session.output_modalities",
                reason="NO_VOICE",
            )
        self.settings = wanted
        if format_of(wanted) != before:
            await self.ears.listen()
        await self.channel.tell("session.updated", session=self._session())

    async def _delete(self, item_id: str) -> None:
        await self._end_of(item_id)
        self.items.delete(item_id)
        await self.channel.tell("conversation.item.deleted", item_id=item_id)

    async def _truncate(self, event: bodies.ItemTruncate) -> None:
        item = self.items.get(event.item_id)
        if item.role is not Role.ASSISTANT or item.timeline is None or not item.is_speech:
            raise InvalidArgument("only spoken answers can be truncated", field="item_id")
        if event.content_index != 0:
            raise InvalidArgument("content_index must be 0", field="content_index")
        await self._end_of(event.item_id)
        item.text = item.timeline.heard(event.audio_end_ms).rstrip()
        await self.tell_truncated(item, event.audio_end_ms)

    async def _end_of(self, item_id: str) -> None:
        """Stop the response that is still writing this item."""
        response = self.response
        if response and not response.is_over and response.item.item_id == item_id:
            await response.cancel("client_cancelled")
            await response.wait()

    async def tell_truncated(self, item: Item, audio_end_ms: int) -> None:
        """Tell that an answer was cut to what was heard."""
        told = {"item_id": item.item_id, "content_index": 0, "audio_end_ms": audio_end_ms}
        await self.channel.tell("conversation.item.truncated", **told)

    async def _cancel(self, response_id: str | None) -> None:
        response = self.response
        is_other = response and response_id not in {None, response.response_id}
        if response is None or response.is_over or is_other:
            raise FailedPrecondition(
                "there is no such response to cancel", reason="RESPONSE_CANCEL_NOT_ACTIVE"
            )
        await response.cancel("client_cancelled")

    def _session(self) -> Json:
        return session_json(self.settings, self._id)


def _item(body: bodies.ItemBody) -> Item:
    return Item(body.id or new_id("item"), Role(body.role), body.text)


def _read(message: str) -> Json:
    try:
        read = json.loads(message)
    except (ValueError, RecursionError):
        raise InvalidArgument("the event is not valid JSON", reason="INVALID_JSON") from None
    if not isinstance(read, dict):
        raise InvalidArgument("an event is a JSON object", reason="INVALID_JSON")
    return read


def _check_kind(read: Json) -> None:
    kind = read.get("type")
    if kind not in bodies.KINDS:
        named = ", ".join(bodies.KINDS)
        raise InvalidArgument(f"type must be one of {named}", field="type", reason="UNKNOWN_EVENT")
