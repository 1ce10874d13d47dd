"""What users install is what stands in the tree."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import zipfile

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory) -> pathlib.Path:
    """The wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        f"--wheel-dir={folder}",
    ]
    subprocess.run([*command, str(root)], check=True, timeout=500)
    return next(folder.glob("thermesh-*.whl"))


def test_wheel_holds_every_file_of_its_packages(wheel, texts):
    """No module, stub, template, text or marker file is left out; samples of benches are."""
    packages = ("thermesh/", "services/", "benchmarks/")
    samples = ("benchmarks/results/",)
    ours = {name for name in texts if name.startswith(packages) and not name.startswith(samples)}
    assert ours - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_installed_package_runs_away_from_the_tree(wheel, tmp_path):
    """Installed into an empty folder, the package and its stubs import from there."""
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*install, f"--target={tmp_path / 'lib'}", str(wheel)], check=True, timeout=500)
    program = (
        "import services, thermesh; from thermesh.v1 import chat_pb2_grpc; print(thermesh.__file__)"
    )
    command = [sys.executable, "-c", program]
    environment = {"PYTHONPATH": str(tmp_path / "lib")}
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(str(tmp_path))
