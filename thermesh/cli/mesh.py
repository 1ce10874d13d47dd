"""The processes of the mesh on one machine: what is run, with which environment.

They are started by module name, as anybody could in a terminal; the command
line never imports a service.
"""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Mapping, Sequence

import thermesh
from thermesh import bundled_redis
from thermesh.cli import probes
from thermesh.cli.config import UpConfig
from thermesh.cli.ports import Port, environment
from thermesh.cli.supervisor import Program

WORKER = ("celery", "-A", "services.controller.tasks", "worker", "--pool", "solo")
WORKER_OPTIONS = ("--without-gossip", "--without-mingle", "-Q", "thermesh-learner")
ROOMS = ("controller", "feature", "inference")


def redis_program(state: pathlib.Path, port: int) -> Program:
    """Return the bundled redis-server, its data in `state`/redis.

    Everything acknowledged is in the append-only file, synced once a second; a
    full memory refuses writes and never evicts, because an evicted policy or
    queue would be lost without a word.
    """
    folder = state / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "--port": str(port),
        "--bind": "127.0.0.1",
        "--dir": str(folder),
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--save": "",
        "--maxmemory-policy": "noeviction",
    }
    command = (str(bundled_redis.binary()), *(part for item in options.items() for part in item))
    log_path = state / "logs" / "redis.log"
    return Program("redis", command, os.environ, log_path, probes.redis(port), f"127.0.0.1:{port}")


def programs(
    config: UpConfig, ports: Sequence[Port], redis_url: str, state: pathlib.Path
) -> tuple[Program, ...]:
    """Return the learner's worker and the four services; they drain in reverse order."""
    numbers = {port.variable: port.number for port in ports}
    targets = {
        f"THERMESH_{room.upper()}_TARGET": join(
            config.host, numbers[f"THERMESH_{room.upper()}_PORT"]
        )
        for room in ROOMS
    }
    shared = {**targets, **os.environ, **environment(tuple(ports)), "REDIS_URL": redis_url}
    shared = with_source_tree({**shared, "THERMESH_STATE_DIR": str(state)})
    rooms = tuple(
        _room(config, name, targets[f"THERMESH_{name.upper()}_TARGET"], shared, state)
        for name in ROOMS
    )
    http_port = numbers["THERMESH_GATEWAY_HTTP_PORT"]
    gateway = Program(
        "gateway",
        _python("services.gateway"),
        _limited(shared, threads=1),
        state / "logs" / "gateway.log",
        probes.http(_reachable(config.host), http_port, tls=bool(config.tls_certificate)),
        f"{config.scheme}://{join(config.host, http_port)}",
    )
    return (_worker(shared, state), *rooms, gateway)


def with_source_tree(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` with the source tree on the module path, where this runs from one.

    Children are started with -P, so they would not look into the current folder.
    """
    root = pathlib.Path(thermesh.__file__).resolve().parent.parent
    if not (root / "pyproject.toml").exists():
        return dict(environ)
    path = os.pathsep.join(filter(None, (str(root), environ.get("PYTHONPATH", ""))))
    return {**environ, "PYTHONPATH": path}


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _worker(shared: Mapping[str, str], state: pathlib.Path) -> Program:
    log_path = state / "logs" / "learner.log"
    return Program(
        "learner",
        (*_python(*WORKER), *WORKER_OPTIONS, "-n", "learner@%h", "--loglevel", "INFO"),
        _limited({**shared, "THERMESH_METRICS_PORT": "0"}, threads=1),
        log_path,
        probes.worker(log_path),
    )


def _room(
    config: UpConfig, name: str, target: str, shared: Mapping[str, str], state: pathlib.Path
) -> Program:
    own = dict(shared)
    if config.metrics_port:  # one variable for all, and a port has one owner
        order = ("feature", "controller", "inference").index(name)
        own["THERMESH_METRICS_PORT"] = str(config.metrics_port + order)
    environ = _limited(own, threads=cores() if name == "inference" else 1)
    command, log_path = _python(f"services.{name}"), state / "logs" / f"{name}.log"
    return Program(name, command, environ, log_path, probes.grpc(target), target)


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    # -P: a folder called `services` where the user happens to stand is not ours.
    return (sys.executable, "-P", "-m", module, *arguments)


def _limited(environ: Mapping[str, str], threads: int) -> Mapping[str, str]:
    # Six processes share the machine; a thread pool of each as large as the
    # machine makes all of them slow. glibc's arenas cost memory a thread.
    limits = {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    return {**limits, **environ}


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # not binding


def join(host: str, port: int) -> str:
    """Return `host:port` of a server listening on `host`, as a client spells it."""
    host = _reachable(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
