"""`thermesh chat`: talk with the mesh in a terminal, each token coloured by its temperature."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from dataclasses import dataclass, field

from thermesh.cli import console, heat
from thermesh.cli.config import UpConfig
from thermesh.client import Applied, End, Event, MeshClient, Options, Plan, Rejected, Tokens
from thermesh.errors import InvalidArgument, MeshError
from thermesh.settings import from_env
from thermesh.tls import Trust

HELP = "talk with the mesh in this terminal"
COMMANDS = """\
  /temperature N    pin the temperature (0: greedy); `auto` gives it back to the mesh
  /good  /bad       feedback on the last answer
  /reset            forget the conversation
  /quit             leave, as Ctrl-D does; Ctrl-C stops an answer"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `chat`."""
    config = UpConfig()
    parser.description = __doc__
    parser.add_argument("message", nargs="?", help="ask this, print the answer and leave")
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        help="gRPC door of the gateway (default: by THERMESH_HOST and THERMESH_GATEWAY_GRPC_PORT,"
        f" {config.host}:{config.gateway_grpc_port})",
    )
    parser.add_argument("--temperature", default="auto", help="a number, or auto (default)")
    parser.add_argument("--max-tokens", type=int, default=0, metavar="N")
    parser.add_argument("--model", default="")
    parser.add_argument("--tls", action="store_true", help="the gateway's door has a certificate")
    parser.add_argument(
        "--ca-file", default="", metavar="PEM", help="authorities it is checked by; implies --tls"
    )
    parser.add_argument("--api-key", default="", help="better in the environment: THERMESH_API_KEY")


def run(arguments: argparse.Namespace) -> int:
    """Chat until the end of input; return the exit status."""
    config = from_env(UpConfig)
    server = arguments.server or f"{config.host}:{config.gateway_grpc_port}"
    talk = Talk(
        temperature=temperature(arguments.temperature),
        max_tokens=arguments.max_tokens,
        model=arguments.model,
    )
    with asyncio.Runner() as runner:
        trust = Trust(arguments.ca_file) if arguments.tls or arguments.ca_file else None
        mesh = runner.run(_connect(server, arguments.api_key or config.api_key, trust))
        try:
            if arguments.message:
                runner.run(talk.ask(mesh, arguments.message))
            else:
                converse(runner, mesh, talk)
        finally:
            runner.run(mesh.close())
    return 0


def temperature(text: str) -> float | None:
    """Return a temperature; None for `auto`. Raise InvalidArgument for anything else."""
    if text == "auto":
        return None
    with contextlib.suppress(ValueError):
        return float(text)
    raise InvalidArgument(
        f"temperature: expected auto, 0 or a number from 0.1 to 2.0, got {text!r}",
        field="temperature",
    )


def converse(runner: asyncio.Runner, mesh: MeshClient, talk: Talk) -> None:
    """Read turns from standard input and answer each."""
    print(COMMANDS) if sys.stdin.isatty() else None
    while (line := _read()) is not None:
        try:
            if line.startswith("/"):
                if not runner.run(talk.command(mesh, line)):
                    return
            elif line:
                runner.run(talk.ask(mesh, line))
        except MeshError as error:
            console.fail(error.message)
        except KeyboardInterrupt:
            print()


@dataclass
class Talk:
    """A conversation: its turns, the user's own values, and the last plan."""

    temperature: float | None = None
    max_tokens: int = 0
    model: str = ""
    turns: list[dict[str, str]] = field(default_factory=list)
    plan: Plan | None = None

    async def ask(self, mesh: MeshClient, text: str) -> None:
        """Ask, print the answer as it comes, and remember both."""
        question = {"role": "user", "content": text}
        options = Options(
            model=self.model, temperature=self.temperature, max_tokens=self.max_tokens
        )
        depth = console.colour_depth(sys.stdout)
        async for event in mesh.converse([*self.turns, question], options):
            print(shown(event, depth), end="", flush=True)
            if isinstance(event, Plan):
                self.plan = event
            elif isinstance(event, End):
                self.turns += [question, {"role": "assistant", "content": event.text}]

    async def command(self, mesh: MeshClient, line: str) -> bool:
        """Do what a line beginning with `/` asks; False: leave."""
        name, _, value = line[1:].partition(" ")
        if name in {"good", "bad"}:
            await self._feedback(mesh, 1.0 if name == "good" else -1.0)
        elif name == "temperature":
            self.temperature = temperature(value.strip())
        elif name == "reset":
            self.turns.clear()
        elif name != "quit":
            print(COMMANDS)
        return name != "quit"

    async def _feedback(self, mesh: MeshClient, score: float) -> None:
        if not self.plan or not self.plan.decision_id:
            raise InvalidArgument("there is no decision yet that feedback could be about")
        receipt = await mesh.feedback(self.plan.decision_id, score)
        print(console.styled(f"feedback {receipt.feedback_id}: {receipt.state}", "dim"))


def shown(event: Event, depth: int) -> str:
    """Return what is printed of an event, for a terminal of `depth` bits of colour."""
    if isinstance(event, Tokens):
        return "".join(heat.coloured(t.text, t.temperature, depth) for t in event.tokens)
    if isinstance(event, Plan):
        return _dim(plan_line(event), depth) + "\n"
    if isinstance(event, Applied) and event.source != "plan":
        return _dim(f"[{event.source} update from token {event.token_index}]", depth)
    if isinstance(event, Rejected):
        return _dim(f"[update rejected: {event.field}: {event.message}]", depth)
    return "\n" + _dim(end_line(event), depth) + "\n" if isinstance(event, End) else ""


def plan_line(plan: Plan) -> str:
    """Return a plan in one line."""
    return (
        f"plan: T {plan.temperature:.2f} by {plan.source}, task {plan.task},"
        f" scenario {plan.scenario or '-'}, policy version {plan.policy_version}"
    )


def end_line(end: End) -> str:
    """Return how an answer ended in one line."""
    usage = end.usage
    seconds = usage.decode_time_us / 1e6
    rate = f", {(usage.completion_tokens - 1) / seconds:.1f} tokens/s" if seconds > 0 else ""
    return (
        f"{end.finish_reason}: {usage.completion_tokens} tokens{rate},"
        f" mean T {end.mean_temperature:.2f}, mean entropy {end.mean_entropy:.2f} nats"
    )


async def _connect(server: str, api_key: str, trust: Trust | None) -> MeshClient:
    return MeshClient(server, api_key=api_key, trust=trust, retries=0)


def _read() -> str | None:
    prompt = console.styled("you> ", "bold") if sys.stdin.isatty() else ""
    try:
        return input(prompt).strip()
    except (EOFError, KeyboardInterrupt):
        return None


def _dim(text: str, depth: int) -> str:
    return f"\x1b[2m{text}\x1b[0m" if depth else text
