"""A mesh in front of an engine that somebody else runs: here the REST door of another mesh."""

from __future__ import annotations

import httpx
import openai
import pytest

from thermesh.testing import eventually

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(300)]


@pytest.fixture
async def front(mesh, mesh_of):
    """A mesh that decodes nothing itself."""
    bridging = mesh_of(
        {"THERMESH_ENGINE_URL": f"{mesh.url}/v1", "THERMESH_MODEL_NAME": "behind-a-bridge"}
    )
    await bridging.ready()
    return bridging


async def test_the_controller_decides_for_the_engine_behind(front):
    """Task, temperature and decision come from the front, tokens from behind."""
    async with openai.AsyncOpenAI(base_url=f"{front.url}/v1", api_key="unused") as client:

        async def ask(text, **options):
            return await client.chat.completions.create(
                model="behind-a-bridge", messages=[{"role": "user", "content": text}], **options
            )

        async def plan(text):
            answer = await ask(text, max_tokens=2)
            return answer.model_extra["thermesh"]["plan"]

        fact = [await plan("What is the capital of France?") for _ in range(3)]
        story = [await plan("Write a story about a dragon.") for _ in range(3)]
        paris = await ask("What is the capital of France?", temperature=0, max_tokens=16)
        models = [model.id async for model in await client.models.list()]
    cool, warm = ([one["temperature"] for one in side] for side in (fact, story))

    assert {one["source"] for one in (*fact, *story)} == {"policy"}
    assert sorted(cool)[1] < sorted(warm)[1]
    assert "Paris" in paris.choices[0].message.content
    assert paris.usage.prompt_tokens > 10
    assert models == ["behind-a-bridge"]


async def test_feedback_on_an_answer_from_behind_teaches_the_policy(front):
    """The outcome reaches the learner as it would from our own engine."""
    async with httpx.AsyncClient(base_url=front.url, timeout=60) as client:
        turns = [{"role": "user", "content": "What is the capital of France?"}]
        body = {"messages": turns, "max_tokens": 4}
        answer = (await client.post("/v1/chat/completions", json=body)).json()["thermesh"]
        given = {"id": "fb-1", "decision_id": answer["decision_id"], "score": 1}
        assert (await client.post("/v1/feedback", json=given)).status_code == 202

        async def applied():
            state = (await client.get("/v1/feedback/fb-1")).json()
            return state["state"] == "applied"

        await eventually(applied, 30, "the feedback in a policy version")


async def test_the_engine_behind_goes_and_comes_back(front, mesh):
    """While it is away clients are told so at once; afterwards answers come again."""
    async with httpx.AsyncClient(base_url=front.url, timeout=60) as client:

        async def status():
            body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
            return (await client.post("/v1/chat/completions", json=body)).status_code

        mesh.stop("gateway")
        try:
            away = await status()
        finally:
            mesh.start("gateway")
        await mesh.ready()

        async def answers():
            return await status() == 200

        await eventually(answers, 30, "answers from behind")
    assert away == 503
