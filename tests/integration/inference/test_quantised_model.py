"""The packaged model in a mix of few bits, served like every model."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import numpy as np
import pytest

from services.inference import models
from services.inference.config import Config
from services.inference.kernels.cpu import status
from services.inference.models import nested_weights
from services.inference.models.group_codes import GroupFormat
from services.inference.models.nested import Prefix
from services.inference.quantise.rounding import rounded
from services.inference.quantise.source import Source
from services.inference.service import Service
from thermesh import rpc
from thermesh.models import locate
from thermesh.testing import free_port
from thermesh.v1 import common_pb2

from .conftest import Served, fixed

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(300)]
QUESTION = "What is the capital of France?"
FEW, MANY = GroupFormat(4, 64, False), GroupFormat(6, 64, False)
HEAD = GroupFormat(4, 32, False)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Four bits for all but the embedding, rounded without any measurement."""
    source = Source(locate("smollm2-135m-instruct"))
    mix = {name: MANY if name == "token_embd.weight" else FEW for name in source.matrices}
    path = tmp_path_factory.mktemp("mix") / "mix.gguf"

    def rows_of(name):
        even = np.ones(source.matrices[name][1], "f4")
        return rounded(source.matrix(name), even, mix[name], widths=(0.9,))

    source.write(path, mix, rows_of)
    return models.load(path, "mix")


@pytest.fixture(scope="module")
def with_light(tmp_path_factory):
    """The packaged model with a light path of its own: half the neurons, the head in four bits."""
    source = Source(locate("smollm2-135m-instruct"))
    light = Prefix(source.config.heads // source.config.kv_heads, 768)
    cut = nested_weights.cut(source.weights(), source.config, light)
    own = {
        name: (rounded(view.contiguous(), np.ones(view.shape[1], "f4"), HEAD, (0.9,)), HEAD)
        for name, view in cut.destinations(light.config(source.config)).items()
        if (".ffn_" in name and view.dim() == 2) or name == "token_embd.weight"
    }
    path = tmp_path_factory.mktemp("light") / "light.gguf"
    source.write_beside(path, own, light.metadata())
    return path


@contextlib.asynccontextmanager
async def serving(model, **settings) -> AsyncIterator[Served]:
    """A service on a loaded model."""
    target = f"127.0.0.1:{free_port()}"
    config = Config(port=0, grace_seconds=0.2, controller_target=target, **settings)
    service = Service(config, model, "replica-1", threads=1)
    channel = rpc.connect(f"127.0.0.1:{await service.start()}")
    try:
        yield Served(service, model, channel)
    finally:
        await channel.close()
        await service.stop()


async def answer(served: Served) -> str:
    """What a service says to the question, greedily."""
    turn = common_pb2.ChatMessage(role=common_pb2.ROLE_USER, content=QUESTION)
    call = await served.open(
        chat=common_pb2.ChatInput(messages=[turn]),
        max_tokens=12,
        sampling=common_pb2.Sampling(program=fixed(0.0)),
    )
    await call.hear_all()
    return call.text


async def test_a_mix_is_served_by_the_fastest_kernels(mixed):
    """It runs where the original runs, says what it is, and still knows its facts."""
    async with serving(mixed) as served:
        assert "Paris" in await answer(served)
    assert mixed.weight_format == "MIX_4.67"
    assert (mixed.network.kernels_name != "reference") == fits(status())


async def test_a_file_with_a_light_path_is_served_by_its_path_in_the_setting(with_light):
    """Both networks load, the light one guesses, and the whole says what it said before."""
    config = Config(model=str(with_light))
    model = models.load(locate(config.model), "light")
    async with serving(model, self_speculation=True) as served:
        guessed = await answer(served)
    async with serving(models.load(locate("smollm2-135m-instruct"), "plain")) as plain:
        assert guessed == await answer(plain)
    assert model.weight_format == "Q4_1"
    assert model.network.light_network is not None


def fits(kernels) -> bool:
    """Tell whether the C++ kernels serve at all on this machine."""
    return kernels.available and kernels.tiers != ("generic",)
