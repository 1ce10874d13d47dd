"""What the gateway says to its neighbours: ExtractRequest, DecideRequest, GenerateRequest."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from services.gateway.asking import (
    Ask,
    Chat,
    Context,
    Embeddings,
    Features,
    Message,
    Prompt,
    Voice,
)
from services.gateway.decoding import Constraints, Plan, Update
from services.gateway.wire.constraints import constraint_to_wire
from services.gateway.wire.sampling import (
    constrained_guard_to_wire,
    enum_value,
    penalties_to_wire,
    plan_to_wire,
    program_to_wire,
    sampling_to_wire,
    task,
    task_value,
    update_to_wire,
)
from thermesh.v1 import common_pb2, controller_pb2, feature_pb2, inference_pb2


def context_to_wire(context: Context) -> common_pb2.RequestContext:
    """Write the context that travels on every hop."""
    return common_pb2.RequestContext(
        request_id=context.request_id,
        session_id=context.session_id,
        tenant=context.tenant,
        priority=enum_value(common_pb2.Priority, context.priority, "PRIORITY"),
        deadline_unix_ms=context.deadline_unix_ms,
        traceparent=context.traceparent,
    )


def voice_to_wire(voice: Voice | None) -> feature_pb2.VoiceSignal | None:
    """Write what was heard besides the words."""
    if voice is None:
        return None
    return feature_pb2.VoiceSignal(
        speech_duration_ms=voice.speech_duration_ms,
        recognition_confidence=voice.recognition_confidence,
    )


def extract_request(
    ask: Ask, encoder_wait_seconds: float | None = None
) -> feature_pb2.ExtractRequest:
    """Write what the feature service is to read."""
    wait = encoder_wait_seconds
    return feature_pb2.ExtractRequest(
        context=context_to_wire(ask.context),
        text=ask.newest_text,
        turn_count=ask.turn_count,
        voice=voice_to_wire(ask.voice),
        encoder_wait_us=None if wait is None else round(wait * 1e6),
    )


def features(message: feature_pb2.FeatureVector) -> Features:
    """Read a feature vector."""
    return Features(
        schema_version=message.schema_version,
        values=tuple(message.values),
        task=task(message.task),
        task_confidence=message.task_confidence,
        encoder_used=message.encoder_used,
    )


def features_to_wire(value: Features) -> feature_pb2.FeatureVector:
    """Write a feature vector."""
    return feature_pb2.FeatureVector(
        schema_version=value.schema_version,
        values=value.values,
        task=task_value(value.task),
        task_confidence=value.task_confidence,
        encoder_used=value.encoder_used,
    )


def constraints_to_wire(constraints: Constraints) -> controller_pb2.Constraints:
    """Write the user's own values; what the user left open stays absent."""
    message = controller_pb2.Constraints(
        temperature=constraints.temperature,
        guard=constrained_guard_to_wire(constraints),
        penalties=penalties_to_wire(constraints.penalties),
        logit_bias=dict(constraints.logit_bias),
        max_tokens=constraints.max_tokens,
        seed=constraints.seed,
        scenario=constraints.scenario,
        mode=enum_value(common_pb2.Mode, constraints.mode, "MODE"),
    )
    if constraints.program is not None:
        message.program.CopyFrom(program_to_wire(constraints.program))
    if constraints.temperature_range is not None:
        message.temperature_range.minimum = constraints.temperature_range.minimum
        message.temperature_range.maximum = constraints.temperature_range.maximum
    return message


def decide_request(ask: Ask, known: Features | None) -> controller_pb2.DecideRequest:
    """Write what the controller decides on; absent features mean neutral ones."""
    return controller_pb2.DecideRequest(
        context=context_to_wire(ask.context),
        features=features_to_wire(known) if known else None,
        constraints=constraints_to_wire(ask.constraints),
        model=ask.model,
        route=ask.route,
    )


def start_message(ask: Ask, initial: Plan, plan_grace_ms: int) -> inference_pb2.GenerateRequest:
    """Write the start: decode as `initial` says until the plan arrives."""
    start = inference_pb2.GenerationStart(
        context=context_to_wire(ask.context),
        model=ask.model,
        sampling=sampling_to_wire(initial.sampling),
        max_tokens=ask.constraints.max_tokens,
        stop=ask.stop,
        candidate_count=ask.candidate_count,
        seed=initial.seed,
        expects_plan=True,
        plan_grace_ms=plan_grace_ms,
        initial_credit=ask.initial_credit,
        constraint=constraint_to_wire(ask.constraint),
    )
    if isinstance(ask.input, Chat):
        start.chat.messages.extend(_message(turn) for turn in ask.input.messages)
    elif isinstance(ask.input, Prompt):
        start.prompt = ask.input.text
    else:
        start.tokens.token_ids.extend(ask.input.token_ids)
    return inference_pb2.GenerateRequest(start=start)


def plan_message(plan: Plan) -> inference_pb2.GenerateRequest:
    """Write the second message."""
    return inference_pb2.GenerateRequest(plan=plan_to_wire(plan))


def update_message(update: Update) -> inference_pb2.GenerateRequest:
    """Write a change of the running request."""
    return inference_pb2.GenerateRequest(update=update_to_wire(update))


def credit_message(tokens: int) -> inference_pb2.GenerateRequest:
    """Write the permission to send more tokens."""
    return inference_pb2.GenerateRequest(credit=common_pb2.Credit(tokens=tokens))


def cancel_message(kept_tokens: int) -> inference_pb2.GenerateRequest:
    """Write the end of the generation, of which so many tokens count."""
    cancel = inference_pb2.CancelGeneration(kept_tokens=kept_tokens)
    return inference_pb2.GenerateRequest(cancel=cancel)


def _message(turn: Message) -> common_pb2.ChatMessage:
    role = enum_value(common_pb2.Role, turn.role, "ROLE")
    return common_pb2.ChatMessage(role=role, content=turn.content)


def embed_request(context: Context, model: str, texts: Sequence[str]) -> feature_pb2.EmbedRequest:
    """Write texts for Embed."""
    return feature_pb2.EmbedRequest(context=context_to_wire(context), model=model, texts=texts)


def embeddings(message: feature_pb2.EmbedResponse) -> Embeddings:
    """Read vectors."""
    vectors = tuple(struct.pack(f"<{len(one.values)}f", *one.values) for one in message.embeddings)
    return Embeddings(message.model, vectors, message.token_count)
