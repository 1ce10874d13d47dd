"""The one error tree of the mesh.

    MeshError
    |-- InvalidArgument      the caller's fault: a field has a value it may not have
    |-- NotFound             the caller's fault: it named something that does not exist
    |-- AlreadyExists        the caller's fault: the name is taken by something else
    |-- FailedPrecondition   the caller's fault: right message, wrong moment
    |-- Unauthenticated      the caller's fault: no valid key
    |-- PermissionDenied     the caller's fault: the key does not allow it
    |-- ResourceExhausted    nobody's fault: capacity exists but is taken; retry later
    |-- Aborted              nobody's fault: lost a race; read again and retry
    |-- DeadlineExceeded     nobody's fault: time ran out
    |-- Cancelled            the caller went away
    |-- Unavailable          our fault, passing: a part of the mesh is away; retry later
    `-- Internal             our fault: a bug; the message never carries its text

Every error has a `code`, a `reason` (UPPER_SNAKE, AIP-193) and a message that
tells a person what is allowed. `thermesh.interceptors` maps it to
google.rpc.Status, the gateway to an HTTP body; nothing else maps errors.
This module knows no gRPC, so that pure logic may raise from it.
"""

from __future__ import annotations

import enum
from typing import ClassVar

DOMAIN = "thermesh"


class Code(enum.Enum):
    """Status codes, named as gRPC names them."""

    CANCELLED = "CANCELLED"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    UNAUTHENTICATED = "UNAUTHENTICATED"

    @property
    def http_status(self) -> int:
        """HTTP status that REST answers carry for this code (google.rpc.Code)."""
        return _HTTP_STATUS[self]


_HTTP_STATUS = {
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}


class MeshError(Exception):
    """Base of every error the mesh raises on purpose; see the module's tree.

    `message` is for a person and safe to show; `field` is the path of the
    offending field in the request, empty where none is; `retry_after` is in
    seconds, None where retrying does not help.
    """

    code: ClassVar[Code] = Code.INTERNAL
    default_reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        reason: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.reason = reason or self.default_reason
        self.retry_after = retry_after


class InvalidArgument(MeshError):
    """A field has a value it may not have; `field` names it."""

    code = Code.INVALID_ARGUMENT
    default_reason = "INVALID_FIELD"


class NotFound(MeshError):
    """The request names something that does not exist."""

    code = Code.NOT_FOUND
    default_reason = "NOT_FOUND"


class AlreadyExists(MeshError):
    """The name is taken by something with other content."""

    code = Code.ALREADY_EXISTS
    default_reason = "ALREADY_EXISTS"


class FailedPrecondition(MeshError):
    """The message is right but not now."""

    code = Code.FAILED_PRECONDITION
    default_reason = "FAILED_PRECONDITION"


class Unauthenticated(MeshError):
    """No valid key came with the request."""

    code = Code.UNAUTHENTICATED
    default_reason = "UNAUTHENTICATED"


class PermissionDenied(MeshError):
    """The key does not allow this."""

    code = Code.PERMISSION_DENIED
    default_reason = "PERMISSION_DENIED"


class ResourceExhausted(MeshError):
    """Capacity exists but is taken; set `retry_after`."""

    code = Code.RESOURCE_EXHAUSTED
    default_reason = "QUEUE_FULL"


class Aborted(MeshError):
    """The request lost a race; read again and retry."""

    code = Code.ABORTED
    default_reason = "CONFLICT"


class DeadlineExceeded(MeshError):
    """The time the caller gave ran out."""

    code = Code.DEADLINE_EXCEEDED
    default_reason = "DEADLINE_EXCEEDED"


class Cancelled(MeshError):
    """The caller went away or said so."""

    code = Code.CANCELLED
    default_reason = "CANCELLED"


class Unavailable(MeshError):
    """A part of the mesh is away for now; set `retry_after`."""

    code = Code.UNAVAILABLE
    default_reason = "UNAVAILABLE"


class Internal(MeshError):
    """A bug of ours. The message must not carry an exception's text."""

    code = Code.INTERNAL
    default_reason = "INTERNAL"


ERRORS: dict[Code, type[MeshError]] = {
    error.code: error
    for error in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        Unauthenticated,
        PermissionDenied,
        ResourceExhausted,
        Aborted,
        DeadlineExceeded,
        Cancelled,
        Unavailable,
        Internal,
    )
}
