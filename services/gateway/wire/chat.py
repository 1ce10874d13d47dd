"""The native door: ConverseRequest in, ConverseResponse out."""

from __future__ import annotations

from collections.abc import AsyncIterator

from services.gateway.asking import (
    DEFAULT_TENANT,
    Ask,
    Chat,
    Context,
    Message,
    Priority,
    Role,
    Voice,
    new_request_id,
)
from services.gateway.conversations.conversation import (
    Append,
    BadUpdate,
    Cancel,
    Credit,
    Interrupt,
    Resume,
    Said,
    Start,
)
from services.gateway.decoding import Constraints, Mode, Program, TemperatureRange, Update
from services.gateway.events import Accepted, Applied, Ended, Event, PlanDecided, Tokens, Waited
from services.gateway.wire.constraints import constraint
from services.gateway.wire.events import (
    applied_to_wire,
    ended_to_wire,
    rejected_to_wire,
    write_tokens,
)
from services.gateway.wire.sampling import (
    enum_member,
    guard,
    penalties,
    plan_to_wire,
    program,
    update,
)
from thermesh.errors import InvalidArgument
from thermesh.v1 import chat_pb2, common_pb2, controller_pb2, feature_pb2

ROUTE = "/thermesh.v1.ChatService/Converse"


async def said(
    requests: AsyncIterator[chat_pb2.ConverseRequest],
    call_deadline_unix_ms: int,
    traceparent: str,
) -> AsyncIterator[Said]:
    """Read what a client says; raise InvalidArgument for a start that is not valid.

    `call_deadline_unix_ms` is that of the gRPC call, 0 where it has none.
    """
    async for message in requests:
        yield _said(message, call_deadline_unix_ms, traceparent)


def response(event: Event, request_id: str, number: int, text: str) -> chat_pb2.ConverseResponse:
    """Write an event; `text` is that of the answer so far, used by the end."""
    message = chat_pb2.ConverseResponse(request_id=request_id, sequence_number=number)
    if isinstance(event, Tokens):
        write_tokens(event, message.tokens)
    elif isinstance(event, PlanDecided):
        message.plan.CopyFrom(plan_to_wire(event.plan))
    elif isinstance(event, Applied):
        message.applied.CopyFrom(applied_to_wire(event))
    elif isinstance(event, Accepted):
        message.accepted.model = event.model
        message.accepted.prompt_tokens = event.prompt_tokens
        message.accepted.resume_grace_ms = round(event.resume_seconds * 1000)
    elif isinstance(event, Ended):
        message.end.generation.CopyFrom(ended_to_wire(event))
        message.end.text = text
    elif isinstance(event, Waited):
        message.heartbeat.SetInParent()
    else:
        message.rejected.CopyFrom(rejected_to_wire(event))
    return message


def context(
    message: common_pb2.RequestContext,
    call_deadline_unix_ms: int,
    traceparent: str,
) -> Context:
    """Read a context, filling in what the client left to us."""
    deadlines = [d for d in (message.deadline_unix_ms, call_deadline_unix_ms) if d]
    return Context(
        request_id=message.request_id or new_request_id(),
        session_id=message.session_id,
        tenant=message.tenant or DEFAULT_TENANT,
        priority=enum_member(Priority, common_pb2.Priority, message.priority, "PRIORITY"),
        deadline_unix_ms=min(deadlines) if deadlines else 0,
        traceparent=traceparent or message.traceparent,
    )


def constraints(message: controller_pb2.Constraints) -> Constraints:
    """Read the user's own values; raise InvalidArgument where a program has no kind."""
    return Constraints(
        temperature=message.temperature if message.HasField("temperature") else None,
        guard=guard(message.guard),
        penalties=penalties(message.penalties),
        logit_bias=dict(message.logit_bias),
        max_tokens=message.max_tokens,
        seed=message.seed if message.HasField("seed") else None,
        scenario=message.scenario,
        temperature_range=_range(message),
        mode=enum_member(Mode, common_pb2.Mode, message.mode, "MODE"),
        program=_program(message),
    )


def _said(
    message: chat_pb2.ConverseRequest,
    call_deadline_unix_ms: int,
    traceparent: str,
) -> Said:
    kind = message.WhichOneof("message")
    if kind == "start":
        return _start(message.start, call_deadline_unix_ms, traceparent)
    if kind == "append":
        append = message.append
        return Append(append.text, append.is_final, _voice(append))
    return _steering(message, kind)


def _start(start: chat_pb2.ConverseStart, deadline: int, traceparent: str) -> Start:
    seconds = start.resume_grace_ms / 1000
    return Start(_ask(start, deadline, traceparent), start.awaiting_input, seconds)


def _steering(message: chat_pb2.ConverseRequest, kind: str | None) -> Said:
    if kind == "resume":
        resume = message.resume
        return Resume(resume.request_id, resume.last_sequence_number, resume.tenant)
    if kind == "update":
        return _update(message.update)
    if kind == "credit":
        return Credit(message.credit.tokens)
    if kind == "interrupt":
        return Interrupt(message.interrupt.heard_tokens)
    if kind == "cancel":
        return Cancel()
    raise InvalidArgument(
        "message must set one of start, resume, append, update, credit, interrupt, cancel",
        field="message",
    )


def _ask(start: chat_pb2.ConverseStart, deadline: int, traceparent: str) -> Ask:
    return Ask(
        context=context(start.context, deadline, traceparent),
        input=Chat(tuple(_message(i, turn) for i, turn in enumerate(start.messages))),
        route=ROUTE,
        model=start.model,
        constraints=constraints(start.constraints),
        stop=tuple(start.stop),
        candidate_count=start.candidate_count,
        initial_credit=start.initial_credit,
        voice=_voice(start),
        constraint=constraint(start.constraint) if start.HasField("constraint") else None,
    )


def _message(index: int, turn: common_pb2.ChatMessage) -> Message:
    role = enum_member(Role, common_pb2.Role, turn.role, "ROLE")
    if role is None:
        raise InvalidArgument(
            f"messages[{index}].role must be one of ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT",
            field=f"messages[{index}].role",
        )
    return Message(role, turn.content)


def _voice(message: chat_pb2.ConverseStart | chat_pb2.AppendInput) -> Voice | None:
    if not message.HasField("voice"):
        return None
    heard: feature_pb2.VoiceSignal = message.voice
    return Voice(heard.speech_duration_ms, heard.recognition_confidence)


def _update(message: common_pb2.ParameterUpdate) -> Update | BadUpdate:
    try:
        return update(message)
    except InvalidArgument as error:
        return BadUpdate(message.update_id, error)


def _program(message: controller_pb2.Constraints) -> Program | None:
    if not message.HasField("program"):
        return None
    return program(message.program, "constraints.program")


def _range(message: controller_pb2.Constraints) -> TemperatureRange | None:
    if not message.HasField("temperature_range"):
        return None
    return TemperatureRange(message.temperature_range.minimum, message.temperature_range.maximum)
