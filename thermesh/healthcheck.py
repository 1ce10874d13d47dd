"""Ask a room whether it serves: the command of container health checks.

    python -m thermesh.healthcheck grpc 127.0.0.1:50051
    python -m thermesh.healthcheck http http://127.0.0.1:8080/readyz

Exit status 0 means that it serves; 1 that it answers otherwise or not at all,
and one line says which. It is a module of its own, not part of the CLI, so
that images which carry no CLI dependencies can ask, and asks fast enough to
be started every few seconds.
"""

from __future__ import annotations

import argparse
import sys
import urllib.error
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from thermesh import tls
from thermesh.settings import from_env


def ask_grpc(target: str, service: str = "", timeout_seconds: float = 2.0) -> str:
    """Return the status that grpc.health.v1 gives for `service` at `target`
    (empty: the whole server), or the name of the status code it failed with.
    """
    request = health_pb2.HealthCheckRequest(service=service)
    trust = tls.room_trust(from_env(tls.TlsConfig))
    with _channel(target, trust) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_seconds)
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def _channel(target: str, trust: tls.Trust | None) -> grpc.Channel:
    if trust is None:
        return grpc.insecure_channel(target)
    return grpc.secure_channel(target, trust.credentials(), trust.options())


def ask_http(url: str, timeout_seconds: float = 2.0) -> str:
    """Return SERVING where `url` answers 2xx, else its status code or why there is none."""
    if not url.startswith(("http://", "https://")):
        return "not an http URL"
    try:
        with urllib.request.urlopen(url, timeout=timeout_seconds):  # noqa: S310  # checked above
            return "SERVING"
    except urllib.error.HTTPError as error:
        return str(error.code)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return "UNAVAILABLE"


def main(arguments: list[str] | None = None) -> int:
    """Ask once, print the answer; return the process's exit status."""
    parser = argparse.ArgumentParser(prog="python -m thermesh.healthcheck")
    parser.add_argument("protocol", choices=("grpc", "http"))
    parser.add_argument("target", help="host:port for grpc, a URL for http")
    parser.add_argument("--service", default="", help="one gRPC service; default: the server")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds to wait")
    options = parser.parse_args(arguments)
    if options.protocol == "grpc":
        answer = ask_grpc(options.target, options.service, options.timeout)
    else:
        answer = ask_http(options.target, options.timeout)
    sys.stdout.write(f"{options.target}: {answer}\n")
    return int(answer != "SERVING")


if __name__ == "__main__":
    sys.exit(main())
