"""What guesses without a draft model bring: two decoders on one network, one of which guesses."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time

from benchmarks.engine.ours.thermesh import PAGES, Stream, Thermesh
from services.inference.config import Config
from services.inference.cores import physical_cores
from services.inference.decoding.decoder import Decoder
from services.inference.decoding.warmup import warm_up
from services.inference.events import Ended, Token
from services.inference.limits import limits_of
from services.inference.request import Context, Request
from services.inference.sampling.settings import Fixed, Sampling
from services.inference.sequences.sequence import Sequence
from thermesh.clock import SystemClock
from thermesh.settings import from_env

TOKENS = 96
PASSAGE = """The harbour of Ostrava Bay was built in 1887 by the engineer Milan Dvorak. It has
three basins: the northern one serves fishing boats, the middle one ferries to the islands
of Kresta and Belun, and the southern one, dredged in 1954, takes grain ships of up to
28,000 tonnes. Storms closed the harbour eleven times in the last century; the longest
closure, in February 1962, lasted nineteen days. Since 2003 a museum in the old customs
house shows charts, lamps and the logbooks of the pilots."""
TEXTS = {
    "copying": (
        f"Repeat the following text word for word, and nothing else:\n\n{PASSAGE}",
        "Copy this list exactly:\n\n" + "\n".join(f"{n}. item number {n * 37}" for n in range(30)),
        f"Write this text again with no changes:\n\n{PASSAGE[:330]}",
    ),
    "free": (
        "Tell me a story about a lighthouse keeper who learns to paint.",
        "Explain why the sky is blue to a ten-year-old child.",
        "Describe what a good morning in a small mountain village is like.",
    ),
}
_numbers = itertools.count()


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one request gave, and the seconds from its first token to its last."""

    token_ids: tuple[int, ...]
    seconds: float
    drafted: int
    accepted: int


def rates(contender: Thermesh, text: str, temperature: float) -> dict[str, float]:
    """Return tokens per second with guesses and without, over all texts of a kind.

    `same` is 1 where every pair of answers has the same tokens.
    """
    decoders = [_decoder(contender, guesses) for guesses in (True, False)]
    order = [0, 1] if contender.draw.random() < 0.5 else [1, 0]
    pairs: list[dict[int, Answer]] = []
    for prompt in TEXTS[text]:
        found = {each: _answer(contender, decoders[each], prompt, temperature) for each in order}
        pairs.append(found)
    seconds = [sum(pair[each].seconds for pair in pairs) for each in (0, 1)]
    tokens = len(pairs) * (TOKENS - 1)
    return {
        "with": tokens / seconds[0],
        "without": tokens / seconds[1],
        "same": float(all(pair[0].token_ids == pair[1].token_ids for pair in pairs)),
    }


def accepted(contender: Thermesh, text: str, temperature: float) -> dict[str, float]:
    """Return how many tokens were guessed and how many of them drawn."""
    decoder, seed = _decoder(contender, True), contender.draw.randrange(1 << 30)
    found = [_answer(contender, decoder, each, temperature, seed) for each in TEXTS[text]]
    return {
        "accepted": sum(answer.accepted for answer in found),
        "drafted": sum(answer.drafted for answer in found),
    }


@functools.cache
def _decoder(contender: Thermesh, guesses: bool) -> Decoder:
    limits = dataclasses.replace(limits_of(from_env(Config)), speculation=guesses)
    model = contender.model
    decoder = Decoder(model.network, model.tokenizer, limits, PAGES, SystemClock())
    decoder.use_threads(physical_cores())
    warm_up(decoder, model.config.vocabulary_size, model.config.context_length)
    return decoder


def _answer(
    contender: Thermesh, decoder: Decoder, prompt: str, temperature: float, seed: int = 1
) -> Answer:
    model = contender.model
    ids = tuple(model.tokenizer.encode_chat([("user", prompt)]))
    request = Request(
        context=Context(request_id=f"answer-{next(_numbers)}"),
        prompt_ids=ids,
        sampling=Sampling(Fixed(temperature)),
        seed=seed,
        max_tokens=TOKENS,
        ignore_end_of_sequence=True,
    )
    limit = model.config.context_length - len(ids)
    sequence = Sequence(request, Stream(), model.config.vocabulary_size, limit, time.monotonic())
    decoder.submit(sequence)
    came: dict[int, float] = {}
    while True:
        events = [event for _, event in decoder.step().events]
        now = time.perf_counter()
        came |= {event.index: now for event in events if isinstance(event, Token)}
        if any(isinstance(event, Ended) for event in events):
            break
    account = sequence.account
    seconds = came[TOKENS - 1] - came[0]
    return Answer(
        tuple(sequence.output_ids), seconds, account.drafted_count, account.accepted_count
    )
