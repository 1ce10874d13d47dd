"""Settings of the controller and its learner."""

from __future__ import annotations

from dataclasses import dataclass

from thermesh.settings import between, not_empty, one_of, setting


@dataclass(frozen=True)
class Config:
    """What the environment says; see each variable's documentation."""

    host: str = setting("THERMESH_HOST", "127.0.0.1", not_empty, "address to listen on")
    port: int = setting(
        "THERMESH_CONTROLLER_PORT", 50052, between(0, 65535), "gRPC port of the controller"
    )
    redis_url: str = setting(
        "REDIS_URL", "redis://127.0.0.1:6379/0", not_empty, "policy store and broker"
    )
    default_mode: str = setting(
        "THERMESH_POLICY_MODE",
        "apply",
        one_of("observe", "apply", "bypass"),
        "how far the policy is trusted on a route without a mode of its own",
    )
    report_every_tokens: int = setting(
        "THERMESH_REPORT_EVERY_TOKENS",
        16,
        between(1, 4096),
        "tokens of a request between two reports on the steering stream",
    )
    grace_seconds: float = setting(
        "THERMESH_GRACE_SECONDS", 10.0, between(0, 600), "how long open calls may end after SIGTERM"
    )


@dataclass(frozen=True)
class LearnerConfig:
    """Settings of the Celery worker."""

    redis_url: str = setting(
        "REDIS_URL", "redis://127.0.0.1:6379/0", not_empty, "policy store and broker"
    )
    sweep_seconds: float = setting(
        "THERMESH_LEARNER_SWEEP_SECONDS",
        5.0,
        between(0.05, 3600),
        "how often the learner looks for events without being told",
    )
