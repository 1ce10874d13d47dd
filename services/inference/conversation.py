"""What the client of Generate may say, in which order."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from services.inference import wire
from services.inference.request import Plan, Source, Update
from thermesh.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    MeshError,
)

log = logging.getLogger(__name__)

START_TIMEOUT_SECONDS = 10.0


class Listener(Protocol):
    """What a client's words are handed to: a stream of our engine, or of one behind us."""

    def plan(self, plan: Plan) -> None:
        """Take the controller's plan."""
        ...

    def refuse_plan(self, error: InvalidArgument) -> None:
        """Take that it could not be read."""
        ...

    def update(self, update: Update) -> None:
        """Take a change."""
        ...

    def refuse_update(self, update_id: int, error: InvalidArgument) -> None:
        """Take that it could not be read."""
        ...

    def credit(self, tokens: int) -> None:
        """Take leave to send more."""
        ...

    def cancel(self, kept: int | None = None) -> None:
        """Take that it shall end; the client keeps so many tokens, None: all it got."""
        ...

    def fail(self, error: MeshError) -> None:
        """Take that the client broke the rules."""
        ...


async def first_message(messages: Any) -> Any:
    """Return the client's `start`; raise FailedPrecondition for anything else and
    DeadlineExceeded where nothing comes.
    """
    try:
        async with asyncio.timeout(START_TIMEOUT_SECONDS):
            first = await anext(messages, None)
    except TimeoutError:
        message = f"start did not come within {START_TIMEOUT_SECONDS:.0f} s"
        raise DeadlineExceeded(message, field="start") from None
    if first is None or first.WhichOneof("message") != "start":
        raise FailedPrecondition("start must come first", field="start")
    return first.start


async def listen(messages: Any, stream: Listener) -> None:
    """Hand on what the client says after `start` until it half-closes."""
    try:
        async for message in messages:
            _hand_on(message, stream)
    except MeshError as error:
        stream.fail(error)
    except Exception:
        log.exception("reading a stream failed")
        stream.fail(Internal("the stream could not be read"))


def _hand_on(message: Any, stream: Listener) -> None:
    match message.WhichOneof("message"):
        case "plan":
            _hand_on_plan(message.plan, stream)
        case "update":
            _hand_on_update(message.update, stream)
        case "credit":
            stream.credit(message.credit.tokens)
        case "cancel":
            is_told = message.cancel.HasField("kept_tokens")
            stream.cancel(message.cancel.kept_tokens if is_told else None)
        case "start":
            raise FailedPrecondition("start was sent before", field="start")
        case _:
            raise InvalidArgument("the message is empty or of an unknown kind", field="message")


def _hand_on_plan(message: Any, stream: Listener) -> None:
    try:
        plan = wire.plan(message)
    except InvalidArgument as error:
        stream.refuse_plan(error)
    else:
        stream.plan(plan)


def _hand_on_update(message: Any, stream: Listener) -> None:
    try:
        update = wire.update(message, Source.CLIENT)
    except InvalidArgument as error:
        stream.refuse_update(message.update_id, error)
    else:
        stream.update(update)
