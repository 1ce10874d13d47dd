"""Row 9: a silent stream behind a proxy that closes what is silent for a minute.

The proxy is nginx as Debian ships it, all its timeouts at 60 seconds. The stub
engine prefills for as long as the row lasts. Beside the gateway as it is stands
one that sends neither pings nor heartbeats in time, whose streams must die: else
the row would show nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from benchmarks.load import house, ways
from benchmarks.load.figures import Figure, Json, Rounds
from thermesh import rpc
from thermesh.errors import FailedPrecondition
from thermesh.testing import eventually, free_port

SILENT_SECONDS = 600.0
ROUNDS = 1
Ask = Callable[[], Awaitable[ways.Answer]]
MUTE = {"THERMESH_GATEWAY_PING_S": "300"}
NO_ENCODER = {"THERMESH_ENCODER": "none"}

CONFIG = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  client_body_timeout 60s; send_timeout 60s; keepalive_timeout 60s;
  server {{
    listen 127.0.0.1:{http};
    location / {{
      proxy_pass http://127.0.0.1:{to_http}; proxy_http_version 1.1;
      proxy_read_timeout 60s; proxy_send_timeout 60s;
    }}
  }}
  server {{
    listen 127.0.0.1:{grpc} http2;
    location / {{
      grpc_pass grpc://127.0.0.1:{to_grpc}; grpc_read_timeout 60s; grpc_send_timeout 60s;
    }}
  }}
}}
"""


class Bench:
    """Two open meshes behind proxies."""

    def __init__(self, asks: dict[str, Ask]) -> None:
        self._asks = asks

    async def round(self, number: int) -> Json:
        """Leave a stream of each kind alone; tell how long each lived."""
        del number
        lives = await asyncio.gather(*map(_life, self._asks.values()))
        return {"silent_s": SILENT_SECONDS, "lives": dict(zip(self._asks, lives, strict=True))}


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Bench]:
    """Run both meshes and their proxies."""
    engine = ("--prefill-ms", str(SILENT_SECONDS * 1000))
    limit = {"THERMESH_GATEWAY_MAX_STREAM_S": str(SILENT_SECONDS + 600)}
    async with contextlib.AsyncExitStack() as stack:
        asks: dict[str, Ask] = {}
        for suffix, more in (("", {}), (", no sign of life", MUTE)):
            mesh = await stack.enter_async_context(house.opened(engine, NO_ENCODER | limit | more))
            doors = await stack.enter_async_context(_proxied(mesh))
            asks |= {f"{name}{suffix}": ask for name, ask in doors.items()}
        yield Bench(asks)


def figures(rounds: Rounds) -> list[Figure]:
    """Judge what lived; of the mute gateway, that its streams did not."""
    found = []
    for each in rounds:
        for name, life in each["lives"].items():
            is_mute = name.endswith("life")
            bar = "cut after 60 s, or this row shows nothing" if is_mute else "survives"
            told = f"{'whole' if life['is_whole'] else 'cut'} after {life['seconds']:.0f} s"
            title = f"silent {each['silent_s']:.0f} s behind nginx, {name}"
            found.append((title, bar, told, life["is_whole"] is not is_mute))
    return found


async def _life(ask: Ask) -> Json:
    began = time.monotonic()
    try:
        answer = await ask()
        is_whole = answer.is_whole
    except (OSError, EOFError, ValueError):
        is_whole = False
    return {"seconds": round(time.monotonic() - began, 1), "is_whole": is_whole}


@contextlib.asynccontextmanager
async def _proxied(mesh: house.House) -> AsyncIterator[dict[str, Ask]]:
    """Put nginx before a mesh; yield the ways through it."""
    http, grpc = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "nginx.conf"
        ports = {"to_http": mesh.ports["http"], "to_grpc": mesh.ports["gateway"]}
        config.write_text(CONFIG.format(folder=folder, http=http, grpc=grpc, **ports))
        process = await asyncio.create_subprocess_exec(_nginx(), "-p", folder, "-c", str(config))
        channel, rest = rpc.connect(f"127.0.0.1:{grpc}"), ways.Rest(http)
        try:
            await eventually(lambda: rpc.is_serving(channel), 10, "nginx")
            question = ways.Question(4)
            yield {
                "rest": lambda: rest.complete(question),
                "grpc": lambda: ways.converse(channel, question, 3600.0),
            }
        finally:
            await rest.close()
            await channel.close()
            process.terminate()
            await process.wait()


def _nginx() -> str:
    path = shutil.which("nginx")
    if path is None:
        raise FailedPrecondition("this row needs nginx: apt-get install nginx-light")
    return path
