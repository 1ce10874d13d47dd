"""Each row of the study: one claim about the control loop, simulated over many seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.control.world import MEASURED, NAMES, TEMPERATURES, decided, moved, newborn, step
from services.controller import gaussian
from services.controller.elastic import Elastic
from services.controller.evaluation import cross_fitted, doubly_robust, snips
from services.controller.learning import LearnerState
from services.controller.policy import Parameters, PolicySnapshot
from services.controller.promotion import Canary, Verdict
from services.controller.replay import Buffer

Rewards = NDArray[np.float64]

FEEDBACKS = 6000
MOVED_AT, MOVED_FOR = 3000, 1500
WINDOW = 150
LEARNERS: dict[str, Callable[[], Parameters]] = {
    "Thompson, no prior": lambda: newborn(0.0),
    "Thompson, shipped prior": lambda: newborn(1.0),
    "squashed Gaussian, shipped prior": gaussian.prior,
}


def learned(begin: Parameters, seed: int, count: int = FEEDBACKS) -> Rewards:
    """Return the true mean reward of each decision of one run, [count]."""
    generator, state = np.random.default_rng(seed), LearnerState(begin)
    earned = np.zeros(count)
    for index in range(count):
        task = int(generator.integers(len(NAMES)))
        state, earned[index] = step(state, MEASURED, task, generator)
    return earned


def headroom_and_regret(runs: Sequence[Rewards]) -> dict[str, object]:
    """Rows 2 and 5: what the end earns, and when regret crosses the best static action."""
    rewards = np.array(runs)
    static, oracle = MEASURED.best_static, MEASURED.best_by_task
    last = rewards[:, -500:].mean(axis=1)
    regret = np.cumsum(static - rewards.mean(axis=0))
    ahead = np.nonzero(regret > 0)[0]
    crossed = 0 if len(ahead) == 0 else int(ahead[-1]) + 2
    return {
        "last_500": float(last.mean()),
        "standard_error": float(last.std(ddof=1) / np.sqrt(len(last))),
        "share_of_headroom": float((last.mean() - static) / (oracle - static)),
        "regret_at": {str(at): float(regret[at - 1]) for at in (500, 1000, 1500, 2000, 6000)},
        "regret_crosses_at": crossed if crossed <= rewards.shape[1] else None,
    }


def after_a_move(seeds: range) -> dict[str, object]:
    """Row 6: feedback a task until a window of WINDOW is back within 0.01 of the oracle."""
    world, count = moved(), MOVED_AT + MOVED_FOR
    rewards = np.zeros((len(seeds), count))
    for row, seed in enumerate(seeds):
        generator, state = np.random.default_rng(seed), LearnerState(newborn(0.0))
        for index in range(count):
            task = int(generator.integers(len(NAMES)))
            now = MEASURED if index < MOVED_AT else world
            state, rewards[row, index] = step(state, now, task, generator)
    mean = rewards.mean(axis=0)
    windows = np.convolve(mean[MOVED_AT:], np.ones(WINDOW) / WINDOW, mode="valid")
    back = np.nonzero(windows >= world.best_by_task - 0.01)[0]
    return {
        "before": float(mean[MOVED_AT - 500 : MOVED_AT].mean()),
        "windows": [float(each) for each in windows[::WINDOW]],
        "oracle_after": world.best_by_task,
        "back_after_feedbacks_a_task": float((back[0] + WINDOW) / len(NAMES))
        if len(back)
        else None,
    }


def forgetting(seeds: range, count: int = 2000) -> dict[str, object]:
    """Row 7: what stories lose while only facts are judged, with and without protection."""
    found = {}
    for name, begin, protected in (
        ("Thompson", newborn(0.0), True),
        ("squashed Gaussian, replay and anchor", gaussian.prior(), True),
        ("squashed Gaussian, neither", gaussian.prior(), False),
    ):
        losses = [_lost(begin, seed, count, protected) for seed in seeds]
        found[name] = {"loss": float(np.mean(losses)), "worst": float(np.max(losses))}
    return found


def _lost(begin: Parameters, seed: int, count: int, protected: bool) -> float:
    generator, state = np.random.default_rng(seed), LearnerState(begin)
    for _ in range(1200):
        state, _ = step(state, MEASURED, int(generator.integers(len(NAMES))), generator)
    before = _value(state, 2, seed)
    for _ in range(count):
        if not protected:
            bare = replace(state.memory, replay=Buffer(), elastic=Elastic())
            state = replace(state, memory=bare)
        state, _ = step(state, MEASURED, 0, generator)
    return before - _value(state, 2, seed)


def _value(state: LearnerState, task: int, seed: int) -> float:
    generator = np.random.default_rng(seed)
    drawn = (decided(state.parameters, state.feedback_count, task, generator) for _ in range(300))
    return float(np.mean([MEASURED.mean(task, each.policy_temperature) for each in drawn]))


def off_policy(replays: int, counts: Sequence[int] = (300, 1000, 3000)) -> dict[str, object]:
    """Row 8: logging half uniform, half T = 0.7; target the best temperature of each task."""
    means = MEASURED.means
    actions_count = means.shape[1]
    logging = np.full(actions_count, 0.5 / actions_count)
    logging[2] += 0.5
    target = means.argmax(axis=1)
    truth, found = MEASURED.best_by_task, {}
    for count in counts:
        errors: dict[str, list[float]] = {"SNIPS": [], "DR": []}
        covered: dict[str, list[bool]] = {"SNIPS": [], "DR": []}
        for seed in range(replays):
            generator = np.random.default_rng([seed, count])
            tasks = generator.integers(len(NAMES), size=count)
            actions = generator.choice(actions_count, size=count, p=logging)
            rewards = _rewards(tasks, actions, generator)
            weights = (actions == target[tasks]) / logging[actions]
            model = cross_fitted(tasks, actions, rewards, means.shape)
            rows = np.arange(count)
            robust = doubly_robust(
                rewards, weights, model[rows, actions], model[rows, target[tasks]]
            )
            for name, estimate in (("SNIPS", snips(rewards, weights)), ("DR", robust)):
                errors[name].append(estimate.value - truth)
                covered[name].append(estimate.lower <= truth <= estimate.upper)
        found[str(count)] = {
            name: {
                "rmse": float(np.sqrt(np.mean(np.square(errors[name])))),
                "coverage": float(np.mean(covered[name])),
            }
            for name in errors
        }
    return found


def _rewards(
    tasks: NDArray[np.int64], actions: NDArray[np.int64], generator: np.random.Generator
) -> Rewards:
    pairs = zip(tasks, actions, strict=True)
    drawn = (MEASURED.draw(int(task), TEMPERATURES[action], generator) for task, action in pairs)
    return np.array(list(drawn))


def propensities(seeds: range, count: int = 1500) -> dict[str, object]:
    """Row 9: decisions of a newborn bandit, weighed by one that learned from other feedback."""
    means, inside = [], 0
    for seed in seeds:
        generator, state = np.random.default_rng(seed), LearnerState(newborn(1.0))
        begin = state.parameters
        for _ in range(200):
            state, _ = step(state, MEASURED, int(generator.integers(len(NAMES))), generator)
        tasks = generator.integers(len(NAMES), size=count)
        logged = [decided(begin, 0, int(task), generator) for task in tasks]
        other = PolicySnapshot(1, state.parameters, 200)
        weights = np.array([other.importance(each) for each in logged])
        error = float(weights.std(ddof=1) / np.sqrt(count))
        means.append(float(weights.mean()))
        inside += abs(means[-1] - 1.0) <= 3.0 * error
    share = sum(0.0 < each.propensity <= 1.0 for each in logged) / count
    return {
        "mean_weight": float(np.mean(means)),
        "inside": inside,
        "of": len(seeds),
        "logged": share,
    }


def poisoned(seeds: range) -> dict[str, object]:
    """Row 13: 10 % of feedback turned round after 1,000, all of it after 2,000."""
    worst, rollbacks, delays = [], [], []
    for seed in seeds:
        generator, state = np.random.default_rng(seed), LearnerState(newborn(0.0))
        earned, rolled = np.zeros(3500), None
        for index in range(len(earned)):
            flipped = 0.0 if index < 1000 else 0.1 if index < 2000 else 1.0
            task = int(generator.integers(len(NAMES)))
            state, earned[index] = step(state, MEASURED, task, generator, flipped)
            if rolled is None and index >= 2000 and state.memory.guardrail.held:
                rolled = index - 2000
        below = np.convolve(earned[1000:], np.ones(200) / 200, mode="valid")
        worst.append(float(below.min()))
        rollbacks.append(state.memory.guardrail.rollbacks)
        delays.append(rolled)
    found = [each for each in delays if each is not None]
    return {
        "worst_mean_of_200": float(np.min(worst)),
        "median_worst_of_200": float(np.median(worst)),
        "bar": MEASURED.best_static - 0.02,
        "runs_rolled_back": len(found),
        "runs": len(seeds),
        "feedbacks_until_rollback": float(np.median(found)) if found else None,
    }


def canaries(runs: int, share: float = 0.1) -> dict[str, object]:
    """Row 14: rewards of the learned policy, centred by task, with and without a drop."""
    best = MEASURED.means.argmax(axis=1)
    found = {}
    for name, drop in (("no change", 0.0), ("drop of 0.05", 0.05)):
        verdicts, seen = [], []
        for seed in range(runs):
            generator = np.random.default_rng(seed)
            canary = Canary()
            while canary.verdict is Verdict.HOLD:
                canary = _one_more(canary, best, drop, share, generator)
            verdicts.append(canary.verdict)
            seen.append(canary.seen)
        rolled = [verdict is Verdict.ROLL_BACK for verdict in verdicts]
        found[name] = {
            "rolled_back": float(np.mean(rolled)),
            "median_requests": float(np.median(seen)),
        }
    return found


def _one_more(
    canary: Canary,
    best: NDArray[np.int64],
    drop: float,
    share: float,
    generator: np.random.Generator,
) -> Canary:
    task = int(generator.integers(len(NAMES)))
    temperature = TEMPERATURES[best[task]]
    centred = MEASURED.draw(task, temperature, generator) - MEASURED.mean(task, temperature)
    if generator.random() < share:
        return canary.canary_earned(centred - drop)
    return canary.control_earned(centred)
