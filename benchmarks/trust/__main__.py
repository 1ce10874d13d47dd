"""Measures what the control loop withstands, and writes the tables of docs/trust.md.

python -m benchmarks.trust attacks              # turned-round feedback, 20 seeds
python -m benchmarks.trust report               # only the tables, from what is stored
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

from benchmarks import machine
from benchmarks.trust import attacks, report

PARTS: dict[str, Callable[[argparse.Namespace], dict[str, object]]] = {
    "attacks": lambda options: attacks.measured(range(options.seeds)),
}


def main() -> None:
    """Run one part, store it as JSON, and write the tables anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=[*PARTS, "report"])
    parser.add_argument("--seeds", type=int, default=20, help="runs of each simulation")
    parser.add_argument("--dry-run", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    if options.part != "report":
        began = time.monotonic()
        found = PARTS[options.part](options)
        result = {"machine": machine.describe(), **found}
        result["seconds"] = round(time.monotonic() - began, 1)
        if options.dry_run:
            print(json.dumps(result, indent=1))
            return
        report.save(options.part, result)
    report.publish()


if __name__ == "__main__":
    main()
