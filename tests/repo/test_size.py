"""The promise of small: a module fits in the head, a function on the screen."""

from __future__ import annotations

import ast
import statistics

FILE_LINES = 300
FUNCTION_LINES = 60
MEDIAN_FUNCTION_LINES = 9
NINETIETH_PERCENTILE_LINES = 40

# Each with the reason why splitting it would make it harder to read.
LONGER_FILES: dict[str, str] = {}
LONGER_FUNCTIONS: dict[str, str] = {}


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, less the docstring, which no one has to hold in mind."""
    whole = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is None:
        return whole
    return whole - (first.end_lineno - first.lineno + 1)


def functions(product: dict[str, ast.Module]) -> dict[str, int]:
    """Lines of every function, by file and name."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        f"{name}:{node.name}:{node.lineno}": lines_of_code(node)
        for name, tree in product.items()
        for node in ast.walk(tree)
        if isinstance(node, kinds)
    }


def test_files_stay_short(product, texts):
    """No module is longer than 300 lines, but for those listed with a reason."""
    long = {name for name in product if len(texts[name].splitlines()) > FILE_LINES}
    assert long - set(LONGER_FILES) == set()
    assert set(LONGER_FILES) <= long, "an exception that is no longer needed"


def test_functions_stay_short(product):
    """No function is longer than 60 lines, but for those listed with a reason."""
    long = {
        place.rpartition(":")[0]
        for place, lines in functions(product).items()
        if lines > FUNCTION_LINES
    }
    assert long - set(LONGER_FUNCTIONS) == set()
    assert set(LONGER_FUNCTIONS) <= long, "an exception that is no longer needed"


def test_most_functions_are_a_few_lines(product):
    """Half of all functions have at most 9 lines, nine in ten fewer than 40."""
    lines = sorted(functions(product).values())
    assert statistics.median(lines) <= MEDIAN_FUNCTION_LINES
    assert lines[int(len(lines) * 0.9)] < NINETIETH_PERCENTILE_LINES
