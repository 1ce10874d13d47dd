"""`thermesh keys`: who may ask, and how much.

Works on the Redis that the gateways read, so that no door of the mesh can make
keys: whoever reaches that Redis is an administrator already. Gateways take
notice within five seconds.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from thermesh import keys, settings
from thermesh.cli import console
from thermesh.clock import SystemClock
from thermesh.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable

HELP = "create, list and revoke API keys; set what a tenant may use"
TIMEOUT_SECONDS = 5.0
ADDRESS_FILE = "redis.url"
"""In the state folder while `thermesh up` runs the bundled redis-server."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `keys`."""
    parser.description = __doc__
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    creating = _action(actions, "create", create)
    creating.add_argument("name", help="whose or what for, to know the key again in the list")
    creating.add_argument("--tenant", help="default: the name")
    creating.add_argument("--priority", choices=keys.PRIORITIES, default="")
    creating.add_argument("--admin", action="store_true", help="opens the operator's routes too")
    _action(actions, "list", list_keys)
    _action(actions, "revoke", revoke).add_argument("key_id", metavar="KEY_ID")
    limiting = _action(actions, "limits", limits)
    limiting.add_argument("tenant")
    for option in ("requests-per-minute", "tokens-per-minute", "requests-at-once"):
        limiting.add_argument(f"--{option}", type=_count, default=0, metavar="N")


def run(arguments: argparse.Namespace) -> int:
    """Do the action asked for; return the exit status."""
    with _redis() as redis:
        arguments.action(redis, arguments)
    return 0


def create(redis: Any, arguments: argparse.Namespace) -> None:
    """Make a key and show it, this once."""
    tenant = arguments.tenant or arguments.name
    for field, text in (("name", arguments.name), ("tenant", tenant)):
        _check_name(text, field)
    secret = keys.new_secret()
    now = SystemClock().unix_ms()
    key = keys.Key(
        keys.new_key_id(), arguments.name, tenant, arguments.priority, now, arguments.admin
    )
    redis.hset(keys.KEYS_HASH, keys.digest(secret), keys.pack_key(key))
    print(f"  {key.key_id} of tenant {tenant}; the key is shown this once:\n\n{secret}")


def list_keys(redis: Any, arguments: argparse.Namespace) -> None:  # noqa: ARG001  # as the others
    """List the keys and what their tenants may use; keys themselves are kept nowhere."""
    found = sorted(_kept(redis).values(), key=lambda key: key.created_unix_ms)
    tenants = {key.tenant for key in found}
    allowances = {tenant: _allowance(redis, tenant) for tenant in tenants}
    heading = ("key", "name", "tenant", "priority", "created", "limits")
    rows = [(*_row(key), _limits(allowances[key.tenant])) for key in found]
    print(console.table([heading, *rows]) if rows else "  there are no keys")


def revoke(redis: Any, arguments: argparse.Namespace) -> None:
    """Make a key worthless."""
    digests = [one for one, key in _kept(redis).items() if key.key_id == arguments.key_id]
    if not digests:
        raise NotFound(f"there is no key {arguments.key_id}; see thermesh keys list")
    redis.hdel(keys.KEYS_HASH, *digests)
    print(f"  {arguments.key_id} is revoked")


def limits(redis: Any, arguments: argparse.Namespace) -> None:
    """Set what a tenant may use; what is not given has no bound of its own."""
    _check_name(arguments.tenant, "tenant")
    allowance = keys.Allowance(
        arguments.requests_per_minute, arguments.tokens_per_minute, arguments.requests_at_once
    )
    redis.hset(keys.TENANTS_HASH, arguments.tenant, keys.pack_allowance(allowance))
    print(f"  {arguments.tenant}: {_limits(allowance)}")


def remember_address(state: pathlib.Path, url: str) -> None:
    """Note where the bundled redis-server listens."""
    (state / ADDRESS_FILE).write_text(url, encoding="utf-8")


def forget_address(state: pathlib.Path) -> None:
    """Remove the note: the server is no more."""
    (state / ADDRESS_FILE).unlink(missing_ok=True)


def _action(actions: Any, name: str, action: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=action.__doc__, description=action.__doc__
    )
    parser.set_defaults(action=action)
    return parser


@contextmanager
def _redis() -> Iterator[Any]:
    try:
        import redis  # noqa: PLC0415  # a client of the mesh needs none
    except ImportError:
        raise FailedPrecondition("keys need the extra thermesh[gateway]") from None
    connection = redis.Redis.from_url(
        _address(),
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
    )
    try:
        yield connection
    except (redis.RedisError, OSError) as error:
        raise Unavailable("Redis does not answer: check REDIS_URL") from error
    finally:
        connection.close()


def _address() -> str:
    noted = settings.state_dir() / ADDRESS_FILE
    if url := os.environ.get("REDIS_URL"):
        return url
    if noted.exists():
        return noted.read_text(encoding="utf-8").strip()
    raise FailedPrecondition("set REDIS_URL to the Redis of the mesh, or start thermesh up")


def _kept(redis: Any) -> dict[bytes, keys.Key]:
    kept = redis.hgetall(keys.KEYS_HASH)
    return {one: key for one, text in kept.items() if (key := keys.unpack_key(text))}


def _allowance(redis: Any, tenant: str) -> keys.Allowance | None:
    text = redis.hget(keys.TENANTS_HASH, tenant)
    return keys.unpack_allowance(text) if text else None


def _row(key: keys.Key) -> tuple[str, ...]:
    made = dt.datetime.fromtimestamp(key.created_unix_ms / 1000, dt.UTC)
    when = made.isoformat(timespec="seconds")
    return (key.key_id, key.name, key.tenant, key.priority or "-", when)


def _limits(allowance: keys.Allowance | None) -> str:
    if allowance is None:
        return "the gateway's"
    numbers = (
        (allowance.requests_per_minute, "requests/min"),
        (allowance.tokens_per_minute, "tokens/min"),
        (allowance.requests_at_once, "at once"),
    )
    return ", ".join(f"{number} {unit}" for number, unit in numbers if number) or "none"


def _check_name(text: str, field: str) -> None:
    if not keys.is_name(text):
        raise InvalidArgument(f"{field} must be 1 to 64 characters of A-Z a-z 0-9 . _ -")


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number
