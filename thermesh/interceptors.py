"""What happens to every call on its way in and out: deadline, trace, errors.

Python's gRPC forwards neither deadline, cancellation nor trace from a call
being served to the calls made for it. Coming in, `ServerInterceptor` makes the
caller's deadline and trace current (context variables), opens the server span
and turns errors into google.rpc.Status. Going out, `channels.ForwardingChannel`
sends both on. Cancellation needs no code: the task that serves a call is cancelled,
and who opened a call cancels it in `finally`.

This module is the only place where MeshError and gRPC status meet.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace

from thermesh import errors, semconv
from thermesh.endings import reading

log = logging.getLogger(__name__)

STATUS_DETAILS = "grpc-status-details-bin"
CALL_BROKE = "CALL_BROKE"
"""Reason of an INTERNAL that no handler sent, e.g. of a write that met a tearing connection."""

_STATUS_CODES = {code: getattr(grpc.StatusCode, code.name) for code in errors.Code}
_CODES = {status: code for code, status in _STATUS_CODES.items()}
_NANOS = 1_000_000_000
_BARE = ("/grpc.", "/thermesh.v1.TrunkService/")
"""Health and reflection need nothing around them; a trunk has calls in it that do."""

_deadline: contextvars.ContextVar[float | None] = contextvars.ContextVar("deadline", default=None)


def remaining_seconds() -> float | None:
    """Return the seconds left to the call being served; None without deadline.

    A task started from a handler inherits the handler's deadline; work that
    outlives the call belongs to a task started elsewhere.
    """
    deadline = _deadline.get()
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def to_status(error: errors.MeshError) -> status_pb2.Status:
    """Return google.rpc.Status with one ErrorInfo (AIP-193) for `error`."""
    status = status_pb2.Status(
        code=_STATUS_CODES[error.code].value[0],
        message=error.message,
    )
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=errors.DOMAIN)
    if error.field:
        info.metadata["field"] = error.field
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field,
            description=error.message,
        )
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after is not None:
        nanos = int(error.retry_after * _NANOS)
        delay = duration_pb2.Duration(seconds=nanos // _NANOS, nanos=nanos % _NANOS)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    status.details.add().Pack(info)
    return status


def from_rpc_error(call: grpc.aio.AioRpcError) -> errors.MeshError:
    """Return the MeshError that a failed call stands for."""
    code = _CODES.get(call.code(), errors.Code.INTERNAL)
    raw = dict(call.trailing_metadata() or ()).get(STATUS_DETAILS)
    details = _details(raw) if isinstance(raw, bytes) else {}
    message = call.details() or code.name.replace("_", " ").lower()
    if code is errors.Code.UNAVAILABLE:
        details.setdefault("retry_after", 1.0)
    if code is errors.Code.INTERNAL:
        details.setdefault("reason", CALL_BROKE)
    return errors.ERRORS[code](message, **details)


def _details(raw: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status_pb2.Status.FromString(raw).details:
        if detail.Unpack(info):
            found["reason"] = info.reason
            found["field"] = info.metadata.get("field", "")
        elif detail.Unpack(retry):
            found["retry_after"] = retry.retry_delay.seconds + retry.retry_delay.nanos / _NANOS
    return found


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn a failed call inside the block into its MeshError.

    A task that is cancelled while its call is being set up may see the call
    fail with status CANCELLED instead of its own CancelledError, because the
    cancellation reached gRPC's inner task first. Going on then would make the
    task immortal, so the cancellation is raised again.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError from error
        raise from_rpc_error(error) from error


class ServerInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler but those that need none of it."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("thermesh.rpc")

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[Any]],
        handler_call_details: Any,
    ) -> Any:
        """Return the handler of the call, wrapped."""
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None or method.startswith(_BARE):
            return handler
        return self.wrapped(handler, method, reading)

    def wrapped(
        self,
        handler: Any,
        method: str,
        read: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda inner: inner,
    ) -> Any:
        """Return the handler of `method` with deadline, trace and errors around it; `read`
        wraps one that reads a stream.
        """
        kind = ("stream" if handler.request_streaming else "unary") + (
            "_stream" if handler.response_streaming else "_unary"
        )
        wrap = self._streaming if handler.response_streaming else self._unary
        inner = getattr(handler, kind)
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(
            wrap(read(inner) if handler.request_streaming else inner, method),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _unary(self, inner: Callable[..., Any], method: str) -> Callable[..., Any]:
        async def serve(request: Any, context: Any) -> Any:
            async with self._serving(method, context):
                return await inner(request, context)

        return serve

    def _streaming(self, inner: Callable[..., Any], method: str) -> Callable[..., Any]:
        if not inspect.isasyncgenfunction(inspect.unwrap(inner)):
            raise TypeError(f"{method} must be an async generator")

        # Written here rather than yielded: a call cancelled while grpc writes
        # what was yielded leaves the generator to the garbage collector, which
        # closes it late and in another context.
        async def serve(request: Any, context: Any) -> None:
            async with (
                self._serving(method, context),
                contextlib.aclosing(inner(request, context)) as responses,
            ):
                async for response in responses:
                    await context.write(response)

        return serve

    @contextlib.asynccontextmanager
    async def _serving(self, method: str, context: Any) -> AsyncIterator[None]:
        remaining = context.time_remaining()
        _deadline.set(None if remaining is None else time.monotonic() + remaining)
        carrier = dict(context.invocation_metadata() or ())
        token = otel_context.attach(propagate.extract(carrier))
        attributes = {semconv.RPC_SYSTEM: "grpc", semconv.RPC_METHOD: method.lstrip("/")}
        failure: errors.MeshError | None = None
        with self._tracer.start_as_current_span(
            method.lstrip("/"),
            kind=trace.SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except errors.MeshError as error:
                failure = error
            except asyncio.CancelledError:
                span.set_attribute(semconv.RPC_STATUS, errors.Code.CANCELLED.name)
                raise
            except grpc.aio.AbortError:
                raise
            except Exception:
                error_id = uuid.uuid4().hex[:12]
                log.exception("%s failed unexpectedly (error id %s)", method, error_id)
                failure = errors.Internal(f"internal error, logged under id {error_id}")
            finally:
                with contextlib.suppress(ValueError):  # a generator closed from elsewhere
                    otel_context.detach(token)
            if failure is not None:
                span.set_attribute(semconv.RPC_STATUS, failure.code.name)
                if failure.code.http_status >= 500:
                    span.set_status(trace.StatusCode.ERROR, failure.reason)
        if failure is not None:
            await abort(context, failure)


async def abort(context: Any, error: errors.MeshError) -> None:
    """End the call being served with `error`; always raises."""
    trailing = ((STATUS_DETAILS, to_status(error).SerializeToString()),)
    await context.abort(_STATUS_CODES[error.code], error.message, trailing)
