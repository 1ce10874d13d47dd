"""Settings of `thermesh up`; the rooms read the same variables for themselves."""

from __future__ import annotations

from dataclasses import dataclass

from thermesh.settings import between, not_empty, setting

_port = between(0, 65535)


@dataclass(frozen=True)
class UpConfig:
    """What `thermesh up` starts, and where; port 0 is any free one."""

    host: str = setting("THERMESH_HOST", "127.0.0.1", not_empty, "address to listen on")
    gateway_http_port: int = setting(
        "THERMESH_GATEWAY_HTTP_PORT", 8080, _port, "port of REST, SSE and the page"
    )
    gateway_grpc_port: int = setting(
        "THERMESH_GATEWAY_GRPC_PORT", 50050, _port, "port of ChatService and FeedbackService"
    )
    tls_certificate: str = setting(
        "THERMESH_GATEWAY_TLS_CERT_FILE",
        "",
        doc="PEM chain that both doors of the gateway show; empty: plaintext",
    )
    feature_port: int = setting("THERMESH_FEATURE_PORT", 50051, _port, "port of FeatureService")
    controller_port: int = setting(
        "THERMESH_CONTROLLER_PORT", 50052, _port, "port of ControllerService"
    )
    inference_port: int = setting(
        "THERMESH_INFERENCE_PORT", 50053, _port, "port of InferenceService"
    )
    redis_port: int = setting(
        "THERMESH_REDIS_PORT", 0, _port, "port of the bundled redis-server; 0: any free one"
    )
    redis_url: str = setting(
        "REDIS_URL", "", doc="a Redis of yours; empty: `up` starts the bundled redis-server"
    )
    api_key: str = setting(
        "THERMESH_API_KEY",
        "",
        doc="key that `thermesh chat` sends, where the mesh asks for one",
    )
    metrics_port: int = setting(
        "THERMESH_METRICS_PORT",
        0,
        between(0, 65533),
        "Prometheus text of feature; controller and inference take the two ports after it; 0: off",
    )
    model: str = setting(
        "THERMESH_MODEL",
        "smollm2-135m-instruct",
        not_empty,
        "language model: packaged name, path, or hub name org/repo:file.gguf",
    )
    encoder: str = setting(
        "THERMESH_ENCODER",
        "all-minilm-l6-v2",
        not_empty,
        "encoder of feature: name or path; none: words alone",
    )
    start_seconds: float = setting(
        "THERMESH_START_SECONDS", 90.0, between(1, 3600), "longest start of one process"
    )
    grace_seconds: float = setting(
        "THERMESH_GRACE_SECONDS", 10.0, between(0, 600), "how long open calls may end after SIGTERM"
    )

    @property
    def scheme(self) -> str:
        """What the gateway's REST door speaks."""
        return "https" if self.tls_certificate else "http"


@dataclass(frozen=True)
class Folders:
    """Where things are kept; `thermesh.settings.state_dir` and `thermesh.models` read these."""

    state: str = setting(
        "THERMESH_STATE_DIR",
        "",
        doc="what survives restarts; empty: thermesh in the XDG state folder",
    )
    models: str = setting(
        "THERMESH_MODELS_DIR", "", doc="the model cache; empty: models in the state folder"
    )
