"""The gateway put together: neighbours, pipeline, both doors, in one event loop."""

from __future__ import annotations

import asyncio
import ipaddress
import logging

from opentelemetry.metrics import Meter
from starlette.types import ASGIApp

from services.gateway.admission.bound import Admission
from services.gateway.admission.places import Places
from services.gateway.admission.quotas import Quotas
from services.gateway.admission.turnstile import Turnstile
from services.gateway.callers import Caller
from services.gateway.config import Config
from services.gateway.conversations.conversation import Conversation
from services.gateway.conversations.resuming import Bounds, ResumableTurns
from services.gateway.conversations.talks import Talks
from services.gateway.gate import Gate
from services.gateway.http_server import HttpServer
from services.gateway.kept import KeptResponses, Room
from services.gateway.mesh.feature import FeatureClient
from services.gateway.mesh.neighbours import Neighbours
from services.gateway.observability.instruments import Instruments
from services.gateway.observability.observatory import Observatory
from services.gateway.pipeline import Pipeline
from services.gateway.readiness import Readiness
from services.gateway.realtime.session import Surroundings
from services.gateway.rest.app import create_app
from services.gateway.rest.doors import Doors
from services.gateway.server import ChatService, FeedbackService, add_services
from services.gateway.speech.config import VoiceConfig
from services.gateway.speech.links import SpeechSource
from services.gateway.speech.process import Processes
from services.gateway.store import RedisStore
from thermesh import rpc, telemetry, tls
from thermesh.clock import Clock, SystemClock
from thermesh.keys import Allowance

log = logging.getLogger(__name__)


class Gateway:
    """Wires everything by hand; `start`, then `drain`. Needs a running event loop."""

    def __init__(
        self,
        config: Config,
        meter: Meter,
        clock: Clock | None = None,
        voice: VoiceConfig | None = None,
        speech: SpeechSource | None = None,
    ) -> None:
        self._config = config
        clock, voice = clock or SystemClock(), voice or VoiceConfig()
        instruments, observatory = Instruments(meter), Observatory(clock)
        self._store = RedisStore(config.redis_url)
        turnstile = _turnstile(config, self._store, clock)
        self.admission, self._quotas = turnstile.admission, turnstile.quotas
        instruments.watch_open_streams(lambda: self.admission.inside)
        self._rooms = Neighbours(
            config, instruments, clock, turnstile.places, observatory.saw_feedback
        )
        pipeline = Pipeline(
            self._rooms.mesh,
            turnstile=turnstile,
            instruments=instruments,
            clock=clock,
            observatory=observatory,
            max_stream_seconds=config.max_stream_s,
        )
        gate = _gate(config, self._store, clock)
        self._sessions = Admission(config.max_sessions, config.max_per_tenant, clock, "sessions")
        self._kept = KeptResponses(self._store, clock, _room(config))
        self.app = create_app(self._doors(pipeline, gate, voice, speech or Processes(voice)))
        self._http, self._grpc = _servers(config, self.app)
        self._talks = _talks(config, pipeline, self._rooms.feature)
        chat = ChatService(self._talks, self._rooms.inference, gate, clock)
        add_services(self._grpc, chat, FeedbackService(self._rooms.controller, gate))

    async def start(self) -> tuple[int, int]:
        """Open both doors; return the ports of HTTP and gRPC."""
        grpc_port = await self._grpc.start()
        http_port = await self._http.start()
        self._rooms.open()
        self._warn_of_open_door()
        log.info("REST on http://%s:%d", self._config.host, http_port)
        return http_port, grpc_port

    async def drain(self) -> None:
        """Refuse new requests, let open ones end within the grace, close everything."""
        self.admission.close()
        self._sessions.close()
        await self._grpc.set_serving(False)
        await asyncio.gather(self._http.drain(), self._grpc.drain())
        await self._talks.close()
        await self.close_peers()

    async def close_peers(self) -> None:
        """Close the channels to the neighbours, once no call is open on them."""
        await self._rooms.close()
        await self._quotas.close()
        await self._kept.close()
        await self._store.close()

    def _warn_of_open_door(self) -> None:
        if not self._config.require_keys and not is_loopback(self._config.host):
            log.warning(
                "anybody who reaches %s may ask: THERMESH_REQUIRE_KEYS is off", self._config.host
            )

    def _doors(
        self, pipeline: Pipeline, gate: Gate, voice: VoiceConfig, speech: SpeechSource
    ) -> Doors:
        rooms, config = self._rooms, self._config
        lead = (voice.preempt, voice.lead_tokens)
        return Doors(
            gate=gate,
            pipeline=pipeline,
            models=rooms.inference,
            learning=rooms.controller,
            administration=rooms.administration,
            engine=rooms.inference,
            observatory=pipeline.observatory,
            encoder=rooms.feature,
            kept=self._kept,
            realtime=Surroundings(pipeline, rooms.feature.listen, speech, *lead),
            sessions=self._sessions,
            peers=rooms.are_serving,
            readiness=Readiness(pipeline.clock, config.meeting_s),
            metrics=telemetry.prometheus_text,
            max_body_bytes=config.max_body_bytes,
            ping_seconds=config.ping_s,
        )


def _room(config: Config) -> Room:
    return Room(config.response_ttl_s, config.response_bytes, config.tenant_response_bytes)


def _talks(config: Config, pipeline: Pipeline, feature: FeatureClient) -> Talks:
    seconds = config.max_listening_s

    def converse(caller: Caller) -> Conversation:
        return Conversation(pipeline, feature.listen, seconds, caller, config.ping_s)

    bounds = Bounds(config.max_resumable, config.resume_events, config.resume_grace_s)
    return Talks(converse, ResumableTurns(converse, bounds), seconds)


def _turnstile(config: Config, store: RedisStore, clock: Clock) -> Turnstile:
    return Turnstile(
        Admission(config.max_requests, config.max_per_tenant, clock),
        Places(clock, config.replicas),
        Quotas(store, clock, config.replicas),
    )


def _gate(config: Config, store: RedisStore, clock: Clock) -> Gate:
    usual = Allowance(config.requests_per_minute, config.tokens_per_minute)
    return Gate(store, clock, required=config.require_keys, usual=usual)


def _servers(config: Config, app: ASGIApp) -> tuple[HttpServer, rpc.Server]:
    door = tls.public_door(config.tls_certificate, config.tls_key)
    http = HttpServer(
        app,
        config.host,
        config.http_port,
        config.grace_s,
        door,
        max_message_bytes=config.max_body_bytes,
    )
    grpc = rpc.Server(
        "gateway", config.host, config.grpc_port, config.grace_s, door, carries_trunks=False
    )
    return http, grpc


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches what listens on `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
