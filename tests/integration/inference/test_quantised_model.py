"""The packaged model in a mix of few bits, served like every model."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest

from services.inference import models
from services.inference.config import Config
from services.inference.kernels.cpu import status
from services.inference.models.group_codes import GroupFormat
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


@pytest.fixture
async def served(mixed) -> AsyncIterator[Served]:
    """A service on it."""
    config = Config(port=0, grace_seconds=0.2, controller_target=f"127.0.0.1:{free_port()}")
    service = Service(config, mixed, "replica-1", threads=1)
    channel = rpc.connect(f"127.0.0.1:{await service.start()}")
    yield Served(service, mixed, channel)
    await channel.close()
    await service.stop()


async def test_a_mix_is_served_by_the_fastest_kernels(served, mixed):
    """It runs where the original runs, says what it is, and still knows its facts."""
    turn = common_pb2.ChatMessage(role=common_pb2.ROLE_USER, content=QUESTION)
    call = await served.open(
        chat=common_pb2.ChatInput(messages=[turn]),
        max_tokens=12,
        sampling=common_pb2.Sampling(program=fixed(0.0)),
    )
    await call.hear_all()
    assert "Paris" in call.text
    assert mixed.weight_format == "MIX_4.67"
    assert (mixed.network.kernels_name != "reference") == fits(status())


def fits(kernels) -> bool:
    """Tell whether the C++ kernels serve at all on this machine."""
    return kernels.available and kernels.tiers != ("generic",)
