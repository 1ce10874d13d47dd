"""The rows of the table, each a module or a part of one. Add one to `ROWS` and it is
measured, judged and published with the others.
"""

from __future__ import annotations

from benchmarks.engine.plan import Row
from benchmarks.engine.rows import (
    aggregate,
    company,
    decode,
    fidelity,
    first_token,
    footprint,
    gap,
    long_context,
    mix,
    neighbour,
    prefill,
    speculation,
)

ROWS: dict[int, Row] = {
    row.number: row
    for row in (
        decode.ROW,
        prefill.ROW,
        aggregate.ROW,
        neighbour.ROW,
        fidelity.ROW,
        long_context.DECODING,
        long_context.PROMPTS,
        long_context.MEMORY,
        first_token.ROW,
        gap.ROW,
        mix.ROW,
        speculation.ROW,
        footprint.ROW,
        company.ROW,
    )
}
