"""What the engine computes before the first request, for nobody.

The first steps of a process are slow: memory is touched for the first time,
libraries choose their code and start their threads. The first user need not
wait for that, and the pace of steps is known when prompts first meet decoding
sequences.
"""

from __future__ import annotations

from services.inference.decoder import Decoder
from services.inference.request import Context, Request
from services.inference.sampling import DEFAULT
from services.inference.sequence import Sequence

PROMPT_TOKENS = 64
ANSWER_TOKENS = 5
ROUNDS = 2
"""The first is slow and teaches what a decode step takes, the second what a
prompt token adds to it."""


class _Nobody:
    taken = 0


def warm_up(decoder: Decoder, vocabulary_size: int, token_capacity: int) -> None:
    """Decode short answers and forget them; the decoder must be idle."""
    prompt_tokens = min(PROMPT_TOKENS, token_capacity - ANSWER_TOKENS)
    for _ in range(ROUNDS if prompt_tokens > 0 else 0):
        reader = _Nobody()
        sequence = Sequence(_request(prompt_tokens), reader, vocabulary_size, ANSWER_TOKENS, 0.0)
        sequence.cached_prompt_tokens = 0  # counts for no statistics
        decoder.submit(sequence)
        while decoder.step().worked:
            decoder.scheduler.distrust(sequence)
        decoder.cancel(reader)
        decoder.take_result()


def _request(prompt_tokens: int) -> Request:
    return Request(
        context=Context(request_id="warm-up"),
        prompt_ids=(0,) * prompt_tokens,
        sampling=DEFAULT,
        seed=0,
        max_tokens=ANSWER_TOKENS,
        ignore_end_of_sequence=True,
    )
