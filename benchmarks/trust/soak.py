"""Changes of running streams: the soak of the tests, with as many changes as are wanted.

The test fails where a token was decoded under another revision than the one acknowledged
for it, or a stale change was applied; what it counted comes back with its report.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile
from xml.etree import ElementTree as ET

from benchmarks import machine

TEST = "tests/unit/inference/test_steering_soak.py"


def measured(updates: int) -> dict[str, object]:
    """Return its counts; raises CalledProcessError where it fails. It needs a checkout."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "soak.xml"
        report = (f"--junitxml={path}", "-o", "junit_family=xunit1")  # which carries properties
        command = [sys.executable, "-m", "pytest", TEST, "-m", "slow", "-q", *report]
        environment = {**os.environ, "THERMESH_SOAK_UPDATES": str(updates)}
        subprocess.run(command, cwd=machine.ROOT, env=environment, check=True)
        told = ET.parse(path).iter("property")
        return {each.attrib["name"]: int(each.attrib["value"]) for each in told}
