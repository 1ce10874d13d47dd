"""Measures what the control loop withstands, and writes the tables of docs/trust.md.

python -m benchmarks.trust attacks              # turned-round feedback, 20 seeds; resumable
python -m benchmarks.trust canary               # trials with and without a drop; resumable
python -m benchmarks.trust propensities         # logged chances against those of the draws
python -m benchmarks.trust delivery --count 25000 --folder F   # again with F: goes on
python -m benchmarks.trust soak                 # 100,000 changes of running streams
python -m benchmarks.trust costs                # feedback to policy, and one decision
python -m benchmarks.trust replay               # answers of a running mesh, decoded again
python -m benchmarks.trust report               # only the tables, from what is stored
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import pathlib
import sys
import time
from collections.abc import Callable

from benchmarks import machine
from benchmarks.kept import Kept, Steps, computed
from benchmarks.trust import (
    attacks,
    canary,
    costs,
    delivery,
    propensities,
    replays,
    report,
    soak,
    users,
)


def _stepwise(options: argparse.Namespace, steps: Steps) -> dict[str, object]:
    """Compute the steps that `folder` does not hold yet."""
    digest = hashlib.sha256(users.MATRIX.read_bytes()).hexdigest()
    kept = Kept(options.folder / f"{options.part}.json", f"{digest} {options.seeds}")
    found = computed(steps, kept, lambda line: print(line, file=sys.stderr, flush=True))
    return {**found, "seconds": round(kept.seconds, 1)}


def _delivered(options: argparse.Namespace) -> dict[str, object]:
    """Run one slice on top of those that `folder` holds; their figures come along."""
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / "slices.json"
    slices = json.loads(path.read_text()) if path.exists() else []
    kills = max(1, options.count * 2 // 256 // 10)
    load = delivery.Load(options.count, kills=kills, restarts=2, seed=len(slices) + 1)
    slices.append(delivery.measured(load, options.folder))
    path.write_text(json.dumps(slices))
    return {"slices": slices}


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, object]]] = {
    "attacks": lambda options: _stepwise(options, attacks.steps(range(options.seeds))),
    "canary": lambda options: _stepwise(options, canary.steps(15 * options.seeds)),
    "soak": lambda options: soak.measured(5000 * options.seeds),
    "propensities": lambda options: propensities.measured(1000 * options.seeds),
    "delivery": _delivered,
    "costs": lambda options: {
        "decision": costs.decisions(),
        "freshness": costs.freshness(options.samples, others_per_second=20.0),
        "rollback": costs.rollbacks(5),
    },
    "replay": lambda options: asyncio.run(
        replays.measured(options.gateway, options.inference, options.requests)
    ),
}


def main() -> None:
    """Run one part, store it as JSON, and write the tables anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=[*PARTS, "report"])
    parser.add_argument("--seeds", type=int, default=20, help="runs of each simulation")
    parser.add_argument("--count", type=int, default=10_000, help="feedback of a delivery")
    parser.add_argument("--samples", type=int, default=200, help="of feedback to policy")
    parser.add_argument(
        "--folder",
        type=pathlib.Path,
        default=pathlib.Path("build/trust"),
        help="of steps that are done",
    )
    parser.add_argument("--gateway", default="127.0.0.1:50050", help="gRPC door, for replay")
    parser.add_argument("--inference", default="127.0.0.1:50053", help="engine, for replay")
    parser.add_argument("--requests", type=int, default=245, help="answers to replay")
    parser.add_argument("--dry-run", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    if options.part != "report":
        began = time.monotonic()
        found = PARTS[options.part](options)
        result = {"machine": machine.describe(), **found}
        result.setdefault("seconds", round(time.monotonic() - began, 1))
        if options.dry_run:
            print(json.dumps(result, indent=1))
            return
        report.save(options.part, result)
    report.publish()


if __name__ == "__main__":
    main()
