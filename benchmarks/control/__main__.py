"""Runs the study, writes its JSON and the table of docs/control-study.md.

python -m benchmarks.control            # 20 seeds, a few minutes on one core
python -m benchmarks.control --seeds 2 --dry-run
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from benchmarks import machine
from benchmarks.control import report, rows


def main() -> None:
    """Run every row, tell of progress, and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="runs of each simulation")
    parser.add_argument("--dry-run", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    began, result = time.monotonic(), {"machine": machine.describe(), "seeds": options.seeds}
    seeds = range(options.seeds)
    parts = {
        **{
            f"learner: {name}": lambda begin=begin: rows.headroom_and_regret(
                [rows.learned(begin(), seed) for seed in seeds]
            )
            for name, begin in rows.LEARNERS.items()
        },
        "moved": lambda: rows.after_a_move(seeds),
        "forgetting": lambda: rows.forgetting(seeds),
        "off_policy": lambda: rows.off_policy(15 * options.seeds),
        "propensities": lambda: rows.propensities(seeds),
        "poisoned": lambda: rows.poisoned(seeds),
        "canaries": lambda: rows.canaries(15 * options.seeds),
    }
    for number, (name, run) in enumerate(parts.items(), 1):
        result[name] = run()
        spent = time.monotonic() - began
        print(f"[{number}/{len(parts)}] {name}: {spent:.0f} s", file=sys.stderr)
    result["seconds"] = round(time.monotonic() - began)
    if options.dry_run:
        print(json.dumps(result, indent=1))
        return
    report.publish(result, report.save(result))


if __name__ == "__main__":
    main()
