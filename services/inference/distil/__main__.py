"""Teach a smaller file what the model knows: `python -m services.inference.distil`."""

from __future__ import annotations

import argparse
import json
import pathlib
import signal
import sys
from typing import Any

import torch

from services.inference.distil.checkpoint import Checkpoint
from services.inference.distil.gating import taught_gates
from services.inference.distil.judgement import Judge
from services.inference.distil.lightening import LightRun
from services.inference.distil.run import Run, Task
from services.inference.distil.source import OrderedSource
from services.inference.quantise import texts
from services.inference.quantise.__main__ import show
from services.inference.quantise.forward import has_16_bit_products
from services.inference.quantise.search import Options
from services.inference.quantise.workplace import Workplace
from thermesh.errors import FailedPrecondition, InvalidArgument, MeshError
from thermesh.models import locate

_HELP = {
    "bits": "a weight, on average; 0: all as it is, but for a light path of its own",
    "light": "share of neurons, and of heads unless bits is 0, on a light path; 0: none",
    "rate": "share of its size that a number moves in a step, at most",
    "texts": "to train on",
    "texts_per_step": "of each step",
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    found = argparse.ArgumentParser("thermesh distil", description=__doc__)
    found.add_argument("model", help="packaged name, or a GGUF file")
    found.add_argument(
        "output", type=pathlib.Path, help="the .gguf file to write, or an .npz of gates"
    )
    found.add_argument("--minutes", type=float, default=10.0, help="to train (default 10)")
    found.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    found.add_argument("--threads", type=int, default=1, help="cores to compute on (default 1)")
    for name, value in vars(Task()).items():
        found.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(value),
            default=value,
            help=f"{_HELP[name]} (default {value:g})",
        )
    for name in ("fitted", "held_out", "length", "seed"):
        value = getattr(Options(), name)
        found.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    arguments = parser().parse_args(argv)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _run(arguments)
    except MeshError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run it again to go on\n")
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _run(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    device = device_of(arguments.device)
    task = Task(**{name: getattr(arguments, name) for name in vars(Task())})
    _check(arguments, task)
    names = ("fitted", "held_out", "length", "seed")
    options = Options(**{name: getattr(arguments, name) for name in names})
    source = OrderedSource(locate(arguments.model))
    if arguments.output.suffix == ".npz":
        sys.stdout.write(taught_gates(source, options, task.texts, arguments.output, show) + "\n")
        return
    workplace, folder = _workplace(arguments.output, source, task, options)
    kind: type[Run | LightRun] = Run if task.bits else LightRun
    run = kind(source, task, options, workplace, show)
    judge = Judge(run.source.config, run.source.weights(), run.held_out)
    is_mixed = has_16_bit_products(device)
    checkpoint = Checkpoint(folder / "training.pt")
    student = run.student(device, is_mixed, is_begun=checkpoint.is_there)
    before = _kept(workplace, "before", lambda: run.judged(judge, student))
    trainer = run.train(student, arguments.minutes, is_mixed, checkpoint)
    after = run.judged(judge, student)
    run.write(student, arguments.output)
    report = {
        "model": source.path.name,
        "texts": texts.SOURCE,
        "options": vars(task) | vars(options) | {"minutes": arguments.minutes},
        "device": {"kind": device.type, "threads": arguments.threads, "bfloat16": is_mixed},
        "trained": vars(trainer.progress),
        "original": judge.original,
        "before": before,
        "after": after,
        **run.sizes(),
    }
    pathlib.Path(f"{arguments.output}.json").write_text(json.dumps(report, indent=1) + "\n")
    workplace.remove()
    sys.stdout.write("\n".join(told(report)) + "\n")


def device_of(name: str) -> torch.device:
    """Return the device of that name; raise FailedPrecondition where torch sees no GPU."""
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise FailedPrecondition("--device cuda: torch sees no NVIDIA GPU")
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")


def _check(arguments: argparse.Namespace, task: Task) -> None:
    if not 0 <= task.light < 1:
        raise InvalidArgument("light must be in [0, 1)", field="light")
    if not task.bits and not task.light:
        raise InvalidArgument("with bits 0 light must be above 0", field="light")
    if not 0 <= arguments.minutes <= 10_000:
        raise InvalidArgument("minutes must be in [0, 10000]", field="minutes")
    if task.texts < 2 or task.texts_per_step < 1 or arguments.held_out < 2:
        needed = "texts and held-out must be at least 2, texts-per-step at least 1"
        raise InvalidArgument(needed, field="texts")


def _workplace(
    output: pathlib.Path, source: OrderedSource, task: Task, options: Options
) -> tuple[Workplace, pathlib.Path]:
    if output.suffix != ".gguf" or not output.absolute().parent.is_dir():
        raise InvalidArgument(
            "output must be a .gguf or .npz file in a folder that is there", field="output"
        )
    state = source.path.stat()
    fingerprint: dict[str, Any] = {"bytes": state.st_size, "written": state.st_mtime_ns}
    fingerprint |= {"task": vars(task), "options": vars(options)}
    folder = output.with_name(f".{output.name}.work")
    return Workplace(folder, fingerprint), folder


def _kept(workplace: Workplace, name: str, make: Any) -> Any:
    found = workplace.values(name)
    if found is None:
        found = make()
        workplace.keep_values(name, found)
    return found


def told(report: dict[str, Any]) -> list[str]:
    """Return the report in a few lines."""
    trained, original = report["trained"], report["original"]["perplexity"]
    first = (
        f"{trained['steps']} steps in {trained['seconds']:.0f} s on {report['device']['kind']};"
        f" {report['bytes'] / 1e6:.1f} MB; perplexity of the original {original:.2f}"
    )
    lines = [first]
    for path in report["after"]:
        before, after = (report[when][path] for when in ("before", "after"))
        lines.append(
            f"{path}: mean KL {before['divergence']['mean']:.4f} -> "
            f"{after['divergence']['mean']:.4f} +- {after['divergence']['standard_error']:.4f},"
            f" perplexity {before['perplexity']:.2f} -> {after['perplexity']:.2f}"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
