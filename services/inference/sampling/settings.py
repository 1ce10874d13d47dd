"""What a request may ask of the sampler: values, ranges, and nothing that computes.

Every class has `validate(path)`, which raises InvalidArgument naming the field
below `path` and what is allowed. Ranges are those of `common.proto`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from thermesh.errors import InvalidArgument

LOWEST_TEMPERATURE = 0.1
HIGHEST_TEMPERATURE = 2.0
MAX_LOGIT_BIASES = 1024


@dataclass(frozen=True)
class Fixed:
    """One temperature for all tokens; 0 is greedy."""

    temperature: float

    def validate(self, path: str) -> None:
        """Refuse a temperature that is neither 0 nor in [0.1, 2.0]."""
        if self.temperature != 0:
            _temperature(f"{path}.fixed.temperature", self.temperature, " or 0 for greedy")


@dataclass(frozen=True)
class Edt:
    """Entropy-based dynamic temperature (arXiv 2403.14541): T0 * 0.8^(theta / H)."""

    base_temperature: float
    theta: float

    def validate(self, path: str) -> None:
        """Refuse a base outside [0.1, 2.0] and a theta outside (0, 10]."""
        _temperature(f"{path}.edt.base_temperature", self.base_temperature)
        _above(f"{path}.edt.theta", self.theta, 0, 10)


@dataclass(frozen=True)
class Dynatemp:
    """llama.cpp's dynamic temperature over the candidates that the guard left."""

    temperature: float
    range: float
    exponent: float

    def validate(self, path: str) -> None:
        """Refuse a middle outside [0.1, 2.0], a range outside [0, 2.0], an
        exponent outside (0, 10].
        """
        _temperature(f"{path}.dynatemp.temperature", self.temperature)
        _within(f"{path}.dynatemp.range", self.range, 0, 2)
        _above(f"{path}.dynatemp.exponent", self.exponent, 0, 10)


@dataclass(frozen=True)
class Residual:
    """One temperature, corrected by each token's entropy: 1/T moves by `slope` a nat from
    `centre` on, and T at most by `range`.
    """

    temperature: float
    slope: float
    centre: float
    range: float

    def validate(self, path: str) -> None:
        """Refuse a temperature outside [0.1, 2.0], a slope outside [-10, 10], a centre
        outside [0, 20], a range outside [0, 2.0].
        """
        _temperature(f"{path}.residual.temperature", self.temperature)
        _within(f"{path}.residual.slope", self.slope, -10, 10)
        _within(f"{path}.residual.centre", self.centre, 0, 20)
        _within(f"{path}.residual.range", self.range, 0, 2)


Program = Fixed | Edt | Dynatemp | Residual
"""How the temperature of each token is found from that token's distribution."""


@dataclass(frozen=True)
class Guard:
    """Cuts of the tail, applied before temperature; None is no cut."""

    top_n_sigma: float | None = None
    min_p: float | None = None
    top_p: float | None = None
    top_k: int | None = None

    def validate(self, path: str) -> None:
        """Refuse members that are set to a value outside their range."""
        if self.top_n_sigma is not None:
            _above(f"{path}.top_n_sigma", self.top_n_sigma, 0, 10)
        if self.min_p is not None:
            _above(f"{path}.min_p", self.min_p, 0, 1)
        if self.top_p is not None:
            _above(f"{path}.top_p", self.top_p, 0, 1)
        if self.top_k is not None:
            _within(f"{path}.top_k", self.top_k, 1, 1_000_000)

    @property
    def is_open(self) -> bool:
        """True where nothing is cut."""
        return self == Guard()


@dataclass(frozen=True)
class Penalties:
    """What tokens that were used before lose."""

    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0

    def validate(self, path: str) -> None:
        """Refuse a repetition outside (0, 10] and others outside [-2, 2]."""
        _above(f"{path}.repetition", self.repetition, 0, 10)
        _within(f"{path}.presence", self.presence, -2, 2)
        _within(f"{path}.frequency", self.frequency, -2, 2)

    @property
    def are_off(self) -> bool:
        """True where no logit would change."""
        return (self.repetition, self.presence, self.frequency) == (1.0, 0.0, 0.0)


@dataclass(frozen=True)
class Sampling:
    """Everything the sampler needs to draw one token."""

    program: Program
    guard: Guard = field(default_factory=Guard)
    penalties: Penalties = field(default_factory=Penalties)
    logit_bias: tuple[tuple[int, float], ...] = ()

    def validate(self, path: str, vocabulary_size: int) -> None:
        """Refuse any member out of range, and a bias of an unknown token."""
        self.program.validate(f"{path}.program")
        self.guard.validate(f"{path}.guard")
        self.penalties.validate(f"{path}.penalties")
        self._validate_bias(f"{path}.logit_bias", vocabulary_size)

    def _validate_bias(self, path: str, vocabulary_size: int) -> None:
        if len(self.logit_bias) > MAX_LOGIT_BIASES:
            raise InvalidArgument(f"{path} has at most {MAX_LOGIT_BIASES} entries", field=path)
        for token_id, bias in self.logit_bias:
            if not 0 <= token_id < vocabulary_size:
                message = f"{path} has token id {token_id}, which is not in [0, {vocabulary_size})"
                raise InvalidArgument(message, field=path)
            _within(f"{path}[{token_id}]", bias, -100, 100)


DEFAULT = Sampling(Fixed(0.7), Guard(top_n_sigma=1.0))
"""Used where a request says nothing: a middle temperature behind the guard
whose kept set does not depend on temperature (arXiv 2411.07641)."""


def _temperature(path: str, value: float, also: str = "") -> None:
    if not LOWEST_TEMPERATURE <= value <= HIGHEST_TEMPERATURE:
        allowed = f"[{LOWEST_TEMPERATURE}, {HIGHEST_TEMPERATURE}]{also}"
        raise InvalidArgument(f"{path} must be in {allowed}", field=path)


def _within(path: str, value: float, low: float, high: float) -> None:
    # Written so that NaN, which compares false, is refused.
    if not low <= value <= high:
        raise InvalidArgument(f"{path} must be in [{low}, {high}]", field=path)


def _above(path: str, value: float, low: float, high: float) -> None:
    if not low < value <= high:
        raise InvalidArgument(f"{path} must be in ({low}, {high}]", field=path)
