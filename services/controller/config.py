"""Settings of the controller and its learner."""

from __future__ import annotations

from dataclasses import dataclass

from thermesh.settings import between, not_empty, one_of, setting


@dataclass(frozen=True)
class PolicyConfig:
    """What a new installation begins with; stored versions bring their own."""

    policy_kind: str = setting(
        "THERMESH_POLICY_KIND",
        "thompson",
        one_of("thompson", "linucb", "squashed_gaussian"),
        "kind of policy of a new installation",
    )
    grid_temperatures: str = setting(
        "THERMESH_GRID_TEMPERATURES",
        "0.1,0.25,0.4,0.6,0.8,1.0,1.2",
        not_empty,
        "temperatures of the grid of actions, between commas",
    )
    grid_guards: str = setting(
        "THERMESH_GRID_GUARDS",
        "top_n_sigma",
        not_empty,
        "guards of the grid: top_n_sigma, min_p, none",
    )
    grid_cap_shares: str = setting(
        "THERMESH_GRID_CAP_SHARES",
        "1.0",
        not_empty,
        "token caps of the grid, as shares of the scenario's cap",
    )
    grid_paths: str = setting(
        "THERMESH_GRID_PATHS",
        "standard",
        not_empty,
        "compute paths of the grid: light, standard, heavy",
    )
    statics: str = setting(
        "THERMESH_POLICY_STATICS",
        "",
        doc="result of `thermesh bench policy tune` that a new installation's grid policy takes"
        " its static parameters from; empty: the packaged ones",
    )


@dataclass(frozen=True)
class Config(PolicyConfig):
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
    token_program: str = setting(
        "THERMESH_TOKEN_PROGRAM",
        "fixed",
        one_of("fixed", "edt", "dynatemp", "residual"),
        "how each token's temperature follows from the one that the policy draws; others than"
        " fixed have not beaten the mean of their own temperatures",
    )
    forecasts: bool = setting(
        "THERMESH_FORECASTS",
        True,
        doc="forecast what a request costs, and bound its token budget by that",
    )
    feedback_per_minute: int = setting(
        "THERMESH_FEEDBACK_PER_MINUTE",
        6000,
        between(0, 1_000_000),
        "most feedback that a tenant may send a minute; 0: no bound",
    )
    grace_seconds: float = setting(
        "THERMESH_GRACE_SECONDS", 10.0, between(0, 600), "how long open calls may end after SIGTERM"
    )


@dataclass(frozen=True)
class LearnerConfig(PolicyConfig):
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
