"""API keys as the command line makes them and the gateway knows them.

A key is 32 random bytes, so that its SHA-256 says nothing of it: only the digest
is kept, and the key itself is shown once. (Slow password hashes defend short
secrets against guessing; 256 random bits need none.) In Redis, two hashes:

    thermesh:keys     digest -> who holds the key      (`pack_key`)
    thermesh:tenants  tenant -> what it may use        (`pack_allowance`)

This module knows neither Redis nor the gateway.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import secrets
from dataclasses import dataclass

KEYS_HASH = "thermesh:keys"
TENANTS_HASH = "thermesh:tenants"

PRIORITIES = ("batch", "standard", "interactive", "voice")

_SECRET = re.compile(r"tm-[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Key:
    """Who holds a key; `priority` empty: what the request says, or the service's default.

    `admin`: whether it opens the operator's routes.
    """

    key_id: str
    name: str
    tenant: str
    priority: str = ""
    created_unix_ms: int = 0
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a tenant may use; 0: no bound of its own."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    requests_at_once: int = 0


UNLIMITED = Allowance()


def new_secret() -> str:
    """Return a new key: `tm-` and 43 characters."""
    return "tm-" + secrets.token_urlsafe(32)


def new_key_id() -> str:
    """Return a name for a key that tells nothing of it."""
    return "key-" + secrets.token_hex(6)


def is_secret(text: str) -> bool:
    """Tell whether `text` has the form of a key, so that nothing else is looked up."""
    return _SECRET.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Tell whether `text` may name a tenant or a key."""
    return _NAME.fullmatch(text) is not None


def digest(secret: str) -> str:
    """Return what is kept of a key: its SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def pack_key(key: Key) -> str:
    """Return `key` as it is kept."""
    return json.dumps(dataclasses.asdict(key))


def unpack_key(text: str | bytes) -> Key | None:
    """Return what `pack_key` made; None where `text` is not that."""
    found = _members(text)
    expected = {field.name for field in dataclasses.fields(Key)}
    created = found.pop("created_unix_ms", None)
    admin = found.pop("admin", False)  # keys of earlier versions have no such member
    texts = {name: text for name, text in found.items() if isinstance(text, str)}
    if {*texts, "created_unix_ms", "admin"} != expected:
        return None
    if not isinstance(created, int) or not isinstance(admin, bool):
        return None
    key = Key(**texts, created_unix_ms=created, admin=admin)
    return key if is_name(key.tenant) and key.priority in {"", *PRIORITIES} else None


def pack_allowance(allowance: Allowance) -> str:
    """Return `allowance` as it is kept."""
    return json.dumps(dataclasses.asdict(allowance))


def unpack_allowance(text: str | bytes) -> Allowance | None:
    """Return what `pack_allowance` made; None where `text` is not that."""
    found = _members(text)
    numbers = [found.get(field.name) for field in dataclasses.fields(Allowance)]
    if not all(type(number) is int and number >= 0 for number in numbers):
        return None
    return Allowance(*map(int, numbers))  # type: ignore[arg-type]  # checked above


def _members(text: str | bytes) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
