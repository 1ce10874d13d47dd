"""InferenceService: reads messages, asks the engine, writes messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from services.inference import conversation, wire
from services.inference.capabilities import Capabilities
from services.inference.engine import Engine
from services.inference.events import Ended, Event
from services.inference.prompt import Prompts
from services.inference.request import Request
from services.inference.sampling.grammar import Grammars
from services.inference.scoring import Scorer
from services.inference.stream import Stream
from services.inference.wire.capabilities import capabilities
from thermesh.rpc import Server, remaining_seconds
from thermesh.telemetry import current_traceparent
from thermesh.v1 import inference_pb2, inference_pb2_grpc

if TYPE_CHECKING:
    from services.inference.models import LoadedModel

SERVICE = "thermesh.v1.InferenceService"


class InferenceService(inference_pb2_grpc.InferenceServiceServicer):
    """One engine with one model."""

    def __init__(
        self,
        model: LoadedModel,
        engine: Engine,
        prompts: Prompts,
        scorer: Scorer,
        grammars: Grammars,
    ) -> None:
        self._model = model
        self._engine = engine
        self._prompts = prompts
        self._scorer = scorer
        self._grammars = grammars

    async def Generate(
        self, requests: Any, context: Any
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        """Decode one request; see `inference.proto`."""
        del context
        with self._engine.stream_slot():
            messages = aiter(requests)
            request = await self._request(await conversation.first_message(messages))
            stream = self._engine.open(request)
            listening = asyncio.create_task(conversation.listen(messages, stream))
            try:
                async for response in self._responses(request, stream):
                    yield response
            finally:
                stream.close()
                listening.cancel()
                await asyncio.wait([listening])

    async def DescribeModel(
        self, request: inference_pb2.DescribeModelRequest, context: Any
    ) -> inference_pb2.DescribeModelResponse:
        """Tell what is served."""
        del request, context
        light = () if self._model.network.light is None else ("light",)
        able = capabilities(Capabilities(paths=(*light, "standard")))
        return inference_pb2.DescribeModelResponse(
            model=self._model.name,
            architecture=self._model.config.architecture,
            context_length=self._model.config.context_length,
            vocabulary_size=self._model.config.vocabulary_size,
            parameter_count=self._model.parameter_count,
            weight_format=self._model.weight_format,
            kernels=self._model.network.kernels_name,
            compute_paths=able.compute_paths,
            max_running=self._engine.limits.max_running,
            max_waiting=self._engine.limits.max_waiting,
            page_size=self._engine.limits.page_size,
            created_unix_s=self._model.created_unix_s,
            capabilities=able,
        )

    async def Tokenize(
        self, request: inference_pb2.TokenizeRequest, context: Any
    ) -> inference_pb2.TokenizeResponse:
        """Turn text into token ids as Generate would."""
        del context
        if request.WhichOneof("input") == "chat":
            turns = wire.chat(request.chat, "chat.messages")
            token_ids = await asyncio.to_thread(self._prompts.chat_ids, turns, "chat.messages")
        else:
            token_ids = await asyncio.to_thread(self._prompts.text_ids, request.text, "text")
        pieces = [self._model.tokenizer.token_bytes(token_id) for token_id in token_ids]
        return inference_pb2.TokenizeResponse(
            token_ids=token_ids,
            pieces=[piece.decode("utf-8", errors="replace") for piece in pieces],
        )

    async def Score(
        self, request: inference_pb2.ScoreRequest, context: Any
    ) -> inference_pb2.ScoreResponse:
        """Score each token of a text but the first."""
        del context
        if request.WhichOneof("input") == "tokens":
            field = "tokens.token_ids"
            token_ids = self._prompts.known_ids(tuple(request.tokens.token_ids), field)
        else:
            field = "text"
            token_ids = await asyncio.to_thread(self._prompts.text_ids, request.text, field)
        log_probabilities, entropies = await self._scorer.score(token_ids, field)
        return inference_pb2.ScoreResponse(
            token_ids=token_ids, log_probabilities=log_probabilities, entropies=entropies
        )

    async def GetLoad(
        self, request: inference_pb2.GetLoadRequest, context: Any
    ) -> inference_pb2.GetLoadResponse:
        """Tell how busy the engine is."""
        del request, context
        return inference_pb2.GetLoadResponse(load=wire.load(self._engine.load()))

    async def _request(self, message: inference_pb2.GenerationStart) -> Request:
        start = wire.start(message, current_traceparent())
        matcher = await self._grammars.matcher_of(start.constraint, "start.constraint")
        # A long text takes the tokenizer a while; other streams' tokens must not wait.
        return await asyncio.to_thread(self._prompts.request, start, remaining_seconds(), matcher)

    async def _responses(
        self, request: Request, stream: Stream
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        request_id = request.context.request_id
        yield wire.accepted(len(request.prompt_ids), self._model.name, request_id)
        number = 2
        is_over = False
        while not is_over:
            happened = await stream.take()
            last = happened[-1]
            is_over = isinstance(last, Ended)
            for response in wire.responses(_without_failure(happened), request_id, number):
                yield response
                number += 1
            if isinstance(last, Ended) and last.error is not None:
                raise last.error


def add_to(server: Server, service: InferenceService) -> None:
    """Let `server` serve `service`."""
    server.add(inference_pb2_grpc.add_InferenceServiceServicer_to_server, service, SERVICE)


def _without_failure(happened: list[Event]) -> list[Event]:
    return [event for event in happened if not (isinstance(event, Ended) and event.error)]
