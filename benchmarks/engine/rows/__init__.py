"""The rows of the table, each a module. Add one to `ROWS` and it is measured,
judged and published with the others.
"""

from __future__ import annotations

from benchmarks.engine.plan import Row
from benchmarks.engine.rows import (
    aggregate,
    decode,
    fidelity,
    first_token,
    footprint,
    gap,
    neighbour,
    prefill,
)

ROWS: dict[int, Row] = {
    row.number: row
    for row in (
        decode.ROW,
        prefill.ROW,
        aggregate.ROW,
        neighbour.ROW,
        fidelity.ROW,
        first_token.ROW,
        gap.ROW,
        footprint.ROW,
    )
}
