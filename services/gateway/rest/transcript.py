"""Messages of a request to the turns that a model reads.

Models know three roles. What tools add is written into them: the functions
into the system turn, calls into the assistant's, results into the user's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from services.gateway import tools
from services.gateway.asking import Message, Role
from services.gateway.rest.messages import MessageBody

_SYSTEM = ("system", "developer")


def turns(messages: Sequence[MessageBody], use: tools.ToolUse | None) -> tuple[Message, ...]:
    """Return the conversation; results of calls in a row share one turn."""
    told: list[Message] = []
    for is_result, group in groupby(messages, lambda message: message.role == "tool"):
        if is_result:
            results = [message.text for message in group]
            told.append(Message(Role.USER, tools.results_text(results)))
        else:
            told += [_turn(message) for message in group]
    return instructed(told, use)


def instructed(told: Sequence[Message], use: tools.ToolUse | None) -> tuple[Message, ...]:
    """Return the turns with the functions told of in the system's."""
    if use is None:
        return tuple(told)
    instructions = use.instructions()
    if told[0].role is not Role.SYSTEM:
        return (Message(Role.SYSTEM, instructions), *told)
    text = f"{told[0].content}\n\n{instructions}".lstrip()
    return (Message(Role.SYSTEM, text), *told[1:])


def _turn(message: MessageBody) -> Message:
    role = Role.SYSTEM if message.role in _SYSTEM else Role(message.role)
    called = [
        tools.call_text(call.function.name, call.function.arguments)
        for call in message.tool_calls or ()
    ]
    return Message(role, "\n".join(filter(None, [message.text, *called])))
