"""How much an engine takes on."""

from __future__ import annotations

from dataclasses import dataclass

from services.inference.config import Config
from services.inference.kernels import PAGE_SIZE
from thermesh.errors import ResourceExhausted

RETRY_AFTER_SECONDS = 1.0


@dataclass(frozen=True)
class Limits:
    """Bounds of the engine: sequences, waiting requests, tokens a step.

    `stretch` is how many times as long as without prefills a step may take,
    `burst_seconds` how long for a short prompt that joins as a whole;
    `prefix_share` how much of the KV cache may hold pages that nobody uses. A
    network that looks ahead gets room for one token more, where there is some.
    With `self_speculation` the light path of a network guesses for the whole.
    `reuses_output` is whether pages of generated tokens may begin another
    prompt: not where a network computes the tokens of prompts otherwise.
    """

    max_running: int = 32
    max_waiting: int = 64
    step_tokens: int = 512
    prefill_chunk: int = 512
    page_size: int = 16
    stretch: float = 2.0
    burst_seconds: float = 0.12
    prefix_share: float = 0.5
    prefix_cache: bool = True
    speculation: bool = True
    looks_ahead: bool = False
    self_speculation: bool = False
    reuses_output: bool = True

    @property
    def max_requests(self) -> int:
        """Most requests in the engine."""
        return self.max_running + self.max_waiting


def limits_of(
    config: Config,
    *,
    looks_ahead: bool = False,
    reuses_output: bool = True,
    has_light_network: bool = False,
) -> Limits:
    """Return the bounds that the settings say, for a network of these properties."""
    self_speculation = config.self_speculation and has_light_network
    # The tokens that a device would go on with are not known before guesses are judged.
    looks_ahead = looks_ahead and not self_speculation
    return Limits(
        max_running=config.max_running,
        max_waiting=config.max_waiting,
        step_tokens=config.step_tokens,
        prefill_chunk=config.prefill_chunk,
        page_size=PAGE_SIZE,
        stretch=config.step_stretch,
        burst_seconds=config.step_burst_ms / 1e3,
        prefix_share=config.prefix_share,
        prefix_cache=config.prefix_cache,
        # A network that looks ahead already computes the next token unasked.
        speculation=config.speculation and not looks_ahead,
        looks_ahead=looks_ahead,
        self_speculation=self_speculation,
        reuses_output=reuses_output,
    )


def refuse_when_full(request_count: int, limits: Limits) -> None:
    """Raise ResourceExhausted where one more request is one too many."""
    if request_count >= limits.max_requests:
        raise ResourceExhausted(
            f"the engine runs {limits.max_running} and holds {limits.max_waiting} waiting"
            " requests; try again later",
            retry_after=RETRY_AFTER_SECONDS,
        )
