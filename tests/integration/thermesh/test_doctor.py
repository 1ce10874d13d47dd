"""`thermesh doctor` finds what is wrong, names it, and says so by its exit status."""

import os

import pytest

from thermesh.cli import doctor, models, up
from thermesh.cli.__main__ import main
from thermesh.cli.config import UpConfig
from thermesh.cli.doctor import compiled, device


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """Free ports, a state folder of the test's own, and models that are as published."""
    for variable in [name for name in os.environ if name.startswith(("THERMESH_", "REDIS_"))]:
        monkeypatch.delenv(variable)
    for name in ("GATEWAY_HTTP", "GATEWAY_GRPC", "FEATURE", "CONTROLLER", "INFERENCE"):
        monkeypatch.setenv(f"THERMESH_{name}_PORT", "0")
    monkeypatch.setenv("THERMESH_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(models.models, "locate", lambda name: tmp_path / name)
    monkeypatch.setattr(models.models, "faults", lambda name: [])
    # Processes that import torch, asked below and not by every test.
    for check in ("device", "compiled"):
        monkeypatch.setattr(doctor, check, lambda _config: iter(()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"TRITON_INTERPRET": "1"}, "1 x Triton's interpreter"),
        ({"TRITON_INTERPRET": "0", "CUDA_VISIBLE_DEVICES": ""}, "the CPU serves"),
    ],
)
def test_what_a_gpu_could_do_is_told(monkeypatch, found, expected):
    """The inference room says what it finds, and why it finds nothing."""
    for variable, value in found.items():
        monkeypatch.setenv(variable, value)
    (finding,) = device(UpConfig())
    assert finding.subject == "gpu"
    assert expected in finding.found or "triton is not installed" in finding.found
    assert not finding.problem


@pytest.mark.slow
def test_whether_the_kernels_were_compiled_is_told():
    """With their tiers, or with what to do and who serves meanwhile."""
    (finding,) = compiled(UpConfig())
    assert finding.subject == "c++"
    assert "compiled; this processor can" in finding.found or "plain torch serves" in finding.found
    assert not finding.problem


def test_a_missing_compiler_is_told(monkeypatch):
    """The reason, and that plain torch serves, in one line."""
    told = {"available": False, "tiers": [], "reason": "the C++ kernels are not built: run it"}
    monkeypatch.setattr(doctor, "_room_says", lambda _module: told)
    (finding,) = compiled(UpConfig())
    assert finding.found.startswith("the C++ kernels are not built: run it; plain torch serves")


def test_a_healthy_machine(monkeypatch, capsys):
    """Every check passes and says what it found."""
    monkeypatch.setattr(doctor, "MIN_MEMORY_BYTES", 1)
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "FAIL" not in printed
    for subject in ("python", "packages", "machine", "state", "kernels", "redis", "model", "ports"):
        assert f"ok    {subject}" in printed


def test_a_bad_setting_is_named_and_the_rest_still_checked(monkeypatch, capsys):
    """The variable, its value and what is allowed; the other findings follow."""
    monkeypatch.setenv("THERMESH_FEATURE_PORT", "77777")
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "THERMESH_FEATURE_PORT='77777': expected a number from 0 to 65535" in printed
    assert "ok    redis" in printed


def test_a_broken_model_says_how_to_repair_it(monkeypatch, capsys):
    """A hash that differs is a problem with a command."""
    monkeypatch.setattr(models.models, "faults", lambda name: ["another SHA-256"])
    assert main(["doctor"]) == 1
    assert "thermesh models fetch all-minilm-l6-v2" in capsys.readouterr().out


def test_an_unreachable_redis_is_told(monkeypatch, capsys):
    """REDIS_URL is asked, and a password in it is not printed."""
    monkeypatch.setenv("REDIS_URL", "redis://:secret@127.0.0.1:1/0")
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "it does not answer" in printed
    assert "redis://***@127.0.0.1:1/0" in printed
    assert "secret" not in printed


def test_a_running_mesh_is_no_problem(tmp_path, capsys):
    """Where `up` holds the state folder its ports are ours."""
    with up.only_one(tmp_path):
        main(["doctor"])
    assert "ok    ports       a mesh already runs" in capsys.readouterr().out


def test_all_settings_are_listed(capsys):
    """`--settings` shows defaults too, each with its meaning."""
    main(["doctor", "--settings"])
    printed = capsys.readouterr().out
    assert "THERMESH_GRACE_SECONDS" in printed
    assert "least severe log line" in printed
