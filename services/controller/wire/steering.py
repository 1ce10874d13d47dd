"""What the steering stream carries, to values and back."""

from __future__ import annotations

from services.controller.decisions.steering import Revision, Telemetry
from services.controller.wire import sampling
from thermesh.v1 import common_pb2, controller_pb2


def telemetries(report: controller_pb2.TelemetryReport) -> list[Telemetry]:
    """Read how the running requests of a replica go."""
    return [_telemetry(message) for message in report.sequences]


def welcome(report_every_tokens: int) -> controller_pb2.SteerResponse:
    """Write the answer to a replica's hello."""
    answer = controller_pb2.SteerWelcome(report_every_tokens=report_every_tokens)
    return controller_pb2.SteerResponse(welcome=answer)


def revision(value: Revision) -> controller_pb2.SteerResponse:
    """Write a change of one running request."""
    update = common_pb2.ParameterUpdate(update_id=value.update_id)
    if value.program is not None:
        update.program.CopyFrom(sampling.program_message(value.program))
    if value.penalties is not None:
        update.penalties.CopyFrom(sampling.penalties_message(value.penalties))
    if value.token_budget is not None:
        update.token_budget = value.token_budget
    change = controller_pb2.SequenceRevision(
        request_id=value.request_id, update=update, reason=value.reason
    )
    return controller_pb2.SteerResponse(revision=change)


def _telemetry(message: controller_pb2.SequenceTelemetry) -> Telemetry:
    return Telemetry(
        request_id=message.request_id,
        decision_id=message.decision_id,
        token_count=message.token_count,
        token_budget=message.token_budget,
        mean_entropy=message.mean_entropy,
        repetition=message.repetition,
        deadline_unix_ms=message.deadline_unix_ms,
        pinned=message.pinned,
        temperature=message.temperature,
    )
