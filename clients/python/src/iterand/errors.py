"""Exceptions. Everything that iterand raises is an `Error`; its text is the server's message, made safe for a terminal.

So are wrong arguments, of a wrong type too: InvalidArgument, which is a ValueError, names the argument.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iterand._printable import printable

if TYPE_CHECKING:
    import grpc


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


class ConcurrentUse(Error, RuntimeError):
    """Another thread is in the middle of a call that only one thread at a time may make. It is not disturbed."""


class ForkedProcess(Error, RuntimeError):
    """This process was forked from one that had used gRPC, which cannot be used in it."""


class ProtocolError(Error):
    """The server sent something that is not a batch of the stream that was asked for."""


# By the number of a status, gRPC's as well as the native module's.
_INVALID_ARGUMENT, _FAILED_PRECONDITION, _RESOURCE_EXHAUSTED, _UNIMPLEMENTED = 3, 9, 8, 12
_BY_CODE: dict[int, type[Error]] = {
    1: Cancelled,
    3: InvalidArgument,
    4: DeadlineExceeded,
    5: UnknownPreset,
    7: Unauthenticated,
    8: ResourceExhausted,
    10: ConcurrentUse,
    11: OutOfRange,
    14: Unavailable,
    16: Unauthenticated,
}
_OF_THE_SERVER = (4, 14)  # what the address belongs to


def _class_for(code: int, details: str) -> type[Error]:
    if code == _INVALID_ARGUMENT:
        # The message begins with the path of the field; what is none of the request's own is the recipe's.
        request_field = details.split(":")[0].split(" ")[0].split(".")[0].split("[")[0].lower()
        return InvalidArgument if request_field in _REQUEST_FIELDS else InvalidRecipe
    if code == _FAILED_PRECONDITION:
        return FingerprintMismatch if "fingerprint" in details.lower() else Starved
    return _BY_CODE.get(code, Error)


def from_status(code: int, message: str) -> Error:
    """The exception for an error of the native module."""
    details = printable(message)
    return _class_for(code, details)(details)


def from_rpc(error: grpc.RpcError, target: str) -> Error:
    """The exception for a failed call."""
    import grpc

    status = error.code() if isinstance(error, grpc.Call) else None
    # Tracebacks and logs print it, and the server may be anybody's.
    details = printable((error.details() if isinstance(error, grpc.Call) else None) or str(error))
    if status is None:
        return Error(f"{target}: {details}")
    code: int = status.value[0]
    if code == _RESOURCE_EXHAUSTED and "larger than max" in details:
        details = f"{details}: the request is larger than {target} takes; give it fewer or shorter programs at a time"
    elif code == _UNIMPLEMENTED:  # by a web server, or gRPC's word for a method that is not there
        details = f"{target}: no iterand server answers there, or one too old ({details})"
    elif code in _OF_THE_SERVER or (code not in _BY_CODE and code != _FAILED_PRECONDITION):
        details = f"{target}: {details}"
    return _class_for(code, details)(details, status)


_REQUEST_FIELDS = frozenset(
    {"shard", "world_size", "rank", "batch_size", "rows", "stride", "start", "count", "first_index", "stream"}
    | {"programs", "max_steps", "max_output", "cells", "symbols"}
)
