"""The learned policy: a squashed Gaussian over temperature.

    mu(x)  = anchor(x, lower, upper) + squash(task_bias . p + W2 tanh(W1 (x - neutral) + b1) + b2)
    z      ~ Normal(mu(x), sigma^2)
    T      = lower + (upper - lower) * sigmoid(z)
    ln q(T) = ln Normal(z; mu, sigma^2) - ln((upper - lower) * sigmoid(z) * (1 - sigmoid(z)))

The last line is the change of variables from z to T, so that the logged density
is that of the temperature really used. `anchor` puts a newborn policy, whose
trainable part is zero, at a sensible temperature for the task; `squash` keeps
learning from saturating the sigmoid. sigma shrinks as feedback is learned from.

Measured optima behind the anchors (SmolLM2-135M-Instruct, Q4_1): facts 0.1 to
0.4, lists 0.4, story openings 0.7 to 1.0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thermesh.features import FEATURES, INDEX, TASKS

Vector = NDArray[np.float64]

KIND = "squashed_gaussian"
HIDDEN = 16

NEUTRAL: Vector = np.array([feature.neutral for feature in FEATURES])
"""The vector of a request about which nothing is known, float64 [features]."""

_TASK_SLICE = slice(INDEX[f"task_{TASKS[0]}"], INDEX[f"task_{TASKS[-1]}"] + 1)
CHAT_TEMPERATURE = 0.6
TASK_TEMPERATURE = {
    "generation": 0.8,
    "classification": 0.2,
    "question_answering": 0.25,
    "code": 0.3,
    "translation": 0.3,
    "arithmetic": 0.2,
    "chat": CHAT_TEMPERATURE,
}
_FROM_CHAT = tuple(TASK_TEMPERATURE[task] - CHAT_TEMPERATURE for task in TASKS)

# The anchor stays off the ends of the envelope, where the sigmoid is flat and
# exploration would see no difference.
_ANCHOR_MARGIN = 0.05
SQUASH = 4.0

# Standard deviation of z. 0.35 moves T by about a tenth of the envelope's width:
# enough to learn from, too little to make a fact decode like a story.
_FIRST_SIGMA = 0.35
_LAST_SIGMA = 0.10
_SIGMA_HALF_LIFE = 1000

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True, eq=False)
class Parameters:
    """Everything that is trained, float64: `task_bias` [tasks], `w1` [hidden, features],
    `b1` [hidden], `w2` [hidden], `b2` [1].
    """

    task_bias: Vector
    w1: Vector
    b1: Vector
    w2: Vector
    b2: Vector

    kind = KIND

    def __post_init__(self) -> None:
        for name, shape in _SHAPES.items():
            array = np.array(getattr(self, name), dtype=np.float64)
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite and of shape {shape}")
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parameters) and self.to_lists() == other.to_lists()

    __hash__ = None  # type: ignore[assignment]  # arrays do not hash

    def to_lists(self) -> dict[str, Any]:
        """Return nested lists of numbers; `json` writes and reads them without loss."""
        return {member.name: getattr(self, member.name).tolist() for member in fields(self)}

    def arrays(self) -> tuple[Vector, ...]:
        """Return the members in the order of their declaration."""
        return (self.task_bias, self.w1, self.b1, self.w2, self.b2)

    @classmethod
    def from_lists(cls, lists: dict[str, Any]) -> Parameters:
        """Undo `to_lists`; raise ValueError or KeyError where a member does not fit."""
        return cls(**{name: lists[name] for name in _SHAPES})


_SHAPES = {
    "task_bias": (len(TASKS),),
    "w1": (HIDDEN, len(FEATURES)),
    "b1": (HIDDEN,),
    "w2": (HIDDEN,),
    "b2": (1,),
}


def prior() -> Parameters:
    """Return the parameters of a new installation: mu is the anchor alone.

    w1 is random (by a fixed seed) so that the hidden units differ once w2 moves.
    """
    scale = 1.0 / math.sqrt(len(FEATURES))
    w1 = np.random.default_rng(20_250_101).normal(0.0, scale, _SHAPES["w1"])
    return Parameters(
        **{name: w1 if name == "w1" else np.zeros(shape) for name, shape in _SHAPES.items()}
    )


def sigma_after(feedback_count: int) -> float:
    """Return the standard deviation of z after that many pieces of feedback."""
    return _LAST_SIGMA + (_FIRST_SIGMA - _LAST_SIGMA) / (1.0 + feedback_count / _SIGMA_HALF_LIFE)


def anchor_temperature(features: Vector) -> float:
    """Return where a newborn policy would decode `features` without bounds.

    Squaring sharpens the classifier's probabilities; what exceeds the uniform
    share moves from the temperature of chat towards that of the task, so that
    a classifier that knows nothing leaves chat.
    """
    squared: list[float] = [p * p for p in features[_TASK_SLICE].tolist()]
    total = sum(squared)
    if total <= 0.0:
        return CHAT_TEMPERATURE
    least = total / len(TASKS)
    # plain floats: on seven numbers a call of numpy costs more than what it does
    moved: list[float] = [
        (p - least) * far for p, far in zip(squared, _FROM_CHAT, strict=True) if p > least
    ]
    return CHAT_TEMPERATURE + sum(moved) / (total - least)


def anchor(features: Vector, lower: float, upper: float) -> float:
    """Return the z at which T is the anchor's temperature, clamped into the range."""
    fraction = (anchor_temperature(features) - lower) / (upper - lower)
    return logit(min(max(fraction, _ANCHOR_MARGIN), 1.0 - _ANCHOR_MARGIN))


@dataclass(frozen=True, slots=True)
class Forward:
    """One evaluation of the network, with what its gradient needs."""

    centred: Vector
    tasks: Vector
    hidden: Vector
    learned: float


def forward(parameters: Parameters, features: Vector) -> Forward:
    """Evaluate the trainable part for `features`, float64 [features]."""
    centred = features - NEUTRAL
    tasks = features[_TASK_SLICE]
    # `dot`, not `@`: on so few numbers the operator costs twice as much
    hidden = np.tanh(parameters.w1.dot(centred) + parameters.b1)
    raw = float(parameters.task_bias.dot(tasks) + parameters.w2.dot(hidden))
    raw += float(parameters.b2[0])
    return Forward(centred, tasks, hidden, SQUASH * math.tanh(raw / SQUASH))


def gradient_of_mean(parameters: Parameters, evaluated: Forward) -> Parameters:
    """Return d mu / d parameters, in the shape of the parameters."""
    slope = 1.0 - (evaluated.learned / SQUASH) ** 2
    back = slope * parameters.w2 * (1.0 - evaluated.hidden**2)
    return Parameters(
        task_bias=slope * evaluated.tasks,
        w1=np.outer(back, evaluated.centred),
        b1=back,
        w2=slope * evaluated.hidden,
        b2=np.array([slope]),
    )


@dataclass(frozen=True, slots=True)
class SquashedGaussian:
    """The distribution of temperature for one request; `lower < upper`."""

    mean: float
    sigma: float
    lower: float
    upper: float

    def temperature_at(self, z: float) -> float:
        """Return T for z."""
        return self.lower + (self.upper - self.lower) * sigmoid(z)

    def z_of(self, temperature: float) -> float:
        """Return z for T; the ends of the range are moved inside by one part in 10^12."""
        fraction = (temperature - self.lower) / (self.upper - self.lower)
        return logit(min(max(fraction, 1e-12), 1.0 - 1e-12))

    def log_density_at(self, z: float) -> float:
        """Return ln q(T(z)), the density with respect to temperature."""
        standard = (z - self.mean) / self.sigma
        log_normal = -0.5 * standard * standard - math.log(self.sigma) - _HALF_LOG_TWO_PI
        # sigmoid(z) * (1 - sigmoid(z)) in a form that keeps its digits far out
        log_slope = -abs(z) - 2.0 * math.log1p(math.exp(-abs(z)))
        return log_normal - math.log(self.upper - self.lower) - log_slope

    def log_density(self, temperature: float) -> float:
        """Return ln q(T)."""
        return self.log_density_at(self.z_of(temperature))


def distribution(
    parameters: Parameters, feedback_count: int, features: Vector, lower: float, upper: float
) -> SquashedGaussian:
    """Return what the policy draws temperature from for `features` inside the range."""
    mean = anchor(features, lower, upper) + forward(parameters, features).learned
    return SquashedGaussian(mean, sigma_after(feedback_count), lower, upper)


def sigmoid(z: float) -> float:
    """Return 1 / (1 + exp(-z)) without overflow."""
    if z >= 0.0:
        return 1.0 / (1.0 + math.exp(-z))
    grown = math.exp(z)
    return grown / (1.0 + grown)


def logit(fraction: float) -> float:
    """Return the z with sigmoid(z) = fraction."""
    return math.log(fraction / (1.0 - fraction))
