"""Exceptions. Everything that iterand raises is an `Error`. Its text is the server's message, made safe for a terminal.

A wrong argument, also one of a wrong type, raises InvalidArgument, which is a ValueError and names the argument.
"""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.protobuf.message import DecodeError

from iterand._printable import printable
from iterand.v1 import errors_pb2


class Error(Exception):
    """Base class.

    `code` is the gRPC status, None where the error was found on this side. `reason` is the name of an ErrorReason of
    proto/iterand/v1/errors.proto, which also says what `metadata` holds; None where the server gave none.
    """

    def __init__(
        self,
        message: str,
        code: grpc.StatusCode | None = None,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})

    def __reduce__(self) -> tuple[type[Error], tuple[str, grpc.StatusCode | None, str | None, dict[str, str]]]:
        return type(self), (self.message, self.code, self.reason, self.metadata)


class InvalidArgument(Error, ValueError):
    """The request is wrong: a world_size that does not divide the lanes, a field out of range."""


class InvalidRecipe(InvalidArgument):
    """The recipe is wrong: broken JSON, an unknown field, a value that is not allowed."""


class UnknownPreset(InvalidRecipe):
    """No preset has this name."""


class FingerprintMismatch(Error):
    """The server's stream is not the requested one: another recipe, seed or engine version."""


class OutOfRange(Error, IndexError):
    """An index beyond the stream's last."""


class ResourceExhausted(Error):
    """A limit of the server is reached."""


class Starved(Error):
    """The recipe's filters let nothing through."""


class Unauthenticated(Error):
    """The server needs a token, or another one."""


class Unavailable(Error, ConnectionError):
    """After all retries, no server answers, or all have as many calls open as they allow."""


class DeadlineExceeded(Error, TimeoutError):
    """The server did not answer in time."""


class Cancelled(Error):
    """The call was cancelled."""


class ForkedProcess(Error, RuntimeError):
    """This process was forked from one that had used gRPC, so it cannot use gRPC."""


class ProtocolError(Error):
    """The server sent something other than a batch of the requested stream."""


# By the name of an ErrorReason.
_BY_REASON: dict[str, type[Error]] = {
    "INVALID_REQUEST": InvalidArgument,
    "INVALID_RECIPE": InvalidRecipe,
    "UNKNOWN_PRESET": UnknownPreset,
    "FINGERPRINT_MISMATCH": FingerprintMismatch,
    "STARVED": Starved,
    "INDEX_OUT_OF_RANGE": OutOfRange,
    "REPLAY_TOO_LONG": OutOfRange,
    "REQUEST_TOO_LARGE": ResourceExhausted,
    "STREAM_TOO_LARGE": ResourceExhausted,
    "TOKEN_MISSING": Unauthenticated,
    "TOKEN_INVALID": Unauthenticated,
    "SERVER_BUSY": Unavailable,
    "SERVER_STOPPING": Unavailable,
    "REQUEST_TIMEOUT": DeadlineExceeded,
    "CALL_CANCELLED": Cancelled,
}

# Where the server gives no reason, or one that this version does not know.
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
    """The exception for a failed call. Its class follows from the reason that the server gives, else from the code."""
    call = error if isinstance(error, grpc.Call) else None
    code = None if call is None else call.code()
    info = None if call is None else _error_info(call)
    # Tracebacks and logs print it, and the server may be anyone.
    details = printable((None if call is None else call.details()) or str(error))
    if code is grpc.StatusCode.UNIMPLEMENTED:  # from a web server, or gRPC's answer for a method that does not exist
        details = f"{target}: no iterand server answers there, or one too old ({details})"
    elif code not in _BY_CODE or code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        details = f"{target}: {details}"
    by_code = Error if code is None else _BY_CODE.get(code, Error)
    if info is None:
        return by_code(details, code)
    reason = printable(info.reason)
    metadata = {printable(key): printable(value) for key, value in info.metadata.items()}
    return _BY_REASON.get(reason, by_code)(details, code, reason, metadata)


_DETAILS = "grpc-status-details-bin"
_INFO_TYPE = "type.googleapis.com/google.rpc.ErrorInfo"


def _error_info(call: grpc.Call) -> errors_pb2.ErrorInfo | None:
    """What the trailer of a failed call says. None if there is nothing of the domain "iterand" to read."""
    for key, value in call.trailing_metadata() or ():
        if key != _DETAILS or not isinstance(value, bytes):
            continue
        try:
            status = errors_pb2.RichStatus.FromString(value)
            for detail in status.details:
                if detail.type_url == _INFO_TYPE:
                    info = errors_pb2.ErrorInfo.FromString(detail.value)
                    return info if info.domain == "iterand" else None
        except DecodeError:
            return None
    return None
