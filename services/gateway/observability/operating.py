"""What an operator reads of the neighbours: the engine's load and the candidate on trial."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How busy the engine is; `step_time_us` of its last step."""

    running: int
    waiting: int
    kv_pages_used: int
    kv_pages_total: int
    open_streams: int
    step_time_us: int


class Stage(enum.StrEnum):
    """How far a candidate is."""

    SHADOW = "shadow"
    CANARY = "canary"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class TrialStart:
    """What is to be tried; `share` in [0.01, 0.5] and `promotes` are for a canary."""

    version: int
    stage: Stage
    share: float
    promotes: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate beside the live policy; values are mean rewards, as in controller.proto."""

    number: int
    candidate_version: int
    stage: Stage
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

    @property
    def is_running(self) -> bool:
        """Whether the candidate still decides or is watched."""
        return self.stage in (Stage.SHADOW, Stage.CANARY)
