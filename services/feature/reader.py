"""Reads requests inside a time budget: cache, session, encoder, and none of them needed.

Everything that may be slow happens under one timeout; when it strikes, the
lexical vector goes out. An encoding that comes too late is cached all the same,
so that the next turn or the retry finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

from services.feature import extract, lexical
from services.feature.cache import EncodingCache
from services.feature.encoding import ENCODER_CHARACTERS, Encoding, settle
from services.feature.extract import Reading, Vector
from services.feature.growing import Growing, pooled
from services.feature.newest import newest
from services.feature.session import Session, SessionName, Sessions, begin
from services.feature.tally import Tally
from services.feature.task import TaskClassifier, TaskGuess
from services.feature.worker import EncoderWorker
from thermesh.clock import Clock

log = logging.getLogger(__name__)

MOST_BACKGROUND_WRITES = 256
MOST_SEGMENTS = 32
MOST_NEW = 2
"""Segments that are encoded for one answer: the open one, and one that was just finished. A
text that comes with more at once is read as a whole, which costs less."""

SHARE_AFTER_SECONDS = 0.05
"""Until the other replicas are given the encoding of a request that bounds its wait: by then
its first token is out, whose prompt the same processors are reading now on a small machine.
"""

TRY_AGAIN_SECONDS = 0.5
"""How often an idle encoder that was too slow for those who asked is tried again."""


@dataclass(frozen=True)
class Answer:
    """A vector; `cached` where the text's encoding was known before."""

    vector: Vector
    cached: bool


@dataclass(frozen=True)
class Update:
    """A text so far; `is_final` where nothing more will come."""

    reading: Reading
    is_final: bool


@dataclass
class _Found:
    """What was found in time; a timeout keeps what came before it. `glance` is the task of a
    text that the encoder has not read.
    """

    glance: TaskGuess
    encoding: Encoding | None = None
    session: Session | None = None
    cached: bool = False


class Reader:
    """Turns readings into answers. `worker` None: lexical features only.

    A reading that bounds its wait goes without the encoder where its task is more probable than
    `sure` at a glance.
    """

    def __init__(
        self,
        *,
        worker: EncoderWorker | None,
        classifier: TaskClassifier,
        cache: EncodingCache,
        sessions: Sessions,
        tally: Tally,
        clock: Clock,
        sure: float = 1.0,
    ) -> None:
        self._sure = sure
        self._worker = worker
        self._classifier = classifier
        self._cache = cache
        self._sessions = sessions
        self._tally = tally
        self._clock = clock
        self._writes: set[asyncio.Task[None]] = set()
        self._try_again_at = 0.0

    async def read(
        self,
        reading: Reading,
        budget_seconds: float,
        is_final: bool = True,
        growing: Growing | None = None,
    ) -> Answer:
        """Answer within `budget_seconds` of waiting, or what the reading itself allows where
        that is less; a final reading counts for its session.

        `growing` knows what of the text was read before: then only the rest is.
        """
        found = _Found(self._classifier.guess(reading.text, None))
        wait = reading.encoder_wait_seconds
        seconds = budget_seconds if wait is None else min(budget_seconds, wait)
        if self._worker and (wait is None or found.glance.confidence <= self._sure):
            try:
                async with asyncio.timeout(seconds):
                    kept = None if is_final else growing
                    await self._find(self._worker, reading, found, seconds, kept)
            except TimeoutError:
                self._tally.failed("encoder", "late")
            if found.encoding is None:
                await self._make_do(reading, growing, found)
        if is_final:
            self._remember_turn(reading, found)
        return Answer(self._assemble(reading, found, growing), found.cached)

    async def follow(
        self, updates: AsyncIterator[Update], budget_seconds: float
    ) -> AsyncGenerator[tuple[Answer, bool], None]:
        """Answer the newest update each time, skipping superseded ones, never the last.

        While a text grows only its open end is read anew; the final one is read as a whole.
        """
        growing = Growing()
        async with contextlib.aclosing(newest(updates)) as unread:
            async for update in unread:
                growing.grow(update.reading.text)
                answer = await self.read(update.reading, budget_seconds, update.is_final, growing)
                yield answer, update.is_final

    async def close(self) -> None:
        """Finish the writes under way, then stop the encoder."""
        await asyncio.gather(*self._writes)
        if self._worker:
            await asyncio.to_thread(self._worker.close)

    async def _find(
        self,
        worker: EncoderWorker,
        reading: Reading,
        found: _Found,
        seconds: float,
        growing: Growing | None,
    ) -> None:
        is_optional = reading.encoder_wait_seconds is not None
        # To ask Redis takes as much of the processors that read the prompt as to encode a
        # question, and hardly any was asked of another replica before.
        kept = self._cache.get(reading.tenant, _content(reading), only_local=is_optional)
        found.session, found.encoding = await asyncio.gather(self._session(reading), kept)
        found.cached = found.encoding is not None
        if found.encoding:
            return
        if (is_optional and worker.is_resting) or not self._is_worth_it(worker, seconds):
            self._tally.failed("encoder", "busy")
            return
        segments = _segments(growing)
        if len(segments) > 1:
            known = [await self._cache.get(reading.tenant, each) for each in segments]
            if known.count(None) <= MOST_NEW:
                found.encoding = await self._pooled(worker, reading, segments, known)
                return
        found.encoding = await self._encode(worker, reading)

    async def _pooled(
        self,
        worker: EncoderWorker,
        reading: Reading,
        segments: list[str],
        known: list[Encoding | None],
    ) -> Encoding | None:
        """Encode the segments that are not known; None where one cannot be."""
        encodings = []
        for segment, encoding in zip(segments, known, strict=True):
            read = encoding or await self._encode(worker, replace(reading, text=segment))
            if read is None:
                return None
            encodings.append(read)
        return pooled(segments, encodings)

    async def _make_do(self, reading: Reading, growing: Growing | None, found: _Found) -> None:
        """Take the segments that are kept here for a text that was not read in time."""
        segments, known = [], []
        for segment in _segments(growing):
            if encoding := await self._cache.nearby(reading.tenant, segment):
                segments.append(segment)
                known.append(encoding)
        if known:
            found.encoding = pooled(segments, known)

    def _is_worth_it(self, worker: EncoderWorker, seconds: float) -> bool:
        """Tell whether an encoding would be there in time; what it costs in vain, the mesh lacks.

        An encoder that was too slow is tried again now and then, or it would stay so.
        """
        now = self._clock.monotonic()
        if worker.expected_seconds <= seconds:
            return True
        if not worker.is_idle or now < self._try_again_at:
            return False
        self._try_again_at = now + TRY_AGAIN_SECONDS
        return True

    async def _session(self, reading: Reading) -> Session | None:
        if not reading.session_id:
            return None
        return await self._sessions.get(SessionName(reading.tenant, reading.session_id))

    async def _encode(self, worker: EncoderWorker, reading: Reading) -> Encoding | None:
        """Wait for the encoder; cancelling the wait withdraws a job that has not begun."""
        job = worker.submit(_content(reading))
        if job is None:
            self._tally.failed("encoder", "full")
            return None
        self._keep_when_done(job, reading)
        try:
            return settle(await asyncio.wrap_future(job))
        except Exception:
            self._tally.failed("encoder", "failed")
            log.exception("the encoder failed on a text of %d characters", len(reading.text))
            return None

    def _keep_when_done(self, job: Future[Encoding], reading: Reading) -> None:
        loop = asyncio.get_running_loop()

        def done(job: Future[Encoding]) -> None:
            if not job.cancelled() and not job.exception():
                with contextlib.suppress(RuntimeError):  # the loop ended before the encoder did
                    loop.call_soon_threadsafe(self._keep, reading, job.result())

        job.add_done_callback(done)

    def _keep(self, reading: Reading, encoding: Encoding) -> None:
        after = 0.0 if reading.encoder_wait_seconds is None else SHARE_AFTER_SECONDS
        self._write(self._cache.put(reading.tenant, _content(reading), encoding, after))

    def _remember_turn(self, reading: Reading, found: _Found) -> None:
        if found.encoding and reading.session_id:
            embedding = found.encoding.embedding
            session = found.session
            after = session.after(embedding) if session else begin(embedding)
            name = SessionName(reading.tenant, reading.session_id)
            self._write(self._sessions.put(name, after))

    def _write(self, write: Coroutine[Any, Any, None]) -> None:
        """Write to the stores without anyone waiting for it."""
        if len(self._writes) >= MOST_BACKGROUND_WRITES:
            write.close()
            self._tally.failed("redis", "behind")
            return
        task = asyncio.ensure_future(write)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    def _assemble(self, reading: Reading, found: _Found, growing: Growing | None) -> Vector:
        guess = found.glance
        if found.encoding:
            guess = self._classifier.guess(reading.text, found.encoding.embedding)
        return extract.assemble(
            reading,
            lexical=growing.features() if growing else lexical.read(reading.text),
            guess=guess,
            encoding=found.encoding,
            session=found.session,
            now_unix_ms=self._clock.unix_ms(),
        )


def _segments(growing: Growing | None) -> list[str]:
    """Return the segments whose encodings stand in for the whole; bounded as the whole is."""
    return growing.segments[:MOST_SEGMENTS] if growing else []


def _content(reading: Reading) -> str:
    """Return the part of the text that the encoder reads, so that no more is hashed or queued."""
    return reading.text[:ENCODER_CHARACTERS]
