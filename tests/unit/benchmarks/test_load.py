"""The benchmark of the front doors: its figures, its stub engine, its schemas."""

from __future__ import annotations

import asyncio
import contextlib

import jsonschema
import pytest

from benchmarks.load import figures, overload, report, roofs, schemas, ways
from benchmarks.load.stub import Places, is_stamp, made_at
from thermesh.errors import ResourceExhausted


def test_what_a_door_adds_is_a_difference_of_quantiles():
    """Over all rounds, beside the least and the greatest of one round."""
    alone = {"engine": [10.0] * 9}
    rounds = [alone | {"grpc": [11.0] * 10}, alone | {"grpc": [13.0] * 9}]
    p50, p99 = figures.added(rounds, "grpc", "added", 2.0, 2.5)
    assert p50 == ("added, p50", "<= 2 ms", "+1.00 ms (rounds +1.00 to +3.00)", True)
    assert p99[2:] == ("+3.00 ms (rounds +1.00 to +3.00)", False)


def test_few_samples_stand_for_many():
    """Both ends stay, and so does what lies in the middle."""
    found = figures.thinned([float(each) for each in range(10_001)], 101)
    assert (found[0], found[50], found[-1], len(found)) == (0.0, 5000.0, 10_000.0, 101)
    assert figures.thinned([2.0, 1.0]) == [1.0, 2.0]


def test_refusals_without_retry_after_are_no_good_refusals():
    """One that does not say when to come back fails the figure."""
    good = {
        "unloaded": [20.0],
        "interactive": [30.0],
        "peak_per_s": 60.0,
        "goodput_per_s": 57.0,
        "refused_interactive": 0,
        "refused_badly": 0,
        "refusal": [1.0, 2.0],
    }
    assert all(met for *_, met in overload.figures([good]))
    found = overload.figures([good | {"refused_badly": 1}])
    missed = [figure for figure, *_, met in found if not met]
    assert missed == ["refusals with 429 or 503 and Retry-After"]


async def test_the_roof_of_refusals_refuses():
    """Each request on a connection, once it is whole."""
    server = await asyncio.get_running_loop().create_server(roofs.Refusing, "127.0.0.1", 0)
    rest = ways.Rest(server.sockets[0].getsockname()[1])
    try:
        answers = [await rest.complete(ways.Question(4)) for _ in range(2)]
    finally:
        await rest.close()
        server.close()
        await server.wait_closed()
    assert [(each.status, each.retry_after) for each in answers] == [(429, "1")] * 2


def test_a_token_of_the_stub_tells_when_it_was_made():
    """And words of a real model are not mistaken for one."""
    assert made_at("3b9aca00 3b9aca01 ") == pytest.approx(1.0)
    assert is_stamp("3b9aca0012345")
    assert not is_stamp("facade")
    assert not is_stamp("The")


async def test_a_higher_class_gets_the_next_place():
    """Arrival counts within a class only; who leaves the queue is passed over."""
    places, order = Places(1, 8), []

    async def run(name, priority):
        with places.entered(), places.seated(priority) as seat:
            await seat.given.wait()
            order.append(name)

    with places.seated(3):
        waiting = [asyncio.create_task(run(*one)) for one in (("a", 1), ("gone", 3), ("b", 3))]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == ["b", "a"]
    assert places.inside == 0


def test_a_higher_class_takes_the_place_of_the_newest_of_the_lowest():
    """Which has it back before those who came after it."""
    places = Places(2, 8)
    with contextlib.ExitStack() as stack:
        old, new, late = (stack.enter_context(places.seated(1)) for _ in range(3))
        with places.seated(2) as high:
            assert (old.is_running, new.is_running, high.is_running) == (True, False, True)
        assert (old.is_running, new.is_running, late.is_running) == (True, True, False)


def test_a_full_stub_refuses_at_once():
    """Places and queue together bound who is inside."""
    places = Places(1, 1)
    with contextlib.ExitStack() as inside:
        inside.enter_context(places.entered())
        inside.enter_context(places.entered())
        with pytest.raises(ResourceExhausted):
            places.entered().__enter__()


async def test_a_streamed_answer_is_read_from_the_wire():
    """Chunks, events, the text in them, and the end."""
    events = (
        b": ping\n\n",
        b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"3b9aca0000 "}}]}\n\n',
        b"data: [DONE]\n\n",
        b"",
    )
    reader = asyncio.StreamReader()
    reader.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for event in events:
        reader.feed_data(f"{len(event):x}\r\n".encode() + event + b"\r\n")
    answer = ways.Answer()
    await ways._read_http(reader, answer)
    assert (answer.status, answer.token_count, answer.is_whole) == (200, 1, True)


async def test_a_refusal_is_read_from_the_wire():
    """With the time after which to come back."""
    reader = asyncio.StreamReader()
    reader.feed_data(b"HTTP/1.1 429 Too Many\r\nRetry-After: 2\r\nContent-Length: 2\r\n\r\n{}")
    answer = ways.Answer()
    await ways._read_http(reader, answer)
    assert (answer.status, answer.retry_after, answer.is_whole) == (429, "2", False)


@pytest.mark.slow  # hypothesis draws dozens of documents for each schema
def test_schemas_are_the_same_each_time_and_have_an_end():
    """Distinct, valid by themselves, texts and lists with a greatest length."""
    found = schemas.schemas(2)
    assert found == schemas.schemas(2)
    assert len(found) == 2
    for schema in found:
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["additionalProperties"] is False


def test_bounds_reach_every_level():
    """Members, items and alternatives are bounded too."""
    inner = {"type": ["string", "array"], "items": {"anyOf": [{"type": "string"}]}}
    found = schemas.bounded({"type": "object", "properties": {"a": inner}})["properties"]["a"]
    assert (found["maxLength"], found["maxItems"]) == (24, 4)
    assert found["items"]["anyOf"] == [{"type": "string", "maxLength": 24}]


def test_the_table_of_the_page_is_that_of_the_rounds():
    """What docs/load.md says is what benchmarks/results holds."""
    page = report.PAGE.read_text()
    shown = page.partition(report.BEGIN)[2].partition(report.END)[0]
    assert shown.strip() == report.table().strip()
