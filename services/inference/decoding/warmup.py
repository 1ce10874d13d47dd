"""What the engine computes before the first request, for nobody.

The first steps of a process are slow: memory is touched for the first time,
libraries choose their code and start their threads. The first user need not
wait for that, and the pace of steps is known when prompts first meet decoding
sequences. Nor need the first who copies: what guesses add to a step is
rehearsed.
"""

from __future__ import annotations

from services.inference.decoding.decoder import Decoder
from services.inference.request import Context, Request
from services.inference.sampling.settings import DEFAULT
from services.inference.sequences.sequence import Sequence

PROMPT_TOKENS = 64
ANSWER_TOKENS = 5
ROUNDS = 2
"""The first is slow and teaches what a decode step takes, the second what a
prompt token adds to it."""

REHEARSED_GUESSES = (1, 3, 7, 15) * 2


class _Nobody:
    taken = 0
    is_cancelled = False


def warm_up(decoder: Decoder, vocabulary_size: int, token_capacity: int) -> None:
    """Decode short answers and forget them; the decoder must be idle."""
    prompt_tokens = min(PROMPT_TOKENS, token_capacity - ANSWER_TOKENS)
    for _ in range(ROUNDS if prompt_tokens > 0 else 0):
        _decode(decoder, vocabulary_size, prompt_tokens, ANSWER_TOKENS)
    if prompt_tokens + sum(REHEARSED_GUESSES) < token_capacity:
        decoder.scheduler.speculation.rehearse(REHEARSED_GUESSES)
        _decode(decoder, vocabulary_size, prompt_tokens, 1 + len(REHEARSED_GUESSES))
        decoder.scheduler.speculation.rehearse(())


def _decode(decoder: Decoder, vocabulary_size: int, prompt_tokens: int, tokens: int) -> None:
    reader = _Nobody()
    request = _request(prompt_tokens, tokens)
    sequence = Sequence(request, reader, vocabulary_size, tokens, 0.0)
    sequence.cached_prompt_tokens = 0  # counts for no statistics
    decoder.submit(sequence)
    while decoder.step().worked:
        decoder.scheduler.distrust(sequence)
    decoder.cancel(reader)
    decoder.take_result()


def _request(prompt_tokens: int, tokens: int) -> Request:
    return Request(
        context=Context(request_id="warm-up"),
        prompt_ids=(0,) * prompt_tokens,
        sampling=DEFAULT,
        seed=0,
        max_tokens=tokens,
        ignore_end_of_sequence=True,
    )
