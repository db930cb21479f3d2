"""Exceptions. Everything that iterand raises is an `Error`. Its text is the server's message, made safe for a terminal.

A wrong argument, also one of a wrong type, raises InvalidArgument, which is a ValueError and names the argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from iterand._printable import printable

if TYPE_CHECKING:
    import grpc

    from iterand.v1 import errors_pb2


class Error(Exception):
    """Base class.

    `code` is the gRPC status, None where the error was found on this side. `reason` is the name of an ErrorReason of
    proto/iterand/v1/errors.proto, which also says what `metadata` holds; None where the server gave none.

    >>> try:
    ...     iterand.stream("mark0v")
    ... except iterand.Error as error:
    ...     print(error.reason, error.metadata)
    UNKNOWN_PRESET {'preset': 'mark0v'}
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
    """The request is wrong, such as a field out of range.

    >>> iterand.stream("up", batch_size=0)
    Traceback (most recent call last):
    iterand.errors.InvalidArgument: batch_size is 0; it must be from 1 to 2147483647
    """


class InvalidRecipe(InvalidArgument):
    """The recipe is wrong: broken JSON, an unknown field, a value that is not allowed.

    >>> iterand.stream({"families": [{"lstm": {"hidden": 0}}]})
    Traceback (most recent call last):
    iterand.errors.InvalidRecipe: families[0].lstm.hidden.fixed: is 0, must be in [4, 1024]
    """


class UnknownPreset(InvalidRecipe):
    """No preset has this name.

    >>> iterand.stream("mark0v")
    Traceback (most recent call last):
    iterand.errors.UnknownPreset: ...
    """


class FingerprintMismatch(Error):
    """The server's stream is not the requested one: another recipe, seed or engine version.

    >>> saved = iterand.stream("up", seed=0).fingerprint
    >>> iterand.stream("up", seed=1, expected_fingerprint=saved)
    Traceback (most recent call last):
    iterand.errors.FingerprintMismatch: ...
    """


class OutOfRange(Error, IndexError):
    """An index beyond the stream's last.

    >>> iterand.IndexDataset("up", count=1000)[1000]
    Traceback (most recent call last):
    iterand.errors.OutOfRange: index is 1000; the data set has 1000 sequences
    """


class ResourceExhausted(Error):
    """A limit of the server is reached.

    >>> next(iterand.execute(["+" * 65536] * 300, server="localhost:50051"))
    Traceback (most recent call last):
    iterand.errors.ResourceExhausted: the request has ... bytes, must have at most 16777216: ...
    """


class Starved(Error):
    """The recipe's filters let nothing through.

    >>> recipe = {"families": [{"constant": {}}], "band": {"low": 0.5, "high": 0.9}}
    >>> iterand.read(recipe, 0)
    Traceback (most recent call last):
    iterand.errors.Starved: ...
    """


class Unauthenticated(Error):
    """The server needs a token, or another one.

    >>> with iterand.Server(options=["--token-file", "tokens.txt"]) as server:
    ...     iterand.read("up", 0, server=server, token_file="tokens.txt").shape
    ...     iterand.read("up", 0, server=server)
    Traceback (most recent call last):
    iterand.errors.Unauthenticated: ...
    """


class Unavailable(Error, ConnectionError):
    """After all retries, no server answers, or all have as many calls open as they allow.

    >>> iterand.read("up", 0, server="localhost:1", retry=iterand.Retry(connect_timeout=0.2))
    Traceback (most recent call last):
    iterand.errors.Unavailable: localhost:1: ...
    """


class DeadlineExceeded(Error, TimeoutError):
    """The server did not answer in time.

    >>> with iterand.Server() as server:
    ...     iterand.read("up", 0, server=server, timeout=1e-6)
    Traceback (most recent call last):
    iterand.errors.DeadlineExceeded: ...
    """


class Cancelled(Error):
    """The call was cancelled, or the stream or client was closed.

    >>> stream = iterand.stream("up")
    >>> stream.close()
    >>> stream.read(0)
    Traceback (most recent call last):
    iterand.errors.Cancelled: the stream is closed
    """


class ConcurrentUse(Error, RuntimeError):
    """Another thread is in the middle of a call that only one thread at a time may make. It is not disturbed.

    Threads that iterate need a stream each:

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> streams = [iterand.stream("up", rank=rank, world_size=2) for rank in range(2)]
    >>> with ThreadPoolExecutor() as pool:
    ...     print([tokens.shape for tokens in pool.map(next, streams)])
    [(64, 512), (64, 512)]
    """


class ForkedProcess(Error, RuntimeError):
    """This process was forked from one that had used gRPC, so it cannot use gRPC.

    Processes that are started in other ways can:

    >>> import multiprocessing
    >>> context = multiprocessing.get_context("forkserver")  # or "spawn"
    >>> with iterand.Server() as server, context.Pool(1) as pool:
    ...     print(pool.apply(iterand.read, ("up", 0), {"server": server.address}).shape)
    (1, 512)
    """


class ProtocolError(Error):
    """The server sent something other than a batch of the requested stream.

    >>> with iterand.Server() as server:
    ...     try:
    ...         tokens = iterand.read("up", 0, server=server)
    ...     except iterand.ProtocolError as error:
    ...         print("a proxy has changed the answer, or the server has a fault:", error)
    """


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

# Where there is no reason, or one that this version does not know: by the number of the status.
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
_FAILED_PRECONDITION, _UNIMPLEMENTED = 9, 12
_OF_THE_SERVER = (4, 14)  # errors that are about the address


def _class_for(code: int, reason: str | None) -> type[Error]:
    by_code = _BY_CODE.get(code, Error)
    return by_code if reason is None else _BY_REASON.get(reason, by_code)


def from_status(code: int, message: str, reason: str | None, metadata: Mapping[str, str]) -> Error:
    """The exception for an error of the native module."""
    return _class_for(code, reason)(printable(message), None, reason, metadata)


def from_rpc(error: grpc.RpcError, target: str) -> Error:
    """The exception for a failed call. Its class follows from the server's reason, else from the status."""
    import grpc

    call = error if isinstance(error, grpc.Call) else None
    status = None if call is None else call.code()
    # Tracebacks and logs print it, and the server may be anyone.
    details = printable((None if call is None else call.details()) or str(error))
    if call is None or status is None:
        return Error(f"{target}: {details}")
    code: int = status.value[0]
    if code == _UNIMPLEMENTED:  # from a web server, or gRPC's answer for a method that does not exist
        details = f"{target}: no iterand server answers there, or one too old ({details})"
    elif code in _OF_THE_SERVER or (code not in _BY_CODE and code != _FAILED_PRECONDITION):
        details = f"{target}: {details}"
    info = _error_info(call)
    if info is None:
        return _class_for(code, None)(details, status)
    reason = printable(info.reason)
    metadata = {printable(key): printable(value) for key, value in info.metadata.items()}
    return _class_for(code, reason)(details, status, reason, metadata)


_DETAILS = "grpc-status-details-bin"
_INFO_TYPE = "type.googleapis.com/google.rpc.ErrorInfo"


def _error_info(call: grpc.Call) -> errors_pb2.ErrorInfo | None:
    """What the trailer of a failed call says. None if there is nothing of the domain "iterand" to read."""
    from google.protobuf.message import DecodeError

    from iterand.v1 import errors_pb2

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
