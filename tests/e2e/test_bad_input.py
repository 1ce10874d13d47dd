"""Bad input is refused by the mesh as a whole: field named, status right, health kept."""

from __future__ import annotations

import httpx
import pytest

from thermesh import errors, rpc
from thermesh.v1 import chat_pb2, chat_pb2_grpc, common_pb2

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(120)]

GOOD = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}


def said(content, role="user"):
    """A conversation of one message."""
    return {"messages": [{"role": role, "content": content}]}


REST = {
    "unknown model": ({"model": "gpt-9"}, 404, "model"),
    "empty prompt": (said(""), 400, "messages[0].content"),
    "no messages": ({"messages": []}, 400, "messages"),
    "prompt over the context": (said("word " * 30_000), 400, "messages"),
    "content of a wrong type": (said(7), 400, "messages[0].content"),
    "unknown role": (said("hello", "wizard"), 400, "messages[0].role"),
    "temperature too high": ({"temperature": 3}, 400, "temperature"),
    "temperature that is no number": ({"temperature": "hot"}, 400, "temperature"),
    "negative max_tokens": ({"max_tokens": -1}, 400, "max_tokens"),
    "unknown field": ({"bogus": 1}, 400, "bogus"),
    "unknown scenario": ({"thermesh": {"scenario": "opera"}}, 400, "thermesh.scenario"),
}


@pytest.mark.parametrize("case", REST)
async def test_rest_names_the_field(mesh, case):
    """Each bad body gets its status and the path of the field to mend."""
    change, status, param = REST[case]
    async with httpx.AsyncClient(base_url=mesh.url, timeout=30) as client:
        refused = await client.post("/v1/chat/completions", json=GOOD | change)
        accepted = await client.post("/v1/chat/completions", json=GOOD)

    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)
    assert accepted.status_code == 200


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        ('{"messages": ', "application/json", 400),
        ('{"messages": []}', "text/plain", 415),
        ('{"messages": "' + "x" * 2_000_000 + '"}', "application/json", 413),
    ],
    ids=["malformed JSON", "wrong content type", "body over the limit"],
)
async def test_a_body_that_cannot_be_read_is_refused(mesh, content, content_type, status):
    """What is no JSON of a sane size never reaches the mesh."""
    headers = {"content-type": content_type}
    async with httpx.AsyncClient(base_url=mesh.url, timeout=30, headers=headers) as client:
        refused = await client.post("/v1/chat/completions", content=content)

    assert refused.status_code == status
    assert refused.json()["error"]["message"]


def start(text="hello", role=common_pb2.ROLE_USER, model="", temperature=None):
    """A Converse start."""
    message = chat_pb2.ConverseStart(model=model)
    message.messages.add(role=role, content=text)
    message.constraints.max_tokens = 2
    if temperature is not None:
        message.constraints.temperature = temperature
    return chat_pb2.ConverseRequest(start=message)


GRPC = {
    "unknown model": ([start(model="gpt-9")], errors.NotFound, "model"),
    "empty prompt": ([start("")], errors.InvalidArgument, "messages[0].content"),
    "prompt over the context": (
        [start("word " * 30_000)],
        errors.InvalidArgument,
        "messages",
    ),
    "unknown role": ([start(role=0)], errors.InvalidArgument, "messages[0].role"),
    "temperature too high": (
        [start(temperature=3)],
        errors.InvalidArgument,
        "constraints.temperature",
    ),
    "no start": (
        [chat_pb2.ConverseRequest(credit=common_pb2.Credit(tokens=1))],
        errors.FailedPrecondition,
        "start",
    ),
    "second start": ([start(), start()], errors.FailedPrecondition, "start"),
}


@pytest.mark.parametrize("case", GRPC)
async def test_grpc_names_the_field(mesh, case):
    """Each bad stream ends with its status and the path of the field to mend."""
    messages, error_type, field = GRPC[case]
    channel = rpc.connect(mesh.target("gateway"))
    call = chat_pb2_grpc.ChatServiceStub(channel).Converse(iter(messages))
    try:
        with pytest.raises(error_type) as caught, rpc.translated():
            async for _ in call:
                pass
    finally:
        call.cancel()
        await channel.close()

    assert caught.value.field == field
