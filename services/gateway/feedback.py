"""Feedback of users, models that can be asked, policies that decide: plain values."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from services.gateway.asking import DEFAULT_TENANT
from services.gateway.decoding import Mode


class Signal(enum.StrEnum):
    """How feedback came about."""

    EXPLICIT = "explicit"
    REGENERATE = "regenerate"
    ABANDON = "abandon"
    EDIT = "edit"
    VERIFIER = "verifier"


class FeedbackState(enum.StrEnum):
    """How far the learner is with one piece of feedback."""

    PENDING = "pending"
    APPLIED = "applied"


@dataclass(frozen=True, slots=True)
class Feedback:
    """One piece of feedback; `score` in [-1, 1]."""

    feedback_id: str
    decision_id: str
    score: float
    tenant: str = DEFAULT_TENANT
    signal: Signal = Signal.EXPLICIT
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a piece of feedback; `applied_version` 0 while pending."""

    state: FeedbackState
    applied_version: int = 0
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do, in the words of the contract: names of enum members."""

    programs: tuple[str, ...]
    guards: tuple[str, ...]
    compute_paths: tuple[str, ...]
    can_update: bool
    tells_entropy: bool


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model that can be asked for; `created_unix_s` 0: unknown, `capabilities` None: it
    does not say. `max_running` requests are decoded at once and `max_waiting` held; 0: unknown.
    """

    id: str
    context_length: int
    created_unix_s: int
    capabilities: Capabilities | None = None
    max_running: int = 0
    max_waiting: int = 0


@dataclass(frozen=True, slots=True)
class PolicyCard:
    """One stored version of the policy, without its parameters."""

    version: int
    kind: str
    created_unix_ms: int
    reason: str
    parent_version: int
    feedback_count: int
    live: bool


@dataclass(frozen=True, slots=True)
class PolicyList:
    """Stored versions, newest first, and the modes set by route."""

    policies: tuple[PolicyCard, ...]
    modes: dict[str, Mode] = field(default_factory=dict)
