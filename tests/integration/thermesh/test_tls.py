"""Certificates between rooms and at the doors: who comes in, who does not, and renewal."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import replace

import httpx
import pytest
import trustme

from services.gateway.http_server import HttpServer
from thermesh import healthcheck, rpc, tls
from thermesh.cli import probes
from thermesh.settings import BadSetting
from thermesh.testing import eventually


class Certificates:
    """The files of one authority and of a certificate for `name` that it gave."""

    def __init__(self, folder, name="127.0.0.1"):
        self.folder = folder
        self.authority = trustme.CA()
        self.authorities = str(folder / "ca.pem")
        self.authority.cert_pem.write_to_path(self.authorities)
        self.certificate, self.key = str(folder / "cert.pem"), str(folder / "key.pem")
        self.renew(name)

    def renew(self, name="127.0.0.1"):
        """Replace certificate and key by new ones."""
        issued = self.authority.issue_cert(name)
        issued.private_key_pem.write_to_path(self.key)
        issued.cert_chain_pems[0].write_to_path(self.certificate)

    def config(self, mode):
        """Return the settings of a room that has these files."""
        return tls.TlsConfig(mode, self.certificate, self.key, self.authorities)


@pytest.fixture
def ours(tmp_path):
    """The certificates of this mesh."""
    return Certificates(tmp_path)


@pytest.fixture
def others(tmp_path):
    """Those of somebody else."""
    (tmp_path / "others").mkdir()
    return Certificates(tmp_path / "others")


@contextlib.asynccontextmanager
async def serving(door):
    """A room without services behind `door`; yields its address."""
    server = rpc.Server("test", "127.0.0.1", 0, 0.1, door)
    port = await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.drain()


async def is_welcome(target, trust):
    """Whether a caller that trusts by `trust` gets an answer."""
    channel = rpc.connect_with(target, trust)
    try:
        return await rpc.is_serving(channel, timeout=5)
    finally:
        await channel.close()


@pytest.mark.parametrize("mode", ["on", "mutual"])
async def test_rooms_with_one_authority_talk(ours, mode):
    """Both sides of one mesh find each other trustworthy."""
    async with serving(tls.room_door(ours.config(mode))) as target:
        assert await is_welcome(target, tls.room_trust(ours.config(mode)))


@pytest.mark.parametrize("mode", ["on", "mutual"])
async def test_plaintext_and_other_authorities_stay_outside(ours, others, mode):
    """A caller without TLS, or who trusts somebody else, is not served."""
    async with serving(tls.room_door(ours.config(mode))) as target:
        assert not await is_welcome(target, None)
        assert not await is_welcome(target, tls.room_trust(others.config(mode)))


async def test_mutual_asks_for_a_certificate_of_ours(ours, others):
    """Trusting the room is not enough: the caller has to be known too."""
    async with serving(tls.room_door(ours.config("mutual"))) as target:
        anonymous = tls.Trust(ours.authorities)
        stranger = tls.Trust(ours.authorities, others.certificate, others.key)
        assert not await is_welcome(target, anonymous)
        assert not await is_welcome(target, stranger)


async def test_a_certificate_of_another_name_is_refused_unless_that_name_is_expected(ours):
    """The name in the certificate is checked; `peer_name` says which one it has to be."""
    ours.renew("rooms.mesh.internal")
    async with serving(tls.room_door(ours.config("on"))) as target:
        by_address = tls.room_trust(ours.config("on"))
        assert not await is_welcome(target, by_address)
        assert await is_welcome(target, replace(by_address, peer_name="rooms.mesh.internal"))


async def test_a_renewed_certificate_is_shown_without_a_restart(ours):
    """Replacing the files is enough for new connections; broken files change nothing."""
    expects_new = tls.Trust(ours.authorities, peer_name="renewed.mesh.internal")
    async with serving(tls.room_door(ours.config("on"))) as target:
        assert not await is_welcome(target, expects_new)
        ours.renew("renewed.mesh.internal")
        assert await is_welcome(target, expects_new)
        (ours.folder / "cert.pem").unlink()
        assert await is_welcome(target, expects_new)


async def test_a_health_check_speaks_the_tls_of_the_rooms(ours, monkeypatch):
    """The command of container health checks follows THERMESH_TLS like every caller."""
    async with serving(tls.room_door(ours.config("mutual"))) as target:
        assert await asyncio.to_thread(healthcheck.ask_grpc, target) != "SERVING"
        monkeypatch.setenv("THERMESH_TLS", "mutual")
        monkeypatch.setenv("THERMESH_TLS_CERT_FILE", ours.certificate)
        monkeypatch.setenv("THERMESH_TLS_KEY_FILE", ours.key)
        monkeypatch.setenv("THERMESH_TLS_CA_FILE", ours.authorities)
        assert await asyncio.to_thread(healthcheck.ask_grpc, target) == "SERVING"


async def answer(scope, receive, send):
    """An application that says 200."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"here"})


async def test_the_rest_door_speaks_https_and_follows_renewal(ours):
    """A browser that trusts the authority gets in, before and after renewal."""
    server = HttpServer(answer, "127.0.0.1", 0, 0.1, tls.public_door(ours.certificate, ours.key))
    port = await server.start()
    try:
        trusting = ssl.create_default_context(cafile=ours.authorities)
        async with httpx.AsyncClient(verify=trusting) as client:
            first = await client.get(f"https://127.0.0.1:{port}/")
        await eventually(probes.http("127.0.0.1", port, "/", tls=True), 30, "the probe of `up`")
        ours.renew("localhost")
        async with httpx.AsyncClient(verify=trusting) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"https://127.0.0.1:{port}/")
            second = await client.get(f"https://localhost:{port}/")
    finally:
        await server.drain()

    assert (first.text, second.text) == ("here", "here")


@pytest.mark.parametrize("missing", ["certificate", "key", "authorities"])
def test_mutual_without_a_file_is_refused_by_its_variable(ours, missing):
    """Every missing file is named by the variable that should have said it."""
    variable = {
        "certificate": "THERMESH_TLS_CERT_FILE",
        "key": "THERMESH_TLS_KEY_FILE",
        "authorities": "THERMESH_TLS_CA_FILE",
    }[missing]
    config = replace(ours.config("mutual"), **{missing: ""})
    with pytest.raises(BadSetting, match=variable):
        tls.room_door(config)
    with pytest.raises(BadSetting, match=variable):
        tls.room_trust(config)


def test_files_that_cannot_be_read_are_named(ours):
    """A path that leads nowhere stops the process at start."""
    nowhere = str(ours.folder / "nowhere.pem")
    with pytest.raises(BadSetting, match=r"nowhere\.pem"):
        tls.Door(nowhere, ours.key).credentials()
    with pytest.raises(BadSetting, match=r"nowhere\.pem"):
        tls.Trust(nowhere).credentials()
    with pytest.raises(BadSetting, match="no certificate with its key"):
        tls.Door(ours.key, ours.certificate).context()


def test_a_certificate_of_the_gateway_needs_its_key():
    """One file of the two is a mistake, not plaintext."""
    with pytest.raises(BadSetting, match="go together"):
        tls.public_door("cert.pem", "")
    assert tls.public_door("", "") is None
