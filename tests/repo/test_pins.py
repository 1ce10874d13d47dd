"""What we support, what we tested and what the images install agree."""

from __future__ import annotations

import itertools
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from benchmarks.engine.peers.catalogue import PEERS


@pytest.fixture(scope="module")
def project(texts) -> dict:
    """The parsed pyproject.toml."""
    return tomllib.loads(texts["pyproject.toml"])


@pytest.fixture(scope="module")
def pins(texts) -> dict[str, Version]:
    """Pinned version of each name in constraints.txt."""
    lines = [line for line in texts["constraints.txt"].splitlines() if line and line[0] != "#"]
    pairs = (line.split("==") for line in lines)
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def direct(project: dict) -> list[Requirement]:
    """Every requirement that pyproject.toml states, less those on ourselves."""
    extras = project["project"]["optional-dependencies"].values()
    groups = project["dependency-groups"].values()
    lines = [*project["project"]["dependencies"], *itertools.chain(*extras, *groups)]
    return [need for line in lines if (need := Requirement(line)).name != "thermesh"]


def test_every_direct_dependency_is_pinned_inside_its_range(project, pins):
    """Each requirement has a pin, and the pin is a version that the range allows."""
    wrong = [
        str(need)
        for need in direct(project)
        if canonicalize_name(need.name) not in pins
        or not need.specifier.contains(pins[canonicalize_name(need.name)], prereleases=True)
    ]
    assert wrong == []


def test_pins_are_versions_not_builds(texts):
    """Each line is `name==version`: no local label, no address, so that any index serves it."""
    lines = [line for line in texts["constraints.txt"].splitlines() if line and line[0] != "#"]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9.-]+==[\w.!]+", line)] == []
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(names)


def test_stubs_are_generated_for_the_oldest_runtime(project):
    """The generator's version is the floor of grpcio: generated code refuses older runtimes."""
    needs = {need.name: need for need in direct(project)}
    (generator,) = needs["grpcio-tools"].specifier
    (floor,) = (bound for bound in needs["grpcio"].specifier if bound.operator == ">=")
    assert Version(generator.version) == Version(floor.version)


def test_each_room_has_its_extra(project, root):
    """Each folder of services has an extra of its name, which its image installs."""
    rooms = {path.parent.name for path in root.glob("services/*/__init__.py")}
    assert rooms <= set(project["project"]["optional-dependencies"])


def test_the_extra_of_the_benchmark_names_what_it_installs(project):
    """Each peer's requirements are those of `bench-peers`, whichever way they are installed."""
    installed = {need for peer in PEERS.values() for need in peer.requirements}
    assert installed == set(project["project"]["optional-dependencies"]["bench-peers"])
