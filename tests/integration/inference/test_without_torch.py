"""What the room imports while it serves on the C++ kernels."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from services.inference.kernels.cpu import status

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(120)]
PROGRAM = pathlib.Path(__file__).with_name("serving_once.py").read_text(encoding="utf-8")


@pytest.mark.skipif(status().tiers in ((), ("generic",)), reason="torch serves on this machine")
def test_the_room_serves_every_kind_of_request_without_torch():
    """Plain, constrained, penalised and biased answers, candidates and scores import no torch."""
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=100
    )

    assert told.returncode == 0, told.stderr
    assert told.stdout.split() == ["cpu", "plain", "constrained", "scored", "torch:", "False"]
