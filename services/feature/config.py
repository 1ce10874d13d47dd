"""Settings of the feature service; telemetry has its own in `thermesh.telemetry`."""

from __future__ import annotations

from dataclasses import dataclass

from thermesh.settings import between, not_empty, setting

NO_ENCODER = "none"


@dataclass(frozen=True)
class Config:
    """What the service reads from the environment at start."""

    host: str = setting("THERMESH_HOST", "127.0.0.1", not_empty, "address to listen on")
    port: int = setting("THERMESH_FEATURE_PORT", 50051, between(0, 65535), "gRPC port")
    encoder: str = setting(
        "THERMESH_ENCODER",
        "all-minilm-l6-v2",
        not_empty,
        "packaged encoder or folder of one; none: lexical features only",
    )
    grace_seconds: float = setting(
        "THERMESH_GRACE_SECONDS", 10.0, between(0, 600), "how long open calls may end after SIGTERM"
    )
    redis_url: str = setting(
        "REDIS_URL", "redis://127.0.0.1:6379/0", not_empty, "Redis shared by all rooms"
    )
    budget_ms: float = setting(
        "THERMESH_FEATURE_BUDGET_MS", 40.0, between(1, 10_000), "longest wait for the encoder"
    )
    waiting_limit: int = setting(
        "THERMESH_FEATURE_QUEUE", 32, between(1, 10_000), "texts that may wait for the encoder"
    )
    encoder_share: float = setting(
        "THERMESH_FEATURE_ENCODER_SHARE",
        0.25,
        between(0.01, 1.0),
        "part of the time that the encoder may work for requests that say how long they wait",
    )
    sure: float = setting(
        "THERMESH_FEATURE_SURE",
        0.8,
        between(0.0, 1.0),
        "probability of a task at a glance beyond which requests that say how long they wait do"
        " without the encoder; 1: none does",
    )
    threads: int = setting(
        "THERMESH_FEATURE_THREADS", 1, between(1, 256), "cores one encoding may use"
    )
    cache_entries: int = setting(
        "THERMESH_FEATURE_CACHE_ENTRIES",
        4096,
        between(1, 10_000_000),
        "encodings, and sessions, kept in this process; about 1 KiB, and 2 KiB, each",
    )
    cache_ttl_seconds: int = setting(
        "THERMESH_FEATURE_CACHE_TTL_SECONDS", 3600, between(1, 31_536_000), "life of an encoding"
    )
    session_ttl_seconds: int = setting(
        "THERMESH_FEATURE_SESSION_TTL_SECONDS",
        1800,
        between(1, 31_536_000),
        "life of a session after its last turn",
    )
