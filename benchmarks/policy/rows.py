"""The rows of the study beside their bars, from its JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from services.controller.config import Config

Found = dict[str, Any]
Row = tuple[str, str, str, str, bool | None]
"""Number, figure, bar, what was found, and whether it was met; None: no bar."""

PRODUCT = "Thompson, the product's settings"
_AIMS = {"T": 0.015, "T x guard": 0.03, "T x guard x cap": 0.03}


def verdicts(found: Found) -> Iterator[Row]:
    """Yield every row, in order."""
    product = found["learned"]["T"][PRODUCT]
    yield from _against_static(found)
    yield from _beside(product)
    yield _headroom(product)
    yield from _against_rules(found)
    yield from _residual(found)
    yield _crossing(product)
    yield _moved(found)
    yield from _forgotten(found)
    yield from _off_policy(found)


def gap(each: Found) -> str:
    """Return a mean difference with its interval and how many prompts it is of."""
    return (
        f"{each['mean']:+.4f} [{each['lower']:+.4f}, {each['upper']:+.4f}], n = {each['prompts']:,}"
    )


def _against_static(found: Found) -> Iterator[Row]:
    for name, aim in _AIMS.items():
        each = found["learned"][name][PRODUCT]["against_static"]
        figure = f"held-out reward against the best static action: {name}"
        yield "1", figure, f"> 0; aim +{aim:g}", gap(each), each["lower"] > 0


def _beside(product: Found) -> Iterator[Row]:
    warm = "beside it, never a headline: against T = 1.0 without a guard"
    yield "1", warm, "", gap(product["against_warm"]), None
    yield (
        "1",
        "the same action set T, without the stories",
        "",
        gap(product["without_stories"]),
        None,
    )


def _headroom(product: Found) -> Row:
    share, train = product["share_of_headroom_held_out"], product["share_of_headroom_train"]
    figure = "headroom of the best action by task won, held-out"
    return "2", figure, "at least 80 %", f"{share:.0%} (train stream: {train:.0%})", share >= 0.8


def _against_rules(found: Found) -> Iterator[Row]:
    for name, each in found["rules"].items():
        ours = each["ours_minus_it"]
        figure = f"against {name}, tuned with {each['trials']} trials"
        yield "3", figure, "win or tie", gap(ours), ours["upper"] >= 0
    for name, each in found["rules"].items():
        ours = each["ours_minus_it_as_few_by_task"]
        figure = f"told the task, against {name} by task, as many judged answers for both"
        yield "3", figure, "win or tie", gap(ours), ours["upper"] >= 0


def _residual(found: Found) -> Iterator[Row]:
    is_off = Config().token_program == "fixed"
    for name, each in found.get("residual", {}).items():
        if name.startswith("against"):
            figure, is_better = f"token-level residual {name}", each["lower"] > 0
            told = gap(each) + ("; off by default" if is_off else "")
            yield "4", figure, "better, or off by default", told, is_better or is_off


def _crossing(product: Found) -> Row:
    at = product["crosses_at"]
    figure, told = "regret crosses the best static action", "never" if at is None else f"{at:,}"
    return "5", figure, "at most 1,500", told, at is not None and at <= 1500


def _moved(found: Found) -> Row:
    back = found["moved"]["back_after_feedbacks_a_task"]
    figure = "optimum moved: feedback a task until within 0.01"
    told = "never" if back is None else f"{back:.0f}"
    return "6", figure, "at most 300", told, back is not None and back <= 300


def _forgotten(found: Found) -> Iterator[Row]:
    gaussian = found["forgotten_by_gaussian"]
    learners = {
        "Thompson": (found["forgotten"], "at most 0.01"),
        "squashed Gaussian, replay and anchor": (gaussian["with"], "at most 0.01"),
        "squashed Gaussian, without both": (gaussian["without"], ""),
    }
    for name, (each, bar) in learners.items():
        loss, worst = each["loss"], each["worst_seed"]
        figure = f"loss of other tasks after 2,000 of one ({name})"
        told = f"{loss:+.4f} (worst seed {worst:+.4f})"
        yield "7", figure, bar, told, loss <= 0.01 if bar else None


def _off_policy(found: Found) -> Iterator[Row]:
    for name, each in found["off_policy"]["estimates"].items():
        told = f"RMSE {each['rmse']:.3f}, bias {each['bias']:+.3f}, coverage {each['coverage']:.1%}"
        met = each["rmse"] <= 0.032 and 0.9 <= each["coverage"] <= 0.97
        yield "8", f"{name}, n = 1,000, 300 replays", "0.032; 90 to 97 %", told, met
    floors = found["off_policy"]["floors"]
    bound = f"RMSE {floors['unbiased']:.3f}; on-policy mean {floors['on_policy']:.3f}"
    yield "8", "beside it: the least error of an unbiased estimate", "", bound, None
