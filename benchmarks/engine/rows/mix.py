"""Row 11: a mix of precisions against uniform bits of at least as many bytes."""

from __future__ import annotations

from benchmarks.engine.plan import Figure, Row, Samples, Verdict, ours

BITS = (3.5, 4.0, 4.5, 5.0)
JUDGED = 4.0
"""An eighth of float32."""
MOST_OF_UNIFORM = 0.7
FIGURE = Figure(
    "a mix of precisions",
    "run",
    {"function": "mix:divergences", "bits": list(BITS)},
    unit="",
    rounds=1,
    has_peers=False,
    has_trial=False,
)


def verdicts(samples: Samples) -> list[Verdict]:
    """Judge the mix at an eighth of float32; the others are told: the curve."""
    found = samples.get(FIGURE.name, {}).get(ours(), ())
    if not found:
        return []
    named = found[0]
    assert isinstance(named, dict)
    return [_point(named, bits) for bits in BITS]


def _point(named: dict[str, float], bits: float) -> Verdict:
    ratio = named[f"mix {bits:g} mean_kl"] / named[f"uniform {bits:g} mean_kl"]
    is_judged = bits == JUDGED
    megabytes = named[f"uniform {bits:g} megabytes"]
    return Verdict(
        f"mean KL of a mix of {named[f'mix {bits:g} megabytes']:.1f} MB, nats a token",
        f"{_told(named, f'mix {bits:g}')}, **{ratio:.2f}x**",
        f"uniform {megabytes:.1f} MB {_told(named, f'uniform {bits:g}')}",
        f"at most {MOST_OF_UNIFORM:g}x uniform" if is_judged else "",
        ratio <= MOST_OF_UNIFORM if is_judged else None,
    )


def _told(named: dict[str, float], kind: str) -> str:
    mean, error = named[f"{kind} mean_kl"], named[f"{kind} standard_error"]
    factor, low, high = (named[f"{kind} {name}"] for name in ("value", "low", "high"))
    return (
        f"{mean:.4f} ± {error:.4f}, same top {named[f'{kind} same_top']:.0%},"
        f" least at T x {factor:.2f} ({low:.2f} to {high:.2f})"
    )


ROW = Row(11, "a mix of precisions", (FIGURE,), verdicts)
