"""The whole mesh with certificates everywhere: between the rooms and at the doors."""

from __future__ import annotations

import asyncio
import ssl

import httpx
import openai
import pytest
import trustme

from thermesh.client import MeshClient, Tokens
from thermesh.testing import eventually
from thermesh.tls import Trust

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(300)]

QUESTION = "What is the capital of France?"


@pytest.fixture
def secured(tmp_path, mesh_of):
    """A mesh whose rooms ask each other for certificates, and the file of its authority."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    paths = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(paths["ca"])
    issued.cert_chain_pems[0].write_to_path(paths["cert"])
    issued.private_key_pem.write_to_path(paths["key"])
    settings = {
        "THERMESH_TLS": "mutual",
        "THERMESH_TLS_CERT_FILE": paths["cert"],
        "THERMESH_TLS_KEY_FILE": paths["key"],
        "THERMESH_TLS_CA_FILE": paths["ca"],
        "THERMESH_GATEWAY_TLS_CERT_FILE": paths["cert"],
        "THERMESH_GATEWAY_TLS_KEY_FILE": paths["key"],
    }
    return mesh_of(settings), paths["ca"]


async def test_both_doors_answer_by_a_policy_that_the_rooms_agreed_on(secured):
    """REST and gRPC answer over TLS, and the plan came from the controller, over TLS too."""
    mesh, authorities = secured
    url = f"https://127.0.0.1:{mesh.ports['http']}"
    async with httpx.AsyncClient(
        verify=ssl.create_default_context(cafile=authorities), timeout=60
    ) as http:

        async def ready():
            try:
                return (await http.get(f"{url}/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(ready, 90, "the REST door")
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", http_client=http)

        async def decided():
            answer = await client.chat.completions.create(
                model="smollm2-135m-instruct",
                messages=[{"role": "user", "content": QUESTION}],
                max_tokens=16,
            )
            return answer.model_extra["thermesh"]["plan"]["source"] == "policy"

        await eventually(decided, 60, "a plan of the controller")
    trust = Trust(authorities)
    async with MeshClient(mesh.target("gateway"), trust=trust, timeout=60) as client:
        texts = [
            event.text
            async for event in client.converse(QUESTION, temperature=0, max_tokens=16)
            if isinstance(event, Tokens)
        ]
    assert "Paris" in "".join(texts)


async def test_a_caller_without_a_certificate_reaches_no_room(secured):
    """The ports of the rooms are open and of no use to strangers."""
    mesh, _ = secured

    async def listening():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", mesh.ports["controller"])
        except OSError:
            return False
        writer.close()
        return True

    await eventually(listening, 90, "the controller's port")
    assert not await mesh.is_serving_in_plaintext("controller")
