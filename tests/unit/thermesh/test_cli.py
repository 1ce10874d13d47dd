"""The pure parts of the command line: ports, programs, settings, colours, lines."""

import io
import json
import pathlib
import socket
import sys

import pytest

from thermesh import models
from thermesh.cli import bench, chat, console, heat, logs, mesh, ports, settings_probe, up
from thermesh.cli.__main__ import main
from thermesh.cli.config import UpConfig
from thermesh.errors import AlreadyExists, InvalidArgument
from thermesh.events import Edt, Plan, Rejected, Sampling, Token, Tokens

FREE = UpConfig(
    gateway_http_port=0, gateway_grpc_port=0, feature_port=0, controller_port=0, inference_port=0
)


def test_free_ports_are_chosen_and_distinct():
    """Port 0 becomes a free one, a different one for each service."""
    numbers = [port.number for port in ports.chosen(FREE)]
    assert 0 not in numbers
    assert len(set(numbers)) == len(numbers) == 6


def test_a_taken_port_names_its_variable():
    """A port in use is refused before anything starts, with the variable that sets it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        config = UpConfig(**{**vars(FREE), "feature_port": number})
        with pytest.raises(AlreadyExists, match=rf"port {number} .*THERMESH_FEATURE_PORT"):
            ports.chosen(config)


def test_one_port_for_two_services_is_refused():
    """Two variables with one number are named both."""
    config = UpConfig(**{**vars(FREE), "feature_port": 50052, "controller_port": 50052})
    with pytest.raises(AlreadyExists, match="THERMESH_FEATURE_PORT and THERMESH_CONTROLLER_PORT"):
        ports.chosen(config)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """The programs of a mesh with metrics, by name."""
    for variable in ("THERMESH_INFERENCE_TARGET", "OMP_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    config = UpConfig(**{**vars(FREE), "metrics_port": 9100})
    chosen = ports.chosen(config)
    made = mesh.programs(config, chosen, "redis://localhost:1/0", tmp_path)
    return {program.name: program for program in made}


def test_programs_drain_gateway_first(programs):
    """They end in the reverse order of start: doors first, the learner last."""
    assert list(reversed(programs)) == ["gateway", "inference", "feature", "controller", "learner"]


def test_programs_know_each_other(programs):
    """Every process is told where its peers and Redis are."""
    for program in programs.values():
        target = program.environ["THERMESH_INFERENCE_TARGET"]
        assert target == f"127.0.0.1:{program.environ['THERMESH_INFERENCE_PORT']}"
        assert program.environ["REDIS_URL"] == "redis://localhost:1/0"


def test_programs_share_one_variable_but_no_metrics_port(programs):
    """Three rooms get three ports in a row and the learner none."""
    names = ("feature", "controller", "inference", "learner")
    metrics = [programs[name].environ["THERMESH_METRICS_PORT"] for name in names]
    assert metrics == ["9100", "9101", "9102", "0"]


def test_only_inference_gets_all_cores(programs):
    """Side by side, six pools as large as the machine would starve each other."""
    threads = {name: program.environ["OMP_NUM_THREADS"] for name, program in programs.items()}
    assert threads.pop("inference") == str(mesh.cores())
    assert set(threads.values()) == {"1"}


def test_the_users_environment_wins(tmp_path, monkeypatch):
    """A peer elsewhere or a thread count of the user's is kept."""
    monkeypatch.setenv("THERMESH_FEATURE_TARGET", "elsewhere:1")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    program = mesh.programs(FREE, ports.chosen(FREE), "redis://localhost:1/0", tmp_path)[-1]
    assert program.environ["THERMESH_FEATURE_TARGET"] == "elsewhere:1"
    assert program.environ["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", "127.0.0.1:1"), ("0.0.0.0", "127.0.0.1:1"), ("::", "[::1]:1")],
)
def test_clients_are_told_an_address_they_can_reach(host, expected):
    """An address to listen on everywhere is reached on the loopback."""
    assert mesh.join(host, 1) == expected


def test_logs_rotate(tmp_path):
    """Each start keeps the logs of the runs before, up to three."""
    path = tmp_path / "feature.log"
    for run in range(6):
        logs.rotate(path)
        path.write_text(str(run))
    kept = {file.name: file.read_text() for file in tmp_path.iterdir()}
    older = {f"feature.log.{age}": str(5 - age) for age in (1, 2, 3)}
    assert kept == {"feature.log": "5", **older}


def test_a_log_is_shortened_under_its_writer(tmp_path, monkeypatch):
    """A log that grew too large is copied and emptied; an appending writer goes on."""
    monkeypatch.setattr(logs, "MAX_BYTES", 10)
    path = tmp_path / "redis.log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"x" * 11)
        assert logs.shorten(path)
        writer.write(b"next\n")
    assert path.read_bytes() == b"next\n"
    assert not logs.shorten(path)
    assert logs.tail(path) == ["next"]


def test_one_state_folder_has_one_mesh(tmp_path):
    """A second `up` on the same folder is refused with the process that holds it."""
    second = up.only_one(tmp_path)
    with up.only_one(tmp_path), pytest.raises(AlreadyExists, match=r"\(process \d+\)"):
        second.__enter__()
    with up.only_one(tmp_path):
        pass


def test_bad_settings_are_named():
    """The probe tells the variable, the value and what is allowed."""
    module = sys.modules["thermesh.cli.config"]
    found = settings_probe.settings_of(module, {"THERMESH_FEATURE_PORT": "70000"})
    bad = [one for one in found if one["problem"]]
    assert [one["variable"] for one in bad] == ["THERMESH_FEATURE_PORT"]
    assert "from 0 to 65535" in bad[0]["problem"]


def test_the_probe_prints_json(monkeypatch, capsys):
    """Its output is a list of objects another process can read."""
    monkeypatch.setattr(sys, "argv", ["probe", "thermesh.cli.config"])
    settings_probe.main()
    variables = {one["variable"] for one in json.loads(capsys.readouterr().out)}
    assert {"THERMESH_HOST", "REDIS_URL", "THERMESH_STATE_DIR"} <= variables


def test_a_bad_setting_ends_the_command(monkeypatch, capsys):
    """The exit status is 2 and the message names the variable."""
    monkeypatch.setenv("THERMESH_GATEWAY_GRPC_PORT", "many")
    assert main(["chat", "hello"]) == 2
    assert "THERMESH_GATEWAY_GRPC_PORT='many'" in capsys.readouterr().err


def test_models_are_listed(monkeypatch, tmp_path, capsys):
    """Every packaged model is listed with its licence, present or absent."""
    monkeypatch.setenv("THERMESH_MODELS_DIR", str(tmp_path))
    assert main(["models", "list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in models.MODELS)
    assert "absent" in printed
    assert main(["models", "verify"]) == 1


def test_an_unknown_model_is_refused(capsys):
    """The message names the packaged models."""
    assert main(["models", "fetch", "gpt-17"]) == 1
    assert "smollm2-135m-instruct" in capsys.readouterr().err


def test_an_unreachable_mesh_is_told(capsys):
    """A chat without a mesh ends with a clear error, not with a trace."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        assert main(["chat", "hello", "--server", address]) == 1
    assert "error:" in capsys.readouterr().err


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "depth"),
    [
        (io.StringIO(), {"COLORTERM": "truecolor"}, 0),
        (Terminal(), {"COLORTERM": "truecolor"}, 24),
        (Terminal(), {}, 8),
        (Terminal(), {"NO_COLOR": "1", "COLORTERM": "truecolor"}, 0),
        (Terminal(), {"TERM": "dumb"}, 0),
    ],
)
def test_colour_only_where_it_is_shown(stream, environ, depth):
    """Pipes, dumb terminals and NO_COLOR get none; others what they can show."""
    assert console.colour_depth(stream, environ) == depth


def test_cold_is_blue_and_hot_is_red():
    """The colour goes from blue to red, and outside the range it stays."""
    cold, hot = heat.rgb(0.0), heat.rgb(2.0)
    assert cold[2] == max(cold)
    assert hot[0] == max(hot)
    assert (heat.rgb(-1.0), heat.rgb(9.0)) == (cold, hot)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 2.0])
def test_colours_have_a_form_for_every_terminal(temperature):
    """Truecolor, 256 colours, or the text alone."""
    assert heat.coloured("x", temperature, 24).startswith("\x1b[38;2;")
    assert 16 <= heat.cube(*heat.rgb(temperature)) <= 231
    assert heat.coloured("x", temperature, 0) == "x"


def plan(**changes):
    """A plan of the policy."""
    values = {
        "decision_id": "dec-1",
        "policy_version": 3,
        "source": "policy",
        "sampling": Sampling(Edt(0.8, 1.0)),
        "token_budget": 0,
        "task": "chat",
        "scenario": "dialogue",
        "log_density": 0.1,
        "explored": True,
        "seed": 1,
        "policy_temperature": 0.8,
    }
    return Plan(**values | changes)


def test_events_are_shown():
    """Tokens as text, the plan as a line, a rejected update with its field."""
    token = Token(0, 1, "Paris", 0.5, 0.1, -0.1, -0.1, 0, 100)
    assert chat.shown(Tokens((token,)), 0) == "Paris"
    assert "T 0.80 by policy" in chat.shown(plan(), 0)
    assert "policy version 3" in chat.shown(plan(), 0)
    assert "program.fixed" in chat.shown(Rejected(1, "program.fixed", "expected"), 0)


def test_temperatures_of_the_chat():
    """`auto` leaves it to the mesh, a number pins, anything else is refused."""
    assert chat.temperature("auto") is None
    assert chat.temperature("0.7") == pytest.approx(0.7)
    with pytest.raises(InvalidArgument, match="expected auto"):
        chat.temperature("warm")


def test_progress_without_a_terminal_is_a_few_lines(capsys):
    """A pipe gets a line a quarter, not a bar."""
    with console.progress("tiny") as progress:
        for done in range(0, 101, 5):
            progress("download", done, 100)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines] == ["0%", "25%", "50%", "75%", "100%"]


def test_children_are_found_in_a_source_tree():
    """Started with -P, a child finds the tree on PYTHONPATH in front of the user's own."""
    root = str(pathlib.Path(models.__file__).parent.parent)
    assert mesh.with_source_tree({"PYTHONPATH": "own"})["PYTHONPATH"] == f"{root}:own"


def test_a_bench_gets_its_arguments_as_they_are(monkeypatch):
    """The command becomes the bench's own process, options and --help included."""
    became = []
    monkeypatch.setattr(bench.os, "execve", lambda *how: became.append(how))
    for arguments in (["--rows", "1", "2", "--peers", "all"], ["--help"], []):
        with pytest.raises(TypeError):  # the fake comes back, the real one never does
            main(["bench", "engine", *arguments])
        path, command, environ = became.pop()
        assert path == sys.executable
        assert command[1:] == ["-P", "-m", "benchmarks.engine", *arguments]
        assert "PYTHONPATH" in environ
