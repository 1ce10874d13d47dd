"""Keys and allowances as they are kept, and the command that makes them."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermesh import keys
from thermesh.cli import keys as command
from thermesh.cli.__main__ import main
from thermesh.testing import redis_server

NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)


@pytest.fixture(scope="module")
def server():
    """A Redis of this module's own."""
    with redis_server() as running:
        yield running


@pytest.fixture
def run(server, monkeypatch, capsys):
    """Run the command and return what it printed."""
    monkeypatch.setenv("REDIS_URL", server.url)

    def ran(*arguments):
        status = main(["keys", *arguments])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return ran


@given(NAMES, NAMES, st.sampled_from(["", *keys.PRIORITIES]), st.integers(0, 2**53))
def test_a_key_comes_back_as_it_was(name, tenant, priority, created):
    """Packing and unpacking changes nothing."""
    key = keys.Key("key-1", name, tenant, priority, created)
    assert keys.unpack_key(keys.pack_key(key)) == key


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**6))
def test_an_allowance_comes_back_as_it_was(requests, tokens, at_once):
    """Packing and unpacking changes nothing."""
    allowance = keys.Allowance(requests, tokens, at_once)
    assert keys.unpack_allowance(keys.pack_allowance(allowance)) == allowance


@given(
    st.one_of(
        st.text(), st.binary(), st.recursive(st.none() | st.integers(), st.lists).map(json.dumps)
    )
)
def test_anything_else_is_not_believed(text):
    """What this version would not write is no key and no allowance."""
    assert keys.unpack_key(text) is None
    assert keys.unpack_allowance(text) is None


def test_secrets_differ_and_are_recognised():
    """A new key has the form that is looked up; its digest does not contain it."""
    made = {keys.new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(map(keys.is_secret, made))
    assert not keys.is_secret("sk-other")


def test_a_key_is_shown_once_and_only_its_digest_is_kept(run, server):
    """Created, listed, revoked: after the first answer nothing has the key any more."""
    status, said = run("create", "alice", "--tenant", "acme", "--priority", "batch")
    secret = said.splitlines()[-1]
    assert status == 0
    assert keys.is_secret(secret)
    listed = run("list")[1]
    key_id = next(line.split()[0] for line in listed.splitlines() if "alice" in line)
    assert "acme" in listed
    assert secret not in listed
    import redis  # noqa: PLC0415  # only this test looks inside

    with redis.Redis.from_url(server.url) as inside:
        kept = inside.hgetall(keys.KEYS_HASH)
    assert secret not in repr(kept)
    assert keys.digest(secret).encode() in kept
    assert run("revoke", key_id)[0] == 0
    assert "alice" not in run("list")[1]


def test_limits_of_a_tenant_are_listed_with_its_keys(run):
    """What was set is what the list shows."""
    run("create", "limited")
    assert run("limits", "limited", "--requests-per-minute", "60")[0] == 0
    assert "60 requests/min" in run("list")[1]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("revoke", "key-unknown"), "there is no key"),
        (("create", "no spaces"), "name must be"),
        (("create", "bob", "--tenant", "a/b"), "tenant must be"),
    ],
)
def test_what_cannot_be_done_is_said(run, arguments, part):
    """Exit status 1 and one line that names what is wrong."""
    status, said = run(*arguments)
    assert status == 1
    assert part in said


def test_without_an_address_it_says_what_to_set(monkeypatch, tmp_path, capsys):
    """Neither REDIS_URL nor a running `up`: the message names both."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("THERMESH_STATE_DIR", str(tmp_path))
    assert main(["keys", "list"]) == 1
    assert "REDIS_URL" in capsys.readouterr().err


def test_the_address_of_up_is_found(server, monkeypatch, tmp_path, capsys):
    """While `up` runs its own Redis, the command needs no setting."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("THERMESH_STATE_DIR", str(tmp_path))
    command.remember_address(tmp_path, server.url)
    assert main(["keys", "list"]) == 0
    command.forget_address(tmp_path)
    assert main(["keys", "list"]) == 1
    assert "REDIS_URL" in capsys.readouterr().err


def test_a_redis_that_is_away_is_named_without_its_password(monkeypatch, capsys):
    """The message says what to check and shows nothing secret."""
    monkeypatch.setenv("REDIS_URL", "redis://:hidden@127.0.0.1:1/0")
    assert main(["keys", "list"]) == 1
    said = capsys.readouterr().err
    assert "REDIS_URL" in said
    assert "hidden" not in said


def test_every_bound_of_an_allowance_can_be_set():
    """The command has an option for each member."""
    options = {field.name.replace("_", "-") for field in dataclasses.fields(keys.Allowance)}
    assert options == {"requests-per-minute", "tokens-per-minute", "requests-at-once"}
