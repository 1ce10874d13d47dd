"""Messages of `thermesh.v1` to the values of `thermesh.events` and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from thermesh import events
from thermesh.errors import InvalidArgument
from thermesh.v1 import chat_pb2, common_pb2, controller_pb2

Messages = str | Sequence[Mapping[str, str]]


def event(response: chat_pb2.ConverseResponse) -> events.Event | None:
    """Return the event of a response; None for a kind this version does not know."""
    kind = response.WhichOneof("message")
    if kind == "accepted":
        accepted = response.accepted
        seconds = accepted.resume_grace_ms / 1000
        return events.Accepted(response.request_id, accepted.model, accepted.prompt_tokens, seconds)
    return _EVENTS[kind](getattr(response, kind)) if kind in _EVENTS else None


def chat_messages(messages: Messages) -> list[common_pb2.ChatMessage]:
    """Return the turns of a conversation; a text alone is one turn of the user.

    Raise InvalidArgument for a turn without role or content, or of an unknown role.
    """
    turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    return [_chat_message(turn, f"messages[{index}]") for index, turn in enumerate(turns)]


def constraints_message(options: events.Options) -> controller_pb2.Constraints:
    """Return the user's own values as a message."""
    return controller_pb2.Constraints(
        temperature=options.temperature,
        program=program_message(options.program),
        guard=guard_message(options.guard),
        penalties=penalties_message(options.penalties),
        logit_bias=options.logit_bias,
        max_tokens=options.max_tokens,
        seed=options.seed,
        scenario=options.scenario,
    )


def program_message(program: events.Program | None) -> common_pb2.TemperatureProgram | None:
    """Return a temperature program as a message; None for None."""
    if program is None:
        return None
    if isinstance(program, events.Fixed):
        fixed = common_pb2.FixedProgram(temperature=program.temperature)
        return common_pb2.TemperatureProgram(fixed=fixed)
    if isinstance(program, events.Edt):
        edt = common_pb2.EdtProgram(base_temperature=program.base_temperature, theta=program.theta)
        return common_pb2.TemperatureProgram(edt=edt)
    if isinstance(program, events.Dynatemp):
        dynatemp = common_pb2.DynatempProgram(
            temperature=program.temperature, range=program.range, exponent=program.exponent
        )
        return common_pb2.TemperatureProgram(dynatemp=dynatemp)
    residual = common_pb2.ResidualProgram(
        temperature=program.temperature,
        slope=program.slope,
        centre=program.centre,
        range=program.range,
    )
    return common_pb2.TemperatureProgram(residual=residual)


def guard_message(guard: events.Guard | None) -> common_pb2.Guard | None:
    """Return a guard as a message, None for None; members that are None stay absent."""
    if guard is None:
        return None
    return common_pb2.Guard(
        top_n_sigma=guard.top_n_sigma, min_p=guard.min_p, top_p=guard.top_p, top_k=guard.top_k
    )


def penalties_message(penalties: events.Penalties | None) -> common_pb2.Penalties | None:
    """Return penalties as a message; None for None."""
    if penalties is None:
        return None
    return common_pb2.Penalties(
        repetition=penalties.repetition,
        presence=penalties.presence,
        frequency=penalties.frequency,
    )


def word(enum: Any, number: int, prefix: str) -> str:
    """Return the name of an enum value without its prefix, in lower case.

    A value newer than this client is `unknown`.
    """
    if number not in enum.values():
        return "unknown"
    return str(enum.Name(number)).removeprefix(prefix).lower()


def number(enum: Any, name: str, prefix: str, field: str) -> Any:
    """Return the enum value of a word; raise InvalidArgument for an unknown one."""
    full = prefix + name.upper()
    if full not in enum.keys():  # noqa: SIM118  # an enum wrapper is no mapping
        allowed = ", ".join(key.removeprefix(prefix).lower() for key in enum.keys())  # noqa: SIM118
        raise InvalidArgument(f"{field}: expected one of {allowed}, got {name!r}", field=field)
    return enum.Value(full)


def _chat_message(turn: Mapping[str, str], field: str) -> common_pb2.ChatMessage:
    if not isinstance(turn.get("role"), str) or not isinstance(turn.get("content"), str):
        raise InvalidArgument(f"{field}: expected a text role and a text content", field=field)
    role = number(common_pb2.Role, turn["role"], "ROLE_", f"{field}.role")
    return common_pb2.ChatMessage(role=role, content=turn["content"])


def _program(program: common_pb2.TemperatureProgram) -> events.Program:
    kind = program.WhichOneof("kind")
    if kind == "edt":
        return events.Edt(program.edt.base_temperature, program.edt.theta)
    if kind == "dynatemp":
        dynatemp = program.dynatemp
        return events.Dynatemp(dynatemp.temperature, dynatemp.range, dynatemp.exponent)
    if kind == "residual":
        residual = program.residual
        return events.Residual(
            residual.temperature, residual.slope, residual.centre, residual.range
        )
    return events.Fixed(program.fixed.temperature)


def _sampling(sampling: common_pb2.Sampling) -> events.Sampling:
    guard, penalties = sampling.guard, sampling.penalties
    names = ("top_n_sigma", "min_p", "top_p", "top_k")
    return events.Sampling(
        _program(sampling.program),
        events.Guard(**{n: getattr(guard, n) for n in names if guard.HasField(n)}),
        events.Penalties(penalties.repetition or 1.0, penalties.presence, penalties.frequency),
        dict(sampling.logit_bias),
    )


def _plan(plan: common_pb2.DecodingPlan) -> events.Plan:
    return events.Plan(
        decision_id=plan.decision_id,
        policy_version=plan.policy_version,
        source=word(common_pb2.PlanSource, plan.source, "PLAN_SOURCE_"),
        sampling=_sampling(plan.sampling),
        token_budget=plan.token_budget,
        task=word(common_pb2.Task, plan.task, "TASK_"),
        scenario=plan.scenario,
        log_density=plan.log_density,
        explored=plan.explored,
        seed=plan.seed,
        policy_temperature=plan.policy_temperature,
        forecast=_forecast(plan.forecast) if plan.HasField("forecast") else None,
    )


def _forecast(forecast: common_pb2.Forecast) -> events.Forecast:
    names = [each.name for each in fields(events.Forecast)]
    return events.Forecast(**{name: getattr(forecast, name) for name in names})


def _token(token: common_pb2.Token) -> events.Token:
    return events.Token(
        index=token.index,
        token_id=token.token_id,
        text=token.text,
        temperature=token.temperature,
        entropy=token.entropy,
        log_probability=token.log_probability,
        model_log_probability=token.model_log_probability,
        revision=token.revision,
        step_time_us=token.step_time_us,
        candidates=tuple(
            events.Candidate(one.token_id, one.text, one.log_probability)
            for one in token.candidates
        ),
    )


def _tokens(chunk: common_pb2.TokenChunk) -> events.Tokens:
    return events.Tokens(tuple(map(_token, chunk.tokens)))


def _applied(applied: common_pb2.ParametersApplied) -> events.Applied:
    return events.Applied(
        revision=applied.revision,
        token_index=applied.token_index,
        source=word(common_pb2.UpdateSource, applied.source, "UPDATE_SOURCE_"),
        update_id=applied.update_id,
        sampling=_sampling(applied.sampling),
    )


def _rejected(rejected: common_pb2.UpdateRejected) -> events.Rejected:
    return events.Rejected(rejected.update_id, rejected.field, rejected.message)


def _end(end: chat_pb2.ConversationEnd) -> events.End:
    generation, usage = end.generation, end.generation.usage
    return events.End(
        finish_reason=word(common_pb2.FinishReason, generation.finish_reason, "FINISH_REASON_"),
        text=end.text,
        usage=events.Usage(
            usage.prompt_tokens,
            usage.cached_prompt_tokens,
            usage.completion_tokens,
            usage.queue_time_us,
            usage.prefill_time_us,
            usage.decode_time_us,
        ),
        mean_temperature=generation.mean_temperature,
        mean_entropy=generation.mean_entropy,
    )


_EVENTS: dict[str, Any] = {
    "plan": _plan,
    "tokens": _tokens,
    "applied": _applied,
    "rejected": _rejected,
    "end": _end,
}
