"""The scripts that write files: what they keep, what they leave out."""

from __future__ import annotations

from dataclasses import dataclass

from scripts import check_contract, pin_constraints, settings_table
from thermesh.settings import setting


@dataclass(frozen=True)
class Example:
    """A room's settings."""

    port: int = setting("EXAMPLE_PORT", 80, doc="where it listens")
    name: str = setting("EXAMPLE_NAME", "", doc="what it is called")


def test_pins_name_versions_and_leave_out_what_torch_brings():
    """No local label, not ourselves, none of the accelerator's wheels but the Triton of our choice;
    sorted by name.
    """
    resolved = [
        {"name": "torch", "version": "2.13.0+cpu"},
        {"name": "thermesh", "version": "0.1.0"},
        {"name": "nvidia-cublas-cu13", "version": "13.0"},
        {"name": "triton", "version": "3.5"},
        {"name": "Huggingface_Hub", "version": "1.0"},
    ]
    assert pin_constraints.pins(resolved) == [
        ("huggingface-hub", "1.0"),
        ("torch", "2.13.0"),
        pin_constraints.TRITON,
    ]


def test_table_shows_every_setting_of_a_class():
    """A row has the variable, its default and its documentation; an empty default stays empty."""
    rows = settings_table.table([Example])
    assert "| `EXAMPLE_PORT` | `80` | where it listens |" in rows
    assert "| `EXAMPLE_NAME` |  | what it is called |" in rows


def test_only_what_stands_between_the_markers_is_replaced():
    """Writing the same table twice changes nothing."""
    page = f"before\n{settings_table.BEGIN}old\n{settings_table.END}after\n"
    once = settings_table.page_with(page, "new\n")
    assert once == f"before\n{settings_table.BEGIN}new\n{settings_table.END}after\n"
    assert settings_table.page_with(once, "new\n") == once


def test_contract_of_a_commit_is_laid_out_for_comparison(tmp_path):
    """The folder holds the protos and buf's settings of that commit and nothing else."""
    assert check_contract.extract("HEAD", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["buf.yaml", "protos"]


def test_commit_that_does_not_exist_has_no_contract(tmp_path):
    """A shallow clone without the parent commit is no failure."""
    assert not check_contract.extract("no-such-commit", tmp_path)
