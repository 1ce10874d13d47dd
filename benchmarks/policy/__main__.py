"""Which decoding policy earns what on verifiable tasks: collect, replay, report.

thermesh bench policy                    # replay the stored matrix: JSON, figures, page
thermesh bench policy collect            # decode what is missing through the engine
thermesh bench policy residual           # the same for the token-level residual
thermesh bench policy pack               # judge the answers: the matrix
thermesh bench policy prior              # the prior of a new installation
thermesh bench policy live               # a few hundred requests through a running mesh
thermesh bench policy tune               # search for better static parameters (Optuna)
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import pathlib
import random
import sys
from typing import Any

from benchmarks import machine
from benchmarks.kept import Kept
from benchmarks.policy import exports, figures, live, prior, report, residual, tune
from benchmarks.policy.arms import ARMS
from benchmarks.policy.collect import MODEL, cells, collect, records
from benchmarks.policy.families import FAMILIES
from benchmarks.policy.matrix import Judge, Matrix, packed, stock_of
from benchmarks.policy.study import Study
from services.inference.models import load
from thermesh import __version__, models

RESULTS = machine.ROOT / "benchmarks" / "results"
MATRIX, RESIDUAL = RESULTS / "policy-matrix.npz", RESULTS / "policy-residual.npz"
TUNED = RESULTS / "policy-tuned.json"
STUDY, LIVE = RESULTS / "policy-study.json", RESULTS / "policy-live.json"
SAMPLES = 2


def tell(line: str) -> None:
    """Show progress."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Do one step of the study."""
    arguments = parser().parse_args()
    STEPS[arguments.step](arguments)


def parser() -> argparse.ArgumentParser:
    """Return the parser of all steps."""
    found = argparse.ArgumentParser(
        "thermesh bench policy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("step", nargs="?", default="replay", choices=list(STEPS))
    found.add_argument(
        "--answers",
        type=pathlib.Path,
        default=pathlib.Path("build/policy-study"),
        help="folder of the answers that were decoded",
    )
    found.add_argument("--seconds", type=float, default=1e9, help="decode for at most so long")
    found.add_argument("--shard", default="0/1", help="decode this part of the prompts, e.g. 0/2")
    found.add_argument("--seeds", type=int, default=20, help="runs of each learner")
    found.add_argument("--trials", type=int, default=60, help="tune: trials in all, with old ones")
    found.add_argument(
        "--result", type=pathlib.Path, default=TUNED, help="tune: where to write what was found"
    )
    found.add_argument("--dry-run", action="store_true", help="print the JSON, write nothing")
    found.add_argument("--address", default="http://127.0.0.1:8080", help="REST door of the mesh")
    found.add_argument("--requests", type=int, default=300, help="requests of a live run")
    found.add_argument("--tensorboard", metavar="FOLDER", help="write the curves there too")
    found.add_argument("--wandb", metavar="PROJECT", help="log the curves to Weights & Biases too")
    return found


def collect_answers(arguments: argparse.Namespace) -> None:
    """Decode every prompt under every arm; what is there is not decoded again."""
    index, count = (int(part) for part in arguments.shard.split("/"))
    path = arguments.answers / f"answers-{index}.jsonl"
    arms = {family.name: ARMS for family in FAMILIES}
    is_done = collect(path, arms, cells(SAMPLES)[index::count], arguments.seconds)
    tell("complete" if is_done else "not complete: run it again")


def collect_residual(arguments: argparse.Namespace) -> None:
    """Decode the token-level residual and its controls, with temperatures from the matrix."""
    arms = residual.arms_of(Matrix.load(MATRIX), _answers(arguments))
    keys = [(family.name, prompt, 0) for family in FAMILIES for prompt in residual.PROMPTS]
    random.Random(3).shuffle(keys)
    is_done = collect(arguments.answers / "residual.jsonl", arms, keys, arguments.seconds)
    tell("complete" if is_done else "not complete: run it again")


def pack(arguments: argparse.Namespace) -> None:
    """Judge all answers and store the matrices."""
    path = models.locate(MODEL.name)
    tokenizer = load(path, MODEL.name).tokenizer
    judge = Judge(
        lambda ids: b"".join(map(tokenizer.token_bytes, ids)).decode("utf-8", "replace"),
        tokenizer.end_ids,
    )
    about = {
        "version": __version__,
        "commit": machine.git("rev-parse", "--short=12", "HEAD"),
        "model": MODEL.name,
        "model_sha256": MODEL.files[0].sha256,
        "machine": machine.processor(),
    }
    answers = list(_answers(arguments))
    stock = stock_of(judge, answers)
    packed(answers, [arm.name for arm in ARMS], judge, SAMPLES, about=about, stock=stock).save(
        MATRIX
    )
    others = list(records(arguments.answers / "residual.jsonl"))
    if others:
        packed(others, residual.names(), judge, 1, about=about, stock=stock).save(RESIDUAL)
    tell(f"{len(answers)} and {len(others)} trees of answers judged")


def make_prior(arguments: argparse.Namespace) -> None:
    """Write the prior that ships with the controller."""
    del arguments
    prior.write(Matrix.load(MATRIX))
    tell(f"{prior.PATH.relative_to(machine.ROOT)} written")


def replay(arguments: argparse.Namespace) -> None:
    """Replay all learners and publish: JSON, figures, the page. Goes on where it stopped."""
    matrix, digest = Matrix.load(MATRIX), hashlib.sha256(MATRIX.read_bytes()).hexdigest()
    kept = Kept(arguments.answers / "replay.json", f"{digest} {arguments.seeds}")
    found: dict[str, Any] = {
        "machine": machine.describe(),
        "seeds": arguments.seeds,
        "matrix": {name: each for name, each in matrix.about.items() if name != "stock"},
        **Study(matrix, arguments.seeds, tell).run(kept),
    }
    if RESIDUAL.exists():
        found["residual"] = residual.row(Matrix.load(RESIDUAL))
    if arguments.dry_run:
        print(json.dumps(found, indent=1))
        return
    STUDY.write_text(json.dumps(found, indent=1) + "\n")
    publish(arguments)
    exports.export(found, arguments.tensorboard, arguments.wandb)


def publish(arguments: argparse.Namespace) -> None:
    """Draw the figures and write the page from the stored JSON."""
    del arguments
    found = json.loads(STUDY.read_text())
    if LIVE.exists():
        found["live"] = json.loads(LIVE.read_text())
    figures.draw(found, Matrix.load(MATRIX))
    report.publish(found)


def run_live(arguments: argparse.Namespace) -> None:
    """Ask a running mesh, judge its answers and send feedback; again until all were asked."""
    options = live.Options(arguments.requests, arguments.seconds)
    path = arguments.answers / "live.jsonl"
    found = asyncio.run(live.run(arguments.address, Matrix.load(MATRIX), path, options, tell))
    LIVE.write_text(json.dumps({"machine": machine.describe(), **found}, indent=1) + "\n")
    tell(json.dumps(found["against_static"]))


def tune_statics(arguments: argparse.Namespace) -> None:
    """Search for better static parameters; goes on where it was left."""
    matrix, storage = Matrix.load(MATRIX), arguments.answers / "tune.journal"
    found = tune.tuned(matrix, arguments.trials, storage, tell)
    found = {"machine": machine.describe(), **found}
    arguments.result.write_text(json.dumps(found, indent=1) + "\n")
    tell(json.dumps(found["other_seeds"]))


def _answers(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    paths = sorted(arguments.answers.glob("answers-*.jsonl"))
    return [record for path in paths for record in records(path)]


STEPS = {
    "replay": replay,
    "collect": collect_answers,
    "residual": collect_residual,
    "pack": pack,
    "prior": make_prior,
    "publish": publish,
    "live": run_live,
    "tune": tune_statics,
}

if __name__ == "__main__":
    main()
