"""InferenceService in front of another engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from services.inference import conversation, wire
from services.inference.bridge.bridge import Bridge
from services.inference.bridge.generation import Generation
from services.inference.events import Ended
from services.inference.wire.capabilities import capabilities
from thermesh.errors import FailedPrecondition
from thermesh.rpc import Server, remaining_seconds
from thermesh.telemetry import current_traceparent
from thermesh.v1 import common_pb2, inference_pb2, inference_pb2_grpc

SERVICE = "thermesh.v1.InferenceService"


class BridgeService(inference_pb2_grpc.InferenceServiceServicer):
    """The contract of inference, as far as the engine behind can keep it."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    async def Generate(
        self, requests: Any, context: Any
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        """Decode one request at the engine behind; see `inference.proto`."""
        del context
        with self._bridge.slot():
            messages = aiter(requests)
            message = await conversation.first_message(messages)
            start = wire.start(message, current_traceparent())
            generation = await self._bridge.open(start, remaining_seconds())
            listening = asyncio.create_task(conversation.listen(messages, generation))
            try:
                async for response in self._responses(generation):
                    yield response
            finally:
                listening.cancel()
                await asyncio.gather(
                    asyncio.wait([listening]), self._bridge.close_generation(generation)
                )

    async def DescribeModel(
        self, request: inference_pb2.DescribeModelRequest, context: Any
    ) -> inference_pb2.DescribeModelResponse:
        """Tell what is served and what it cannot do."""
        del request, context
        served = await self._bridge.served()
        return inference_pb2.DescribeModelResponse(
            model=self._bridge.model_name or served.name,
            architecture="unknown",
            context_length=served.context_length,
            kernels=f"bridge:{self._bridge.upstream.dialect.name}",
            compute_paths=[common_pb2.COMPUTE_PATH_STANDARD],
            max_running=self._bridge.max_requests,
            created_unix_s=served.created_unix_s,
            capabilities=capabilities(self._bridge.capabilities()),
        )

    async def Tokenize(
        self, request: inference_pb2.TokenizeRequest, context: Any
    ) -> inference_pb2.TokenizeResponse:
        """Refuse: OpenAI's interface has no words for it."""
        del request, context
        raise FailedPrecondition("the engine behind this mesh does not tokenise for others")

    async def Score(
        self, request: inference_pb2.ScoreRequest, context: Any
    ) -> inference_pb2.ScoreResponse:
        """Refuse: OpenAI's interface has no words for it."""
        del request, context
        raise FailedPrecondition("the engine behind this mesh does not score texts")

    async def GetLoad(
        self, request: inference_pb2.GetLoadRequest, context: Any
    ) -> inference_pb2.GetLoadResponse:
        """Tell how many requests are on their way."""
        del request, context
        return inference_pb2.GetLoadResponse(load=wire.load(self._bridge.load()))

    async def _responses(
        self, generation: Generation
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        request_id = generation.request_id
        yield wire.accepted(0, self._bridge.name, request_id)
        number, is_over = 2, False
        while not is_over:
            happened = await generation.take()
            last = happened[-1]
            failure = last.error if isinstance(last, Ended) else None
            is_over = isinstance(last, Ended)
            told = happened[:-1] if failure else happened
            for response in wire.responses(told, request_id, number):
                yield response
                number += 1
            if failure is not None:
                raise failure


def add_to(server: Server, service: BridgeService) -> None:
    """Let `server` serve `service`."""
    server.add(inference_pb2_grpc.add_InferenceServiceServicer_to_server, service, SERVICE)
