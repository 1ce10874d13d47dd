"""Takes the samples: trials first, then rounds in which the contenders take turns.

In its trial every variant of a peer takes one sample, which also warms it up.
The two fastest then represent the peer in this figure, the others rest: two,
because one sample may have met a bad moment. In every
round each contender takes one sample, in an order of that round's own, so that
all share the machine's moods.
"""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from benchmarks.engine.plan import Figure, Sample
from benchmarks.engine.processes import Entrant, Failed, Process, Processes, busy_neighbour
from benchmarks.engine.results import Results

SETTLE_SECONDS = 0.5
"""Between two samples: the threads of the one before stop spinning. OpenMP runtimes wait for
200 ms (KMP_BLOCKTIME)."""
REPRESENTATIVES = 2
FOOTPRINT_CONTEXT = {"context": 128, "steps": 64}
Tell = Callable[[str], None]


def order(names: Iterable[str], figure: str, round_number: int) -> list[str]:
    """Return the order of one round; the same one when a run goes on later."""
    ordered = sorted(names)
    random.Random(f"{figure} {round_number}").shuffle(ordered)
    return ordered


def representatives(
    entrants: Sequence[Entrant], trials: dict[str, Sample], *, is_rate: bool
) -> list[Entrant]:
    """Return the entrants whose trials were best in their group; none of those that failed."""
    groups: dict[str, list[Entrant]] = {}
    for entrant in entrants:
        if entrant.name in trials:
            groups.setdefault(entrant.group, []).append(entrant)
    return [
        entrant
        for group in groups.values()
        for entrant in sorted(
            group, key=lambda entrant: _value(trials[entrant.name]), reverse=is_rate
        )[:REPRESENTATIVES]
    ]


def takes_part(entrant: Entrant, figure: Figure) -> bool:
    """Whether a peer's variant enters a figure."""
    return figure.has_peers and (figure.has_neighbour or not entrant.is_one_thread)


class Runner:
    """One slice of a run: it goes through figures until done or out of time."""

    def __init__(
        self,
        results: Results,
        processes: Processes,
        *,
        peers: Sequence[Entrant],
        ours: Callable[[Figure], list[Entrant]],
        seconds: float,
        tell: Tell,
    ) -> None:
        self._results = results
        self._processes = processes
        self._peers = peers
        self._ours = ours
        self._began = time.monotonic()
        self._seconds = seconds
        self._tell = tell
        self._taken: Counter[str] = Counter()

    def run(self, figures: Iterable[Figure]) -> bool:
        """Take what is missing; return whether all is there now."""
        self._results.begin_slice()
        try:
            return all(self._figure(figure) for figure in figures)
        finally:
            self._results.end_slice(self._elapsed(), self._taken)

    def _figure(self, figure: Figure) -> bool:
        entrants = [
            *self._ours(figure),
            *(peer for peer in self._peers if takes_part(peer, figure)),
        ]
        if self._is_done(figure, entrants):
            return True
        self._results.claim(figure.name)
        tried = entrants if figure.has_trial else []
        if not all(self._try(figure, entrant) for entrant in tried):
            return False
        return self._rounds(figure, {each.name: each for each in self._chosen(figure, entrants)})

    def _is_done(self, figure: Figure, entrants: list[Entrant]) -> bool:
        """Whether nothing is missing: a figure that is done needs no process."""
        is_tried = not figure.has_trial or all(self._was_tried(figure, each) for each in entrants)
        return is_tried and all(
            self._results.has_failed(figure.name, each.name)
            or self._results.count(figure.name, each.name) >= figure.rounds
            for each in self._chosen(figure, entrants)
        )

    def _was_tried(self, figure: Figure, entrant: Entrant) -> bool:
        known = self._results.trial(figure.name, entrant.name) is not None
        return known or self._results.has_failed(figure.name, entrant.name)

    def _chosen(self, figure: Figure, entrants: list[Entrant]) -> list[Entrant]:
        """Return who takes part in the rounds: after trials, the best of each group."""
        if not figure.has_trial:
            return entrants
        trials = {
            entrant.name: trial
            for entrant in entrants
            if (trial := self._results.trial(figure.name, entrant.name)) is not None
        }
        return representatives(entrants, trials, is_rate=figure.is_rate)

    def _try(self, figure: Figure, entrant: Entrant) -> bool:
        """Take the trial of an entrant if it had none; return whether there was time."""
        if self._was_tried(figure, entrant):
            return True
        return self._sample(figure, entrant, self._results.add_trial)

    def _rounds(self, figure: Figure, chosen: dict[str, Entrant]) -> bool:
        for number in range(figure.rounds):
            for name in order(chosen, figure.name, number):
                is_missing = self._results.count(figure.name, name) <= number
                if self._results.has_failed(figure.name, name) or not is_missing:
                    continue
                if not self._sample(figure, chosen[name], self._results.add):
                    return False
        return True

    def _sample(
        self, figure: Figure, entrant: Entrant, keep: Callable[[str, str, Sample], None]
    ) -> bool:
        """Take one sample; return False where the time was up before."""
        if self._elapsed() >= self._seconds:
            return False
        try:
            sample = self._asked(figure, entrant)
        except Failed as failed:
            self._results.fail(figure.name, entrant.name, str(failed))
            self._processes.end(entrant)
            self._tell(f"{figure.name}: {entrant.name} failed: {failed}")
            return True
        keep(figure.name, entrant.name, sample)
        self._taken[figure.name] += 1
        self._tell(f"{figure.name}: {entrant.name} {shown(sample)}")
        return True

    def _asked(self, figure: Figure, entrant: Entrant) -> Sample:
        if figure.is_fresh:
            return _footprint(entrant)
        process = self._processes.of(entrant)
        self._results.describe(entrant.name, process.ask("describe"))
        time.sleep(SETTLE_SECONDS)
        with busy_neighbour() if figure.has_neighbour else contextlib.nullcontext():
            return process.ask(figure.call, **figure.arguments)

    def _elapsed(self) -> float:
        return time.monotonic() - self._began


def shown(sample: Sample) -> str:
    """Return a sample in a few characters."""
    if isinstance(sample, dict):
        return ", ".join(f"{name} {value:.4g}" for name, value in sample.items())
    return f"{_value(sample):.4g}"


def _footprint(entrant: Entrant) -> Sample:
    process = Process(entrant)
    try:
        process.ask("decode", **FOOTPRINT_CONTEXT)
        return process.ask("footprint")
    finally:
        process.close()


def _value(sample: Sample) -> float:
    """Return what samples of a trial are compared by: of named values the first."""
    if isinstance(sample, dict):
        return next(iter(sample.values()))
    return statistics.median(sample) if isinstance(sample, list) else sample
