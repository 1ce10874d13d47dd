"""Row 5: how close the default tier is to float32 on the same weights."""

from __future__ import annotations

from benchmarks.engine.plan import Figure, Row, Samples, Verdict, ours, values

FIGURE = Figure(
    "fidelity",
    "run",
    {"function": "fidelity:to_float32"},
    unit="",
    rounds=1,
    has_peers=False,
    has_trial=False,
)
MOST_KL = 1e-3
LEAST_AGREEMENT = 0.995


def verdicts(samples: Samples) -> list[Verdict]:
    """Judge divergence and agreement; both come of one exact computation."""
    kl = values(samples, FIGURE.name, ours(), "mean_kl")
    agreement = values(samples, FIGURE.name, ours(), "top1_agreement")
    if not kl:
        return []
    tokens = values(samples, FIGURE.name, ours(), "tokens")[0]
    beside = f"{tokens:.0f} tokens of prose and code"
    return [
        Verdict(
            "mean KL divergence to float32, nats a token",
            f"{kl[0]:.1e}",
            beside,
            f"at most {MOST_KL:g}",
            kl[0] <= MOST_KL,
        ),
        Verdict(
            "same likeliest token as float32",
            f"{agreement[0]:.2%}",
            beside,
            f"at least {LEAST_AGREEMENT:.1%}",
            agreement[0] >= LEAST_AGREEMENT,
        ),
    ]


ROW = Row(5, "fidelity", (FIGURE,), verdicts)
