"""Makers of sequences and decoders on the fake model."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_model import VOCABULARY_SIZE, FakeLightNetwork, FakeNetwork, FakeTokenizer

from services.inference.decoding.decoder import Decoder
from services.inference.events import Ended, Token
from services.inference.limits import Limits
from services.inference.request import Context, Priority, Request
from services.inference.sampling.settings import Fixed, Sampling
from services.inference.sequences.sequence import Sequence
from thermesh.testing import FakeClock

# Test processes share the cores; threads of tiny steps would only wait for each other.
torch.set_num_threads(1)


def make_request(prompt: str = "hello", **changes: Any) -> Request:
    """A request with defaults; `request_id`, `priority` go into its context,
    `tenant` too."""
    context = Context(
        request_id=changes.pop("request_id", "req-1"),
        tenant=changes.pop("tenant", "default"),
        priority=changes.pop("priority", Priority.STANDARD),
    )
    values = {"sampling": Sampling(Fixed(1.0)), "seed": 11, "max_tokens": 8, **changes}
    return Request(context=context, prompt_ids=tuple(prompt.encode()), **values)


class Bench:
    """A decoder on the fake model whose results are kept by reader."""

    def __init__(
        self,
        clock: FakeClock,
        pages: int = 64,
        *,
        repeats: bool = False,
        light_noise: float | None = None,
        **limits: int,
    ) -> None:
        self.clock = clock
        self.network = FakeNetwork()
        self.network.repeats = repeats
        if light_noise is not None:
            self.network.light_network = FakeLightNetwork(self.network, light_noise)
        self.decoder = Decoder(self.network, FakeTokenizer(), Limits(**limits), pages, clock)
        self.outcomes: list[Any] = []
        self.telemetry: list[Any] = []
        self.events: dict[Any, list[Any]] = {}
        self.readers: list[Any] = []

    @property
    def light_steps(self) -> int:
        """Steps of the light network."""
        light = self.network.light_network
        return 0 if light is None else light.steps

    def submit(self, prompt: str = "hello", **changes: Any) -> Any:
        """Submit a request, with a `reader` of the test's own or not; return its reader."""
        reader = changes.pop("reader", None) or Reader()
        self.events[reader] = []
        request = make_request(prompt, **changes)
        limit = 512 - len(request.prompt_ids)
        now = self.clock.monotonic()
        self.decoder.submit(Sequence(request, reader, VOCABULARY_SIZE, limit, now))
        return reader

    def step(self, seconds: float = 0.01) -> bool:
        """Take one step; return whether there was work."""
        result = self.decoder.step()
        self.clock.advance(seconds)
        for reader, event in result.events:
            self.events[reader].append(event)
        self.outcomes += [outcome for _, outcome in result.outcomes]
        self.telemetry += result.telemetry
        return result.worked

    def run(self, most: int = 500) -> None:
        """Step until nothing is left to do."""
        for _ in range(most):
            if not self.step():
                return
        raise AssertionError(f"still busy after {most} steps")

    def tokens(self, reader: Any) -> list[Token]:
        """Tokens of a reader so far."""
        return [event for event in self.events[reader] if isinstance(event, Token)]

    def ids(self, reader: Any) -> list[int]:
        """Token ids of a reader so far."""
        return [token.token_id for token in self.tokens(reader)]

    def end(self, reader: Any) -> Ended:
        """The last event of a reader, which must be its end."""
        last = self.events[reader][-1]
        assert isinstance(last, Ended)
        return last


class Reader(SimpleNamespace):
    """A reader that takes nothing until told to."""

    def __init__(self) -> None:
        super().__init__(taken=0, is_cancelled=False)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


@pytest.fixture
def bench(clock: FakeClock) -> Bench:
    """A decoder with room for everything."""
    return Bench(clock)


@pytest.fixture
def make_bench(clock: FakeClock) -> Callable[..., Bench]:
    """Make a decoder with limits of the test's own."""
    return lambda **limits: Bench(clock, **limits)
