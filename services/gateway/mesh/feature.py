"""The feature service: Extract within a budget, or ExtractStream while words are heard."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from services.gateway.asking import Ask, Context, Embeddings, Features, Voice
from services.gateway.mesh.outbox import Outbox
from services.gateway.mesh.peer import Peer
from services.gateway.wire import requests
from thermesh.errors import DeadlineExceeded, MeshError
from thermesh.rpc import translated
from thermesh.v1 import feature_pb2, feature_pb2_grpc

log = logging.getLogger(__name__)


class FeatureClient:
    """The link to the feature service."""

    def __init__(
        self,
        peer: Peer,
        budget_seconds: float,
        max_listening_seconds: float,
        embed_seconds: float,
    ) -> None:
        self.peer = peer
        self._stub = feature_pb2_grpc.FeatureServiceStub(peer.channel)
        self._budget_seconds = budget_seconds
        self._max_listening_seconds = max_listening_seconds
        self._embed_seconds = embed_seconds

    async def extract(self, ask: Ask, encoder_wait_seconds: float | None = None) -> Features:
        """Return the features of a request within the budget; raise MeshError otherwise."""
        self.peer.check_allowed()
        return await self.peer.call(
            self._stub.Extract,
            requests.extract_request(ask, encoder_wait_seconds),
            self._budget_seconds,
            lambda answer: requests.features(answer.features),
        )

    async def embed(self, context: Context, model: str, texts: Sequence[str]) -> Embeddings:
        """Return the vectors of `texts`; raise MeshError as FeatureService.Embed says."""
        message = requests.embed_request(context, model, texts)
        return await self.peer.call(
            self._stub.Embed, message, self._embed_seconds, requests.embeddings
        )

    def listen(self, ask: Ask) -> Listening:
        """Follow the newest turn of `ask` while it is heard; close it in `finally`."""
        return Listening(
            self.peer, self._stub, ask, self._budget_seconds, self._max_listening_seconds
        )


class Listening:
    """One ExtractStream: words go in as they are heard, the newest vector is kept."""

    def __init__(
        self,
        peer: Peer,
        stub: feature_pb2_grpc.FeatureServiceStub,
        ask: Ask,
        budget_seconds: float,
        max_seconds: float,
    ) -> None:
        self._peer = peer
        self._budget_seconds = budget_seconds
        self._newest: Features | None = None
        self._over = asyncio.Event()
        self._outbox: Outbox[feature_pb2.ExtractStreamRequest] = Outbox()
        self._outbox.send(feature_pb2.ExtractStreamRequest(start=requests.extract_request(ask)))
        self._call = stub.ExtractStream(self._outbox.messages(), timeout=max_seconds)
        self._reading = asyncio.create_task(self._read(), name="listening")

    def hear(self, text: str, voice: Voice | None, is_final: bool) -> None:
        """Replace the text heard so far; what cannot be sent now comes again with more."""
        partial = feature_pb2.PartialText(
            text=text,
            is_final=is_final,
            voice=requests.voice_to_wire(voice),
        )
        try:
            self._outbox.send(feature_pb2.ExtractStreamRequest(partial=partial))
        except MeshError as error:
            self._peer.failed(error)

    async def features(self) -> Features:
        """Return the vector of the final text within the budget, else the newest.

        Raises DeadlineExceeded where there is none.
        """
        try:
            async with asyncio.timeout(self._budget_seconds):
                await self._over.wait()
        except TimeoutError:
            self._peer.failed(DeadlineExceeded("no final vector in time"))
        if self._newest is None:
            raise DeadlineExceeded("no features were read in time")
        return self._newest

    async def close(self) -> None:
        """End the stream and its task."""
        self._outbox.close()
        self._call.cancel()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            with translated():
                async for response in self._call:
                    self._newest = requests.features(response.features)
                    if response.is_final:
                        break
            self._peer.answered()
        except MeshError as error:
            self._peer.failed(error)
        finally:
            self._over.set()
