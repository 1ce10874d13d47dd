"""Decodes all arms of a prompt at once, through the engine's own decoder and kernels.

All arms of one sample draw with the same random numbers (seed and token index, as the
engine does). As long as two arms draw the same tokens they are at the same place and
one forward pass serves both; where they part, the smaller group goes on as a request
of its own whose prompt ends with what both wrote. The answers are those that each arm
would have given alone; the cost is that of the tree, not of the sum of its branches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.policy.arms import Arm, View
from services.inference.decoding.decoder import Decoder
from services.inference.request import Context, Priority, Request
from services.inference.sampling.sampler import Drawn, random_unit
from services.inference.sampling.settings import DEFAULT
from services.inference.sequences.sequence import Sequence as Decoding


@dataclass(frozen=True)
class Leaf:
    """One answer: the arms that gave it, and of each token id, log-probability, entropy."""

    arms: tuple[int, ...]
    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    entropies: tuple[float, ...]


@dataclass
class Run:
    """One prompt and sample under all arms; `open_count` branches are not finished."""

    key: str
    prompt_ids: tuple[int, ...]
    seed: int
    cap: int
    arms: Sequence[Arm]
    active: tuple[int, ...]
    open_count: int = 1
    leaves: list[Leaf] = field(default_factory=list)
    states: dict[int, Any] = field(default_factory=dict)
    temperatures: dict[int, float] = field(default_factory=lambda: defaultdict(float))


@dataclass(eq=False)
class Branch:
    """Arms at one place of a run; the reader of its sequence, which takes all at once."""

    run: Run
    so_far: Leaf
    taken: int = 1 << 30


class TreeDecoder(Decoder):
    """The engine's decoder with a draw for every arm in place of one for every sequence."""

    end_ids: frozenset[int] = frozenset()
    vocabulary_size: int = 0
    forward_count: int = 0
    token_count: int = 0
    finished: list[Run]

    def begin(self, run: Run) -> None:
        """Start a run with all arms at one place."""
        self._open(Branch(run, Leaf(run.active, (), (), ())), Priority.STANDARD)

    def _open(self, branch: Branch, priority: Priority) -> None:
        run, known = branch.run, branch.so_far.tokens
        request = Request(
            Context(f"{run.key}/{id(branch)}", priority=priority),
            run.prompt_ids + known,
            DEFAULT,
            run.seed,
            max_tokens=run.cap - len(known),
        )
        limit = run.cap - len(known)
        self.submit(Decoding(request, branch, self.vocabulary_size, limit, 0.0))

    def _sample(self, drawable: list[Decoding]) -> list[tuple[Decoding, Drawn | None]]:
        return [(sequence, self._grown(sequence)) for sequence in drawable]

    def _grown(self, sequence: Decoding) -> Drawn:
        """Draw for all arms of a branch; the largest group keeps the sequence."""
        branch = sequence.reader
        assert isinstance(branch, Branch)
        run, known = branch.run, branch.so_far
        view = View(np.asarray(sequence.logits, dtype=np.float32))
        unit = random_unit(run.seed, len(known.tokens))
        groups: dict[int, list[int]] = defaultdict(list)
        for index in known.arms:
            token, temperature, state = run.arms[index].draw(view, unit, run.states.get(index))
            run.states[index] = state
            run.temperatures[index] += temperature
            groups[token].append(index)
        self.forward_count += 1
        self.token_count += len(known.arms)
        run.open_count += len(groups) - 1
        largest = max(groups, key=lambda token: len(groups[token]))
        for token, arms in groups.items():
            leaf = _longer(known, arms, token, view)
            is_over = token in self.end_ids or len(leaf.tokens) == run.cap
            if token == largest:
                branch.so_far = leaf
            if is_over:
                self._close(run, leaf)
            elif token != largest:
                self._open(Branch(run, leaf), Priority.INTERACTIVE)
        return Drawn(largest, 1.0, view.entropy, 0.0, view.log_probability(largest))

    def _close(self, run: Run, leaf: Leaf) -> None:
        run.leaves.append(leaf)
        run.open_count -= 1
        if run.open_count == 0:
            self.finished.append(run)


def _longer(known: Leaf, arms: list[int], token: int, view: View) -> Leaf:
    return Leaf(
        tuple(arms),
        (*known.tokens, token),
        (*known.log_probabilities, view.log_probability(token)),
        (*known.entropies, view.entropy),
    )
