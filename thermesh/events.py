"""What a conversation tells its client, as values: `MeshClient.converse` yields them.

They mirror `protos/thermesh/v1`, whose comments are normative for units and
ranges. Kinds that are enums on the wire are lower-case words here, e.g.
`policy` for PLAN_SOURCE_POLICY and `stop` for FINISH_REASON_STOP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fixed:
    """Every token at one temperature in [0.1, 2.0], or 0 for greedy."""

    temperature: float


@dataclass(frozen=True)
class Edt:
    """`base_temperature * 0.8 ^ (theta / H)` (arXiv 2403.14541); theta in nats."""

    base_temperature: float
    theta: float


@dataclass(frozen=True)
class Dynatemp:
    """`temperature` plus or minus `range` by normalised entropy to the power `exponent`."""

    temperature: float
    range: float
    exponent: float = 1.0


@dataclass(frozen=True)
class Residual:
    """`temperature`, corrected by each token's entropy H in nats: 1/T by `slope * (H - centre)`,
    T at most by `range`.
    """

    temperature: float
    slope: float
    centre: float = 1.0
    range: float = 0.1


Program = Fixed | Edt | Dynatemp | Residual


@dataclass(frozen=True)
class Guard:
    """Cuts the tail before temperature; a member that is None does not cut."""

    top_n_sigma: float | None = None
    min_p: float | None = None
    top_p: float | None = None
    top_k: int | None = None


@dataclass(frozen=True)
class Penalties:
    """Discourages repetition: 1 (repetition) and 0 (the others) are off."""

    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0


@dataclass(frozen=True)
class Sampling:
    """Everything the sampler draws a token by."""

    program: Program
    guard: Guard = Guard()
    penalties: Penalties = Penalties()
    logit_bias: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """How to answer; everything left out is decided by the mesh.

    `resumable`: the answer outlives a broken connection for some seconds, and
    the client goes on with it by itself.
    """

    model: str = ""
    temperature: float | None = None
    program: Program | None = None
    guard: Guard | None = None
    penalties: Penalties | None = None
    max_tokens: int = 0
    seed: int | None = None
    scenario: str = ""
    stop: Sequence[str] = ()
    candidate_count: int = 0
    initial_credit: int = 0
    awaiting_input: bool = False
    session_id: str = ""
    request_id: str = ""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    resumable: bool = False


@dataclass(frozen=True)
class Accepted:
    """The model begins: comes first. `resume_seconds` 0: it ends with its connection."""

    request_id: str
    model: str
    prompt_tokens: int
    resume_seconds: float = 0.0


@dataclass(frozen=True)
class Forecast:
    """What a request was expected to cost; see common.proto for each member."""

    prefill_seconds: float
    output_tokens: int
    output_tokens_high: int
    total_seconds: float
    latency_cost: float
    misses_deadline: bool
    bounds_budget: bool


@dataclass(frozen=True)
class Plan:
    """What the controller decided. `source`: policy, pinned, static or fallback."""

    decision_id: str
    policy_version: int
    source: str
    sampling: Sampling
    token_budget: int
    task: str
    scenario: str
    log_density: float
    explored: bool
    seed: int
    policy_temperature: float
    forecast: Forecast | None = None

    @property
    def temperature(self) -> float:
        """Temperature of the program: fixed, its ceiling (EDT) or its middle (the others)."""
        program = self.sampling.program
        return program.base_temperature if isinstance(program, Edt) else program.temperature


@dataclass(frozen=True)
class Candidate:
    """One of the most probable tokens at a position; log-probability in nats."""

    token_id: int
    text: str
    log_probability: float


@dataclass(frozen=True)
class Token:
    """One decoded token; entropy and log-probabilities in nats, see common.proto."""

    index: int
    token_id: int
    text: str
    temperature: float
    entropy: float
    log_probability: float
    model_log_probability: float
    revision: int
    step_time_us: int
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class Tokens:
    """Tokens that came together, in order, at least one."""

    tokens: tuple[Token, ...]

    @property
    def text(self) -> str:
        """Their text."""
        return "".join(token.text for token in self.tokens)


@dataclass(frozen=True)
class Applied:
    """A plan or update took effect from `token_index` on. `source`: plan, client, controller."""

    revision: int
    token_index: int
    source: str
    update_id: int
    sampling: Sampling


@dataclass(frozen=True)
class Rejected:
    """An update was not valid; the answer goes on as before."""

    update_id: int
    field: str
    message: str


@dataclass(frozen=True)
class Usage:
    """Tokens and time of a request; times in microseconds."""

    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int
    queue_time_us: int
    prefill_time_us: int
    decode_time_us: int


@dataclass(frozen=True)
class End:
    """How the answer ended: comes last. `finish_reason`: stop, stop_string, length, ..."""

    finish_reason: str
    text: str
    usage: Usage
    mean_temperature: float
    mean_entropy: float


Event = Accepted | Plan | Tokens | Applied | Rejected | End


@dataclass(frozen=True)
class Model:
    """A model that can be asked for."""

    id: str
    context_length: int
    created_unix_s: int


@dataclass(frozen=True)
class FeedbackReceipt:
    """What became of feedback. `state`: pending, or applied in policy `applied_version`."""

    feedback_id: str
    duplicate: bool
    state: str
    applied_version: int
