"""Quantise a model: `python -m services.inference.quantise`, which `thermesh quantize` runs."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from typing import Any

import torch

from services.inference.models.group_codes import GroupFormat
from services.inference.quantise import devices, texts
from services.inference.quantise import search as searching
from services.inference.quantise.search import LAYOUT, Options, Search
from services.inference.quantise.source import Source
from services.inference.quantise.workplace import Workplace
from thermesh.errors import InvalidArgument, MeshError
from thermesh.models import locate


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    found = argparse.ArgumentParser("thermesh quantize", description=__doc__)
    found.add_argument("model", help="packaged name, or a GGUF file")
    found.add_argument(
        "output",
        type=pathlib.Path,
        help="the .gguf file to write, or a .json precision plan for a GPU",
    )
    found.add_argument("--bits", type=float, default=4.0, help="a weight, on average (default 4)")
    found.add_argument(
        "--curve", default="", metavar="BITS,...", help="measure these too, for the report"
    )
    found.add_argument("--threads", type=int, default=1, help="cores to compute on (default 1)")
    for name, value in vars(Options()).items():
        found.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    arguments = parser().parse_args(argv)
    try:
        _run(arguments)
    except MeshError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _run(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    options = Options(**{name: getattr(arguments, name) for name in vars(Options())})
    source = Source(locate(arguments.model))
    workplace = _workplace(arguments.output, source, options)
    if arguments.output.suffix == ".json":
        _plan(arguments, Search(source, options, workplace, show))
        workplace.remove()
        return
    search = Search(source, options, workplace, show)
    checks = search.checks()
    curve = sorted({arguments.bits, *map(float, filter(None, arguments.curve.split(",")))})
    points = {bits: searching.point(search, workplace, bits) for bits in curve}
    chosen = points[arguments.bits]
    if "chosen" not in chosen:
        raise InvalidArgument(f"nothing fits {arguments.bits:g} bits a weight", field="bits")
    formats = chosen[chosen["chosen"]]["formats"]
    mix = {name: GroupFormat(*form) for name, form in formats.items()}
    factor = chosen[chosen["chosen"]]["temperature"]["factor"]
    source.write(arguments.output, mix, lambda name: search.rows_of(name, mix[name]), factor)
    report = _report(source, options, checks, list(points.values()))
    pathlib.Path(f"{arguments.output}.json").write_text(json.dumps(report, indent=1) + "\n")
    workplace.remove()
    _tell(arguments.output, report, chosen)


def _plan(arguments: argparse.Namespace, search: Search) -> None:
    """Write a precision plan, and tell what it should cost."""
    source = search.source
    found = devices.choices(source, search.curvature, lambda done, of: show("products", done, of))
    weights = sum(rows * columns for rows, columns in source.matrices.values())
    plan = devices.plan(source, found, int(weights * arguments.bits / 8))
    arguments.output.write_text(plan.to_json() + "\n", encoding="utf-8")
    sys.stdout.write(
        f"{arguments.output}: {plan.bytes / 1e6:.1f} MB, expected KL {plan.expected_kl:.5f}\n"
    )


def _workplace(output: pathlib.Path, source: Source, options: Options) -> Workplace:
    if output.suffix not in {".gguf", ".json"} or not output.absolute().parent.is_dir():
        raise InvalidArgument(
            "output must be a .gguf or .json file in a folder that is there", field="output"
        )
    state = source.path.stat()
    state_told = {"bytes": state.st_size, "written": state.st_mtime_ns}
    fingerprint = {"layout": LAYOUT, **state_told, **vars(options)}
    return Workplace(output.with_name(f".{output.name}.work"), fingerprint)


def _report(
    source: Source,
    options: Options,
    checks: list[tuple[str, float, float]],
    points: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "model": source.path.name,
        "texts": texts.SOURCE,
        "options": vars(options),
        "checks": [dict(zip(("matrix", "estimate", "true"), c, strict=True)) for c in checks],
        "rank_correlation": searching.rank_correlation(checks),
        "points": points,
    }


def show(stage: str, done: int, of: int) -> None:
    """Show progress: one line that counts up in a terminal, every quarter elsewhere."""
    start, end = ("\r", "\033[K") if sys.stdout.isatty() else ("", "\n")
    if done == of:
        end = "\n"
    if start or done * 4 // of > (done - 1) * 4 // of:
        sys.stdout.write(f"{start}  {stage} {done}/{of}{end}")
        sys.stdout.flush()


def _tell(output: pathlib.Path, report: dict[str, Any], chosen: dict[str, Any]) -> None:
    sys.stdout.write(f"estimates rank as the true divergences: {report['rank_correlation']:.2f}\n")
    for name in ("uniform", "mix"):
        if name in chosen:
            found = chosen[name]["divergence"]
            sys.stdout.write(
                f"{name}: {chosen[name]['bytes'] / 1e6:.1f} MB, mean KL {found['mean']:.4f}"
                f" +- {found['standard_error']:.4f}, same top {found['same_top']:.1%}\n"
            )
            _tell_temperature(name, chosen[name]["temperature"])
    sys.stdout.write(f"{output}: the {chosen['chosen']}\n")


def _tell_temperature(name: str, found: dict[str, Any]) -> None:
    told = ", ".join(
        f"{kind} {found[kind]['value']:.3f} ({found[kind]['low']:.3f} to {found[kind]['high']:.3f})"
        for kind in ("divergence", "entropy")
    )
    sys.stdout.write(f"{name}: temperature x {found['factor']:.3f}; matched by {told}\n")


if __name__ == "__main__":
    sys.exit(main())
