"""What the operator's routes answer, as the OpenAPI page shows it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from services.gateway.observability.operating import Trial
from services.gateway.rest.documents import Document, PolicyDocument


class StreamDocument(Document):
    """One request under way; `temperature` is the mean so far, null before the first token."""

    request_id: str
    route: str
    tenant: str
    task: str
    source: str
    policy_version: int
    token_count: int
    temperature: float | None
    seconds: float


class EngineDocument(Document):
    """How busy the engine is; `step_time_us` of its last step."""

    running: int
    waiting: int
    kv_pages_used: int
    kv_pages_total: int
    open_streams: int
    step_time_us: int


class TrialDocument(Document):
    """A candidate beside the live policy; values are mean rewards centred on their task's mean."""

    number: int
    candidate_version: int
    stage: Literal["shadow", "canary", "promoted", "rolled_back", "stopped"]
    is_running: bool
    share: float
    promotes: bool
    began_unix_ms: int
    live_count: int
    candidate_count: int
    live_value: float
    candidate_value: float
    candidate_lower: float
    candidate_upper: float
    agreement: float
    is_better: bool


class ModesDocument(Document):
    """The modes set by route."""

    modes: dict[str, str]


class FeedbackMinuteDocument(Document):
    """Feedback taken in one minute since the Unix epoch."""

    minute: int
    praised: int
    blamed: int
    signals: dict[str, int]


class CellDocument(Document):
    """One task in one minute since the Unix epoch: answers by bin of temperature."""

    minute: int
    task: str
    counts: list[int]
    median: float
    is_odd: bool


class HeatMapDocument(Document):
    """Temperatures of the last `minutes` by task; `rule` says what is odd."""

    minutes: int
    bins: int
    bin_width: float
    rule: str
    cells: list[CellDocument]


class OverviewDocument(Document):
    """What an operator sees; what cannot be asked now is null."""

    now_unix_ms: int
    peers: dict[str, Literal["serving", "away"]]
    open_requests: int
    streams: list[StreamDocument]
    engine: EngineDocument | None
    policies: list[PolicyDocument] | None
    modes: dict[str, str] | None
    trial: TrialDocument | None
    feedback: list[FeedbackMinuteDocument]
    heat_map: HeatMapDocument


def trial(value: Trial) -> TrialDocument:
    """Return a trial as it is shown."""
    return TrialDocument(is_running=value.is_running, **asdict(value))
