"""Measure the front doors under load, row by row.

    thermesh bench load                       # every row but idle, about 15 minutes
    thermesh bench load first tokens          # two of them
    thermesh bench load first --rounds 2      # fewer rounds than the row's own number
    thermesh bench load idle                  # ten minutes of silence; needs nginx
    thermesh bench load report                # only the tables, from what is stored

A row starts a mesh of its own on free ports. Every round is stored as soon as it is
measured, and a row that has some goes on with the next: on the same machine and
commit, that is; --anew begins again.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

from benchmarks import machine
from benchmarks.load import report
from thermesh.process import new_event_loop, settle_memory


async def measure(name: str, rounds: int, *, anew: bool) -> None:
    """Measure the rounds of a row that are still missing."""
    row = report.row(name)
    result = report.begun(name, machine.describe(), anew=anew)
    missing = range(len(result["rounds"]), rounds or row.ROUNDS)
    if not missing:
        return
    async with row.opened() as bench:
        settle_memory()  # as the rooms do: a stop of the client looks like one of theirs
        for number in missing:
            began = time.monotonic()
            found: dict[str, Any] = await bench.round(number)
            result["rounds"].append(found)
            result["seconds"].append(round(time.monotonic() - began, 1))
            report.save(name, result)


def main() -> None:
    """Measure the rows that were asked for, and write the tables anew."""
    parser = argparse.ArgumentParser(
        prog="thermesh bench load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rows", nargs="*", choices=[*report.ROWS, "report", []], default=[])
    parser.add_argument("--rounds", type=int, default=0, help="0: the row's own number")
    parser.add_argument("--anew", action="store_true", help="forget the rounds that are stored")
    options = parser.parse_args()
    rows = options.rows or [name for name in report.ROWS if name != "idle"]
    for name in rows:
        if name != "report":
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(measure(name, options.rounds, anew=options.anew))
            print(report.text(name), flush=True)
    report.publish()


if __name__ == "__main__":
    main()
