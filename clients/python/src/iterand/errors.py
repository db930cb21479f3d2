"""Exceptions. Everything that iterand raises is an `Error`; its text is the server's message, made safe for a terminal.

So are wrong arguments, of a wrong type too: InvalidArgument, which is a ValueError, names the argument.
"""

from __future__ import annotations

import grpc

from iterand._printable import printable


class Error(Exception):
    """Base class. `code` is the gRPC status, None where the error was found on this side."""

    def __init__(self, message: str, code: grpc.StatusCode | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code

    def __reduce__(self) -> tuple[type[Error], tuple[str, grpc.StatusCode | None]]:
        return type(self), (self.message, self.code)


class InvalidArgument(Error, ValueError):
    """The request is wrong: a shard that does not divide the lanes, a field out of range."""


class InvalidRecipe(InvalidArgument):
    """The recipe is wrong: broken JSON, an unknown field, a value that is not allowed."""


class UnknownPreset(InvalidRecipe):
    """No preset has this name."""


class FingerprintMismatch(Error):
    """The server's stream is not the one that was asked for: another recipe, seed or engine version."""


class OutOfRange(Error, IndexError):
    """An index beyond the stream's last."""


class ResourceExhausted(Error):
    """A limit of the server is reached."""


class Starved(Error):
    """The recipe's filters let nothing through any more."""


class Unauthenticated(Error):
    """The server wants a token, or another one."""


class Unavailable(Error, ConnectionError):
    """No server answers, or all have as many calls open as they allow, also after all retries."""


class DeadlineExceeded(Error, TimeoutError):
    """The server did not answer in time."""


class Cancelled(Error):
    """The call was cancelled."""


class ForkedProcess(Error, RuntimeError):
    """This process was forked from one that had used gRPC, which cannot be used in it."""


class ProtocolError(Error):
    """The server sent something that is not a batch of the stream that was asked for."""


_BY_CODE: dict[grpc.StatusCode, type[Error]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: UnknownPreset,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: Unauthenticated,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
}


def from_rpc(error: grpc.RpcError, target: str) -> Error:
    """The exception for a failed call."""
    code = error.code() if isinstance(error, grpc.Call) else None
    # Tracebacks and logs print it, and the server may be anybody's.
    details = printable((error.details() if isinstance(error, grpc.Call) else None) or str(error))
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        # The server begins with the path of the field; what is none of the request's own is the recipe's.
        request_field = details.split(":")[0].split(" ")[0].split(".")[0].split("[")[0].lower()
        cls = InvalidArgument if request_field in _REQUEST_FIELDS else InvalidRecipe
        return cls(details, code)
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        return (FingerprintMismatch if "fingerprint" in details.lower() else Starved)(details, code)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
        details = f"{details}: the request is larger than {target} takes; give it fewer or shorter programs at a time"
    elif code is grpc.StatusCode.UNIMPLEMENTED:  # by a web server, or gRPC's word for a method that is not there
        details = f"{target}: no iterand server answers there, or one too old ({details})"
    elif code not in _BY_CODE or code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        details = f"{target}: {details}"
    return _BY_CODE.get(code, Error)(details, code) if code is not None else Error(details)


_REQUEST_FIELDS = frozenset(
    {"shard", "world_size", "rank", "batch_size", "rows", "stride", "start", "count", "first_index", "stream"}
    | {"programs", "max_steps", "max_output", "cells", "symbols"}
)
