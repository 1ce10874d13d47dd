"""The page on the feature vector says what the schema says."""

import pathlib
import subprocess
import sys

from thermesh.features import FEATURES, INDEX, TASKS

ROOT = pathlib.Path(__file__).resolve().parents[3]


def test_the_page_is_generated_from_the_schema():
    """The script finds nothing to change."""
    command = [sys.executable, str(ROOT / "scripts" / "gen_feature_docs.py"), "--check"]
    check = subprocess.run(command, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout


def test_the_schema_is_sound():
    """Names are unique, every neutral value lies in its range, every task has a probability."""
    assert len(INDEX) == len(FEATURES)
    assert all(f.minimum <= f.neutral <= f.maximum for f in FEATURES)
    assert [name for name in INDEX if name.startswith("task_")] == [f"task_{t}" for t in TASKS]
