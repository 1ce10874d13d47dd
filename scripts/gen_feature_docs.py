"""Write the table of docs/architecture/features.md from `thermesh.features`.

`--check` writes nothing and fails where the two differ.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from thermesh.features import FEATURES, SCHEMA_VERSION  # noqa: E402  # needs the path above

PAGE = ROOT / "docs" / "architecture" / "features.md"
BEGIN, END = "<!-- begin generated table -->", "<!-- end generated table -->"


def table() -> str:
    """Return the schema as a Markdown table."""
    rows = [
        f"| {index} | `{feature.name}` | {_cell(feature.description)} |"
        f" {feature.minimum:g} to {feature.maximum:g} | {feature.neutral:.3g} |"
        for index, feature in enumerate(FEATURES)
    ]
    head = ["| # | name | what is measured | range | neutral |", "|--:|---|---|---|--:|"]
    return "\n".join([f"Schema version {SCHEMA_VERSION}.", "", *head, *rows])


def written(page: str) -> str:
    """Return `page` with the table between its marks."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


def main() -> int:
    """Generate or check; return the process's exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail on drift, write nothing")
    is_check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    fresh = written(page)
    if is_check and fresh != page:
        print("docs/architecture/features.md is stale: run python scripts/gen_feature_docs.py")
        return 1
    if not is_check:
        PAGE.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
