"""What stands in the files: no trace of a place, no dead link, no unknown command."""

from __future__ import annotations

import pathlib
import re
import tomllib
import urllib.parse

from thermesh.models import MODELS

# Spelt in two halves, so that this file does not contain what it forbids.
ASSISTANTS = [
    first + second for first, second in (("clau", "de"), ("anthro", "pic"), ("co-authored", "-by"))
]
# A release, an image or a test that needs one of these runs in one place only.
PLACES = [
    first + second
    for first, second in (("/wo", "rk/"), ("/op", "t/"), ("/ro", "ot/"), ("/ho", "me/"))
]
REGISTRIES = [
    first + second
    for first, second in (
        ("pypi", ".org"),
        ("pythonhosted", ".org"),
        ("registry.npmjs", ".org"),
        ("deb.debian", ".org"),
        ("download.pytorch", ".org"),
    )
]

# Where a path that looks like one of ours is somebody else's convention.
NOT_A_PLACE: dict[str, str] = {}

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def pages(texts: dict[str, str]) -> dict[str, str]:
    """Every Markdown page."""
    return {name: text for name, text in texts.items() if name.endswith(".md")}


def anchors(text: str) -> set[str]:
    """Fragments that the headings of a page answer to, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in kept}


def broken(name: str, target: str, texts: dict[str, str], root: pathlib.Path) -> bool:
    """Whether a link of page `name` leads nowhere inside the project."""
    if urllib.parse.urlsplit(target).scheme:
        return False
    path, _, fragment = target.partition("#")
    page = (root / name).parent / path if path else root / name
    if not page.exists():
        return True
    relative = str(page.resolve().relative_to(root))
    return bool(fragment) and fragment not in anchors(texts.get(relative, ""))


def make_targets(texts: dict[str, str]) -> set[str]:
    """Names of the targets in the Makefile."""
    return set(re.findall(r"^([a-z-]+):", texts["Makefile"], re.MULTILINE))


def test_no_file_tells_who_or_where_it_was_written(texts):
    """No file names an assistant, a folder of one machine, or a registry's host."""
    forbidden = [*ASSISTANTS, *PLACES, *REGISTRIES]
    found = {
        f"{name}: {word}"
        for name, text in texts.items()
        for word in forbidden
        if word in text.lower() and name not in NOT_A_PLACE
    }
    assert found == set()


def test_links_inside_the_project_lead_somewhere(texts, root):
    """Each relative link of a page leads to a file, and its fragment to a heading."""
    dead = {
        f"{name}: {target}"
        for name, text in pages(texts).items()
        for groups in LINK.findall(FENCE.sub("", text))
        for target in groups
        if target and broken(name, target, texts, root)
    }
    assert dead == set()


def test_every_page_can_be_found(texts):
    """Each page below docs/ is linked from docs/index.md."""
    index = texts["docs/index.md"]
    listed = {target.partition("#")[0] for groups in LINK.findall(index) for target in groups}
    below = {name.removeprefix("docs/") for name in pages(texts) if name.startswith("docs/")}
    assert below - listed - {"index.md"} == set()


def test_make_commands_in_pages_exist(texts):
    """Each `make TARGET` that a page tells a reader to type is in the Makefile."""
    known = make_targets(texts)
    unknown = {
        f"{name}: make {target}"
        for name, text in pages(texts).items()
        for target in re.findall(r"(?:^\$? ?|`)make ([a-z-]+)", text, re.MULTILINE)
        if target not in known
    }
    assert unknown == set()


def test_every_target_is_documented(texts):
    """`make help` shows each target: every rule that is a command has its line."""
    phony = re.search(r"^\.PHONY: (.+)$", texts["Makefile"], re.MULTILINE)[1].split()
    shown = set(re.findall(r"^([a-z-]+):.*## ", texts["Makefile"], re.MULTILINE))
    assert shown == set(phony)


def test_readme_names_the_test_command(texts):
    """A newcomer finds how to run and how to test in the README."""
    assert "make up" in texts["README.md"]
    assert "make test" in texts["README.md"]


def test_licence_and_notice_are_there(texts):
    """The licence that pyproject.toml names is in the tree, with its notices."""
    project = tomllib.loads(texts["pyproject.toml"])["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in texts["LICENSE"]
    assert set(project["license-files"]) <= set(texts)


def test_notice_names_every_packaged_model(texts):
    """Whoever gets a model through us can read whose it is and under which licence."""
    assert [name for name in MODELS if name not in texts["NOTICE"]] == []


def test_changelog_has_an_unreleased_section(texts):
    """Changes since the last release are collected at the top."""
    assert "## [Unreleased]" in texts["CHANGELOG.md"]
