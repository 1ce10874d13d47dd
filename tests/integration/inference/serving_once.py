"""A process that serves a request of each kind, and tells whether that took torch."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from services.inference import models
from services.inference.config import Config
from services.inference.service import Service
from thermesh import rpc
from thermesh.models import locate
from thermesh.testing import free_port
from thermesh.v1 import common_pb2, inference_pb2, inference_pb2_grpc

NAME = "smollm2-135m-instruct"
WARM = common_pb2.TemperatureProgram(fixed=common_pb2.FixedProgram(temperature=0.8))
STARTS = {
    "plain": {"sampling": common_pb2.Sampling(program=WARM)},
    "constrained": {
        "sampling": common_pb2.Sampling(
            program=WARM,
            penalties=common_pb2.Penalties(repetition=1.1, presence=0.2),
            logit_bias={5: -3.0},
        ),
        "constraint": common_pb2.OutputConstraint(regex="[a-z ]+"),
        "candidate_count": 2,
    },
}


async def main() -> None:
    """Serve, ask and tell."""
    model = models.load(locate(NAME), NAME)
    sys.stdout.write(model.network.kernels_name.partition("-")[0] + "\n")
    config = Config(port=0, controller_target=f"127.0.0.1:{free_port()}")
    service = Service(config, model, "replica", threads=1)
    channel = rpc.connect(f"127.0.0.1:{await service.start()}")
    stub = inference_pb2_grpc.InferenceServiceStub(channel)
    for kind, start in STARTS.items():
        if await answered(stub, start):
            sys.stdout.write(kind + "\n")
    found = await stub.Score(inference_pb2.ScoreRequest(text="The sky is blue."))
    if len(found.log_probabilities) == len(found.token_ids) - 1:
        sys.stdout.write("scored\n")
    await channel.close()
    await service.stop()
    sys.stdout.write(f"torch: {'torch' in sys.modules}\n")


async def answered(stub: Any, start: dict[str, Any]) -> bool:
    """Tell whether a request gives tokens."""
    call = stub.Generate()
    message = inference_pb2.GenerationStart(prompt="Tell me", max_tokens=6, seed=7, **start)
    await call.write(inference_pb2.GenerateRequest(start=message))
    return any([response.HasField("tokens") async for response in call])


if __name__ == "__main__":
    asyncio.run(main())
