"""Write every setting's row into `docs/operations.md`; `--check` fails on drift.

The table comes from the `setting(...)` declarations themselves, so that a
variable cannot exist without its documentation, nor say something else there.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import inspect
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from thermesh.settings import describe  # noqa: E402  # the tree, not an installed copy

PAGE = ROOT / "docs" / "operations.md"
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->\n"
MODULES = ("thermesh/*.py", "thermesh/cli/*.py", "services/*/config.py", "services/*/*/config.py")


def setting_classes() -> list[type]:
    """Return every dataclass that declares settings, in the order of modules."""
    found: dict[str, type] = {}
    paths = sorted(path for pattern in MODULES for path in ROOT.glob(pattern))
    for path in paths:
        if path.name == "__main__.py" or "setting(" not in path.read_text():
            continue
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for _, item in inspect.getmembers(module, inspect.isclass):
            if item.__module__ == module.__name__ and dataclasses.is_dataclass(item):
                found[f"{item.__module__}.{item.__qualname__}"] = item
    return [item for item in found.values() if describe(item)]


def table(classes: list[type]) -> str:
    """Return the Markdown tables, one a class, headed by where it is used."""
    parts = []
    for item in classes:
        parts.append(f"\n### `{item.__module__}.{item.__qualname__}`\n\n")
        parts.append("| variable | default | meaning |\n| --- | --- | --- |\n")
        for variable, default, doc in describe(item):
            parts.append(f"| `{variable}` | {f'`{default}`' if default else ''} | {doc} |\n")
    return "".join(parts) + "\n"


def page_with(text: str, rows: str) -> str:
    """Return the page with what stands between the markers replaced."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + rows + END + after


def main() -> int:
    """Write or check; return the process's exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail on drift, write nothing")
    check = parser.parse_args().check
    text = PAGE.read_text()
    fresh = page_with(text, table(setting_classes()))
    if check and fresh != text:
        print("docs/operations.md lacks a setting or shows an old one: run `make docs`")
        return 1
    if not check:
        PAGE.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
