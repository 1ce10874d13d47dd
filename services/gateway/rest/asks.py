"""Request bodies to asks and feedback."""

from __future__ import annotations

from dataclasses import replace

from services.gateway.asking import (
    DEFAULT_TENANT,
    Ask,
    Chat,
    Context,
    Input,
    Priority,
    Prompt,
    TokenPrompt,
    new_request_id,
)
from services.gateway.decoding import (
    Constraints,
    DynatempProgram,
    EdtProgram,
    FixedProgram,
    Guard,
    Mode,
    Penalties,
    Program,
    ResidualProgram,
    TemperatureRange,
)
from services.gateway.feedback import Feedback, Signal
from services.gateway.rest import transcript
from services.gateway.rest.bodies import (
    ChatBody,
    CompletionBody,
    Decoding,
    DynatempBody,
    EdtBody,
    Extension,
    FeedbackBody,
    FixedBody,
    ResidualBody,
)
from thermesh.errors import InvalidArgument

CHAT_ROUTE = "/v1/chat/completions"
COMPLETION_ROUTE = "/v1/completions"
_RATINGS = {"up": 1.0, "down": -1.0}


def chat_ask(body: ChatBody, now_unix_ms: int, traceparent: str) -> Ask:
    """Return what a chat completion asks for."""
    use = body.tool_use
    wanted = body.response_format.constraint if body.response_format else None
    max_tokens = body.max_completion_tokens or body.max_tokens or 0
    candidates = (body.top_logprobs or 0) if body.logprobs else 0
    return Ask(
        context=context(body, now_unix_ms, traceparent),
        input=Chat(transcript.turns(body.messages, use)),
        route=CHAT_ROUTE,
        model=body.model or "",
        constraints=constraints(body, max_tokens),
        stop=tuple(body.stop),
        candidate_count=candidates,
        constraint=wanted if use is None else use.constraint(wanted),
    )


def completion_asks(body: CompletionBody, now_unix_ms: int, traceparent: str) -> list[Ask]:
    """Return what a text completion asks for, one ask a prompt."""
    ask = Ask(
        context=context(body, now_unix_ms, traceparent),
        input=_prompt(body.prompt[0]),
        route=COMPLETION_ROUTE,
        model=body.model or "",
        constraints=constraints(body, body.max_tokens or 0),
        stop=tuple(body.stop),
        candidate_count=body.logprobs or 0,
    )
    return [replace(ask, input=_prompt(prompt)) for prompt in body.prompt]


def feedback(body: FeedbackBody, idempotency_key: str) -> Feedback:
    """Return the feedback of a body; its id may come as a header.

    Raises InvalidArgument where there is no id, or two different ones.
    """
    if body.id and idempotency_key and body.id != idempotency_key:
        raise InvalidArgument("id and Idempotency-Key differ; send one", field="id")
    feedback_id = body.id or idempotency_key
    if not feedback_id:
        raise InvalidArgument("send an id, or the header Idempotency-Key", field="id")
    score = body.score if body.score is not None else _RATINGS[body.rating or "up"]
    return Feedback(
        feedback_id=feedback_id,
        decision_id=body.decision_id,
        score=score,
        tenant=body.tenant or DEFAULT_TENANT,
        signal=Signal(body.signal),
        comment=body.comment,
    )


def context(body: Decoding, now_unix_ms: int, traceparent: str) -> Context:
    """Return what travels with a request on every hop."""
    extension = body.thermesh or Extension()
    deadline_ms = extension.deadline_ms
    return Context(
        request_id=new_request_id(),
        session_id=extension.session_id or "",
        tenant=extension.tenant or DEFAULT_TENANT,
        priority=Priority(extension.priority) if extension.priority else None,
        deadline_unix_ms=now_unix_ms + deadline_ms if deadline_ms else 0,
        traceparent=traceparent,
    )


def constraints(body: Decoding, max_tokens: int) -> Constraints:
    """Return the values that the user set."""
    extension = body.thermesh or Extension()
    narrowed = extension.temperature_range
    return Constraints(
        temperature=body.temperature,
        guard=Guard(extension.top_n_sigma, body.min_p, body.top_p, body.top_k),
        penalties=Penalties(
            repetition=1.0 if body.repetition_penalty is None else body.repetition_penalty,
            presence=body.presence_penalty or 0.0,
            frequency=body.frequency_penalty or 0.0,
        ),
        logit_bias=body.logit_bias,
        max_tokens=max_tokens,
        seed=body.seed,
        scenario=extension.scenario or "",
        temperature_range=TemperatureRange(narrowed.minimum, narrowed.maximum)
        if narrowed
        else None,
        mode=Mode(extension.mode) if extension.mode else None,
        program=_program(extension.program),
    )


def _prompt(value: str | list[int]) -> Input:
    return Prompt(value) if isinstance(value, str) else TokenPrompt(tuple(value))


def _program(
    body: FixedBody | EdtBody | DynatempBody | ResidualBody | None,
) -> Program | None:
    if body is None:
        return None
    if isinstance(body, FixedBody):
        return FixedProgram(body.temperature)
    if isinstance(body, EdtBody):
        return EdtProgram(body.base_temperature, body.theta)
    if isinstance(body, DynatempBody):
        return DynatempProgram(body.temperature, body.range, body.exponent)
    return ResidualProgram(body.temperature, body.slope, body.centre, body.range)
