"""Tests say what they show and never wait for time to pass."""

from __future__ import annotations

import ast


def behaviours(sources: dict[str, ast.Module]) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every test function, by file and name."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        f"{name}:{node.name}": node
        for name, tree in sources.items()
        if name.startswith("tests/")
        for node in ast.walk(tree)
        if isinstance(node, kinds) and node.name.startswith("test_")
    }


def is_sleep(node: ast.AST) -> bool:
    """Whether a node calls something named sleep, other than to yield with sleep(0)."""
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    yields = (
        len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
    )
    return name == "sleep" and not yields


def test_every_test_states_a_behaviour(sources):
    """Each test has a docstring that is a sentence."""
    silent = {
        place
        for place, test in behaviours(sources).items()
        if not (ast.get_docstring(test) or "").endswith((".", "?", "!"))
    }
    assert silent == set()


def test_no_test_sleeps(sources):
    """Tests wait for events and conditions; sleep(0), which only yields, is allowed."""
    sleeping = {
        f"{name}:{node.lineno}"
        for name, tree in sources.items()
        if name.startswith("tests/")
        for node in ast.walk(tree)
        if is_sleep(node)
    }
    assert sleeping == set()


def test_no_test_is_skipped_without_a_reason(sources):
    """Every skip and expected failure says why."""
    marks = {"pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail"}
    bare = {
        place
        for place, test in behaviours(sources).items()
        for mark in test.decorator_list
        if ast.unparse(mark).partition("(")[0] in marks and "reason=" not in ast.unparse(mark)
    }
    assert bare == set()
