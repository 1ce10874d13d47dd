"""Settings of the gateway."""

from __future__ import annotations

from dataclasses import dataclass

from thermesh.settings import between, not_empty, setting


@dataclass(frozen=True)
class Config:
    """Where the gateway listens, whom it asks, and how much it takes on."""

    host: str = setting("THERMESH_HOST", "127.0.0.1", not_empty, "address to listen on")
    http_port: int = setting("THERMESH_GATEWAY_HTTP_PORT", 8080, between(0, 65535), "REST port")
    grpc_port: int = setting("THERMESH_GATEWAY_GRPC_PORT", 50050, between(0, 65535), "gRPC port")
    tls_certificate: str = setting(
        "THERMESH_GATEWAY_TLS_CERT_FILE",
        "",
        doc="PEM chain that both doors of the gateway show; empty: plaintext",
    )
    tls_key: str = setting("THERMESH_GATEWAY_TLS_KEY_FILE", "", doc="PEM key of that certificate")
    feature_target: str = setting(
        "THERMESH_FEATURE_TARGET", "127.0.0.1:50051", not_empty, "gRPC target of feature"
    )
    controller_target: str = setting(
        "THERMESH_CONTROLLER_TARGET", "127.0.0.1:50052", not_empty, "gRPC target of controller"
    )
    inference_target: str = setting(
        "THERMESH_INFERENCE_TARGET", "127.0.0.1:50053", not_empty, "gRPC target of inference"
    )
    # The budgets run while the prompt is prefilled, so that generous ones cost
    # no time; what bounds the first token's wait is the plan grace alone. Tight
    # ones turn a busy core into fallbacks that nothing can be learned from.
    extract_budget_ms: int = setting(
        "THERMESH_GATEWAY_EXTRACT_BUDGET_MS", 100, between(1, 10_000), "budget of Extract"
    )
    decide_budget_ms: int = setting(
        "THERMESH_GATEWAY_DECIDE_BUDGET_MS", 200, between(1, 10_000), "budget of Decide"
    )
    plan_grace_ms: int = setting(
        "THERMESH_GATEWAY_PLAN_GRACE_MS",
        40,
        between(1, 1000),
        "longest wait of a first token for its plan, after prefill",
    )
    call_timeout_s: float = setting(
        "THERMESH_GATEWAY_CALL_TIMEOUT_S",
        3.0,
        between(0.1, 60),
        "timeout of feedback, model and policy calls",
    )
    embed_timeout_s: float = setting(
        "THERMESH_GATEWAY_EMBED_TIMEOUT_S", 30.0, between(0.1, 600), "timeout of embeddings"
    )
    meeting_s: float = setting(
        "THERMESH_GATEWAY_MEETING_S",
        10.0,
        between(0, 600),
        "how long after its start a gateway waits for feature and controller before it is ready"
        " without them",
    )
    max_stream_s: float = setting(
        "THERMESH_GATEWAY_MAX_STREAM_S", 600.0, between(1, 86_400), "longest answer, seconds"
    )
    max_listening_s: float = setting(
        "THERMESH_GATEWAY_MAX_LISTENING_S",
        120.0,
        between(1, 3600),
        "longest wait for the complete input of a Converse call",
    )
    resume_grace_s: float = setting(
        "THERMESH_GATEWAY_RESUME_GRACE_S",
        10.0,
        between(0, 600),
        "longest that a Converse turn may ask to outlive its connection; 0: none can be resumed",
    )
    resume_events: int = setting(
        "THERMESH_GATEWAY_RESUME_EVENTS",
        512,
        between(16, 65_536),
        "messages of a resumable turn kept after they were sent, and as many made ahead",
    )
    max_resumable: int = setting(
        "THERMESH_GATEWAY_MAX_RESUMABLE", 128, between(1, 100_000), "resumable turns kept at once"
    )
    max_requests: int = setting(
        "THERMESH_GATEWAY_MAX_REQUESTS", 256, between(1, 100_000), "requests at once"
    )
    max_per_tenant: int = setting(
        "THERMESH_GATEWAY_MAX_REQUESTS_PER_TENANT",
        256,
        between(1, 100_000),
        "requests at once of one tenant",
    )
    max_sessions: int = setting(
        "THERMESH_GATEWAY_MAX_SESSIONS", 256, between(1, 100_000), "realtime sessions at once"
    )
    max_body_bytes: int = setting(
        "THERMESH_GATEWAY_MAX_BODY_BYTES",
        1024 * 1024,
        between(1024, 64 * 1024 * 1024),
        "longest request body, and longest event of a realtime session",
    )
    ping_s: float = setting(
        "THERMESH_GATEWAY_PING_S",
        10.0,
        between(0.05, 300),
        "silence after which SSE sends a ping and Converse a heartbeat",
    )
    redis_url: str = setting(
        "REDIS_URL", "redis://127.0.0.1:6379/0", not_empty, "keys, limits and kept responses"
    )
    require_keys: bool = setting(
        "THERMESH_REQUIRE_KEYS", False, doc="refuse requests without a key (`thermesh keys create`)"
    )
    response_ttl_s: int = setting(
        "THERMESH_GATEWAY_RESPONSE_TTL_S",
        86_400,
        between(1, 31_536_000),
        "how long a response of /v1/responses can be read and continued",
    )
    response_bytes: int = setting(
        "THERMESH_GATEWAY_RESPONSE_BYTES",
        1024 * 1024,
        between(1024, 64 * 1024 * 1024),
        "longest response that is kept, with the conversation before it",
    )
    tenant_response_bytes: int = setting(
        "THERMESH_GATEWAY_TENANT_RESPONSE_BYTES",
        64 * 1024 * 1024,
        between(1024, 2**40),
        "kept responses of one tenant together; the oldest go first",
    )
    replicas: int = setting(
        "THERMESH_GATEWAY_REPLICAS",
        1,
        between(1, 10_000),
        "gateways that share the limits, each of which counts its part while Redis is away",
    )
    requests_per_minute: int = setting(
        "THERMESH_TENANT_REQUESTS_PER_MINUTE",
        0,
        between(0, 10**9),
        "of a tenant without limits of its own; 0: no bound",
    )
    tokens_per_minute: int = setting(
        "THERMESH_TENANT_TOKENS_PER_MINUTE",
        0,
        between(0, 10**9),
        "of a tenant without limits of its own; 0: no bound",
    )
    grace_s: float = setting(
        "THERMESH_GRACE_SECONDS", 10.0, between(0, 600), "how long open calls may end after SIGTERM"
    )
