"""The servicer of thermesh.v1.FeatureService: a shell around `Reader`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from services.feature import wire
from services.feature.embed import Embedder
from services.feature.metrics import Metrics
from services.feature.reader import Reader
from thermesh.errors import FailedPrecondition
from thermesh.rpc import remaining_seconds
from thermesh.v1 import feature_pb2, feature_pb2_grpc

SERVICE = "thermesh.v1.FeatureService"

ANSWER_SECONDS = 0.005
"""Kept back from a caller's deadline for the answer's way home."""


class FeatureService(feature_pb2_grpc.FeatureServiceServicer):
    """Answers every reading within the budget, or the caller's deadline where that is less."""

    def __init__(
        self, reader: Reader, embedder: Embedder | None, metrics: Metrics, budget_seconds: float
    ) -> None:
        self._reader = reader
        self._embedder = embedder
        self._metrics = metrics
        self._budget_seconds = budget_seconds

    async def Extract(
        self, request: feature_pb2.ExtractRequest, _context: Any
    ) -> feature_pb2.ExtractResponse:
        """Read one request."""
        with self._metrics.timed():
            answer = await self._reader.read(wire.reading(request), self._budget())
            return wire.extract_response(answer)

    async def ExtractStream(
        self, requests: AsyncIterator[feature_pb2.ExtractStreamRequest], _context: Any
    ) -> AsyncIterator[feature_pb2.ExtractStreamResponse]:
        """Follow a growing text."""
        followed = self._reader.follow(wire.updates(requests), self._budget())
        async with contextlib.aclosing(followed) as answers:
            async for answer, is_final in answers:
                yield wire.stream_response(answer, is_final)

    async def Embed(
        self, request: feature_pb2.EmbedRequest, _context: Any
    ) -> feature_pb2.EmbedResponse:
        """Embed a batch of texts."""
        if self._embedder is None:
            raise FailedPrecondition("this mesh runs without an encoder", field="model")
        return wire.embedded(await self._embedder.embed(wire.batch(request)))

    async def DescribeFeatures(
        self, _request: feature_pb2.DescribeFeaturesRequest, _context: Any
    ) -> feature_pb2.DescribeFeaturesResponse:
        """List the features in vector order."""
        return wire.schema()

    def _budget(self) -> float:
        remaining = remaining_seconds()
        if remaining is None:
            return self._budget_seconds
        return max(0.0, min(self._budget_seconds, remaining - ANSWER_SECONDS))
