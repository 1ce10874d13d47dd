"""Between protobuf and values: the only place of the engine where both are in scope.

Reading raises InvalidArgument for what a value cannot express; values check ranges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from services.inference import events, request
from services.inference.sampling import constraint
from services.inference.sampling import settings as sampling
from services.inference.wire.programs import program, program_message
from thermesh.errors import InvalidArgument
from thermesh.features import TASKS
from thermesh.v1 import common_pb2, inference_pb2

_ROLES = {common_pb2.Role.Value(f"ROLE_{role.upper()}"): role for role in request.ROLES}
_SOURCES = {source: f"UPDATE_SOURCE_{source.name}" for source in request.Source}
_PLAN_SOURCES = {
    number: name.removeprefix("PLAN_SOURCE_").lower()
    for name, number in common_pb2.PlanSource.items()
}
_TASKS = dict(enumerate(TASKS, start=1))
FINISH_REASONS = {reason: f"FINISH_REASON_{reason.name}" for reason in events.FinishReason}


# From protobuf to values.


def start(message: inference_pb2.GenerationStart, traceparent: str) -> request.Start:
    """Read the first message of Generate; `traceparent` is the call's own."""
    kind = message.WhichOneof("input")
    return request.Start(
        context=context(message.context, "start.context", traceparent),
        model=message.model,
        chat=chat(message.chat, "start.chat.messages") if kind == "chat" else None,
        prompt=message.prompt if kind == "prompt" else None,
        token_ids=tuple(message.tokens.token_ids) if kind == "tokens" else None,
        sampling=_sampling(message.sampling, "start.sampling")
        if message.HasField("sampling")
        else None,
        max_tokens=message.max_tokens,
        stop=tuple(message.stop),
        candidate_count=message.candidate_count,
        seed=message.seed if message.HasField("seed") else None,
        expects_plan=message.expects_plan,
        plan_grace_ms=message.plan_grace_ms,
        initial_credit=message.initial_credit,
        ignore_end_of_sequence=message.ignore_end_of_sequence,
        constraint=_constraint(message),
    )


def context(message: common_pb2.RequestContext, path: str, traceparent: str) -> request.Context:
    """Read who asks."""
    number = message.priority or common_pb2.PRIORITY_STANDARD
    try:
        priority = request.Priority(number)
    except ValueError:
        names = ", ".join(f"PRIORITY_{priority.name}" for priority in request.Priority)
        field = f"{path}.priority"
        raise InvalidArgument(f"{field} must be one of {names}", field=field) from None
    return request.Context(
        request_id=message.request_id,
        session_id=message.session_id,
        tenant=message.tenant,
        priority=priority,
        deadline_unix_ms=message.deadline_unix_ms,
        traceparent=traceparent or message.traceparent,
    )


def chat(message: common_pb2.ChatInput, path: str) -> tuple[request.ChatTurn, ...]:
    """Read a conversation; refuse unknown roles."""
    turns = []
    for index, turn in enumerate(message.messages):
        role = _ROLES.get(turn.role)
        if role is None:
            field = f"{path}[{index}].role"
            allowed = "ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT"
            raise InvalidArgument(f"{field} must be one of {allowed}", field=field)
        turns.append(request.ChatTurn(role, turn.content))
    return tuple(turns)


def plan(message: common_pb2.DecodingPlan) -> request.Plan:
    """Read the controller's plan."""
    return request.Plan(
        sampling=_sampling(message.sampling, "plan.sampling"),
        seed=message.seed,
        decision_id=message.decision_id,
        policy_version=message.policy_version,
        source=_PLAN_SOURCES.get(message.source, ""),
        token_budget=message.token_budget,
        scenario=message.scenario,
        task=_TASKS.get(message.task, ""),
        is_pinned=message.source == common_pb2.PLAN_SOURCE_PINNED,
        compute_path=request.ComputePath.of(message.compute_path),
    )


def update(message: common_pb2.ParameterUpdate, source: request.Source) -> request.Update:
    """Read a change of a running request."""
    return request.Update(
        source=source,
        update_id=message.update_id,
        program=program(message.program, "program") if message.HasField("program") else None,
        guard=_guard(message.guard) if message.HasField("guard") else None,
        penalties=_penalties(message.penalties) if message.HasField("penalties") else None,
        token_budget=message.token_budget if message.HasField("token_budget") else None,
    )


def _constraint(message: inference_pb2.GenerationStart) -> constraint.OutputConstraint | None:
    if not message.HasField("constraint"):
        return None
    kind = message.constraint.WhichOneof("kind") or ""
    value = getattr(message.constraint, kind, "")
    if kind not in set(constraint.Kind):
        allowed, field = ", ".join(constraint.Kind), "start.constraint"
        raise InvalidArgument(f"{field} must be one of {allowed}", field=field)
    options = tuple(message.constraint.choice.options)
    text = value if isinstance(value, str) else ""
    return constraint.OutputConstraint(constraint.Kind(kind), text, options)


def _sampling(message: common_pb2.Sampling, path: str) -> sampling.Sampling:
    return sampling.Sampling(
        program=program(message.program, f"{path}.program"),
        guard=_guard(message.guard),
        penalties=_penalties(message.penalties),
        logit_bias=tuple(sorted(message.logit_bias.items())),
    )


def _guard(message: common_pb2.Guard) -> sampling.Guard:
    names = ("top_n_sigma", "min_p", "top_p", "top_k")
    return sampling.Guard(
        **{name: getattr(message, name) for name in names if message.HasField(name)}
    )


def _penalties(message: common_pb2.Penalties) -> sampling.Penalties:
    repetition = message.repetition or 1.0  # 0 is how proto3 spells "not set"
    return sampling.Penalties(repetition, message.presence, message.frequency)


# From values to protobuf.


def responses(
    happened: Sequence[events.Event], request_id: str, first_number: int
) -> Iterator[inference_pb2.GenerateResponse]:
    """Yield the messages for `happened`, numbered from `first_number`; tokens
    in a row share one.
    """
    number = first_number
    for is_token, group in groupby(happened, lambda event: isinstance(event, events.Token)):
        run = list(group)
        for message in [_tokens(run)] if is_token else map(_response, run):
            message.request_id = request_id
            message.sequence_number = number
            number += 1
            yield message


def accepted(prompt_tokens: int, model: str, request_id: str) -> inference_pb2.GenerateResponse:
    """Write the first message of a stream."""
    return inference_pb2.GenerateResponse(
        request_id=request_id,
        sequence_number=1,
        accepted=inference_pb2.GenerationAccepted(prompt_tokens=prompt_tokens, model=model),
    )


def _tokens(group: Iterable[events.Event]) -> inference_pb2.GenerateResponse:
    tokens = [_token(event) for event in group if isinstance(event, events.Token)]
    return inference_pb2.GenerateResponse(tokens=common_pb2.TokenChunk(tokens=tokens))


def _response(event: events.Event) -> inference_pb2.GenerateResponse:
    match event:
        case events.Applied():
            return inference_pb2.GenerateResponse(applied=_applied(event))
        case events.Rejected(update_id, field, message):
            rejected = common_pb2.UpdateRejected(update_id=update_id, field=field, message=message)
            return inference_pb2.GenerateResponse(rejected=rejected)
        case events.Ended():
            return inference_pb2.GenerateResponse(end=_end(event))
    raise TypeError(event)


def _token(token: events.Token) -> common_pb2.Token:
    return common_pb2.Token(
        index=token.index,
        token_id=token.token_id,
        text=token.text,
        temperature=token.temperature,
        entropy=token.entropy,
        log_probability=token.log_probability,
        model_log_probability=token.model_log_probability,
        revision=token.revision,
        step_time_us=token.step_time_us,
        candidates=[
            common_pb2.TokenCandidate(token_id=token_id, text=text, log_probability=score)
            for token_id, text, score in token.candidates
        ],
    )


def _applied(applied: events.Applied) -> common_pb2.ParametersApplied:
    return common_pb2.ParametersApplied(
        revision=applied.revision,
        token_index=applied.token_index,
        source=_SOURCES[applied.source],
        update_id=applied.update_id,
        sampling=sampling_message(applied.sampling),
    )


def sampling_message(value: sampling.Sampling) -> common_pb2.Sampling:
    """Write everything the sampler uses."""
    return common_pb2.Sampling(
        program=program_message(value.program),
        guard=common_pb2.Guard(
            top_n_sigma=value.guard.top_n_sigma,
            min_p=value.guard.min_p,
            top_p=value.guard.top_p,
            top_k=value.guard.top_k,
        ),
        penalties=common_pb2.Penalties(
            repetition=value.penalties.repetition,
            presence=value.penalties.presence,
            frequency=value.penalties.frequency,
        ),
        logit_bias=dict(value.logit_bias),
    )


def _end(ended: events.Ended) -> common_pb2.GenerationEnd:
    return common_pb2.GenerationEnd(
        finish_reason=FINISH_REASONS[ended.finish_reason],
        usage=usage(ended.usage),
        mean_temperature=ended.mean_temperature,
        mean_entropy=ended.mean_entropy,
        discarded_tokens=ended.discarded,
    )


def usage(value: events.Usage) -> common_pb2.Usage:
    """Write tokens and times."""
    return common_pb2.Usage(
        prompt_tokens=value.prompt_tokens,
        cached_prompt_tokens=value.cached_prompt_tokens,
        completion_tokens=value.completion_tokens,
        queue_time_us=value.queue_time_us,
        prefill_time_us=value.prefill_time_us,
        decode_time_us=value.decode_time_us,
    )


def load(value: events.Load) -> common_pb2.LoadReport:
    """Write how busy the engine is."""
    return common_pb2.LoadReport(
        running=value.running,
        waiting=value.waiting,
        kv_pages_used=value.kv_pages_used,
        kv_pages_total=value.kv_pages_total,
        open_streams=value.open_streams,
        step_time_us=value.step_time_us,
    )
