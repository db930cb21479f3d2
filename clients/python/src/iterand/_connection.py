"""A connection to one server of a list, and the attempts of a call that outlives it.

Nothing here knows what is asked: `_stream`, `_execute` and `client` make the requests.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.experimental

from iterand import errors
from iterand._requests import check_range, check_timeout

_SERVICE = "/iterand.v1.NoiseService/"

# The thread that reads a stream waits on the connection itself: a batch is not handed over from a thread of gRPC's.
# gRPC never frees a call of this kind that is cancelled, only one that ends with its channel, so this is for streams
# that have a channel of their own.
SINGLE_THREADED = ((grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1),)
_T = TypeVar("_T")

_grpc_process: int | None = None  # the process in which gRPC runs, if it does


def _enter_grpc() -> None:
    """Errors: ForkedProcess in a child, made by fork, of a process that has used gRPC.

    gRPC's threads and locks do not come along into such a child: its calls may work, abort or wait for ever.
    """
    global _grpc_process
    if _grpc_process not in (None, os.getpid()):
        raise errors.ForkedProcess(
            f"process {os.getpid()} was forked from process {_grpc_process}, which had used iterand: gRPC does not "
            'survive a fork. Start processes by multiprocessing.get_context("forkserver") or "spawn"; '
            'a DataLoader takes multiprocessing_context="forkserver", and iterand.torch.StreamLoader does so by itself'
        )
    _grpc_process = os.getpid()


@dataclass(frozen=True)
class Retry:
    """How often a call that finds no server, or only full ones, is tried again before `Unavailable` is raised.

    Waits double from `first_wait` to `longest_wait` (seconds). Every batch that arrives resets the count. A server
    that was never reached is more likely a wrong address than a restart: it is tried for `connect_timeout` seconds.
    """

    attempts: int = 8
    first_wait: float = 0.1
    longest_wait: float = 5.0
    connect_timeout: float = 3.0

    def __post_init__(self) -> None:
        check_range("attempts of Retry", self.attempts, 0, 2**31)
        for name in ("first_wait", "longest_wait", "connect_timeout"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 86400:
                raise errors.InvalidArgument(f"{name} of Retry is {value!r}; it must be 0 to 86400 seconds")

    def wait(self, attempt: int) -> float:
        """Seconds before attempt 1, 2, ..."""
        return min(self.longest_wait, self.first_wait * 2.0 ** min(attempt - 1, 64))


@dataclass(frozen=True)
class Tls:
    """An encrypted connection. Files are PEM; without `ca` the system's authorities are trusted."""

    ca: str | os.PathLike[str] | None = None
    certificate: str | os.PathLike[str] | None = None  # of this client, with `key`, where the server asks for one
    key: str | os.PathLike[str] | None = None
    server_name: str | None = None  # if the certificate names another host than the address does

    def credentials(self) -> grpc.ChannelCredentials:
        def pem(path: str | os.PathLike[str] | None) -> bytes | None:
            try:
                return None if path is None else Path(path).read_bytes()
            except OSError as error:
                raise errors.InvalidArgument(f"TLS file {path} cannot be read: {error.strerror}") from error

        return grpc.ssl_channel_credentials(pem(self.ca), pem(self.key), pem(self.certificate))


class Connection:
    """A connection to the server in use among `targets`. Thread-safe.

    tls: None for an unencrypted connection.
    options: gRPC channel arguments, which override those made here.
    """

    def __init__(
        self,
        targets: Sequence[str],
        tls: Tls | None,
        token: str | None,
        retry: Retry,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self.retry = retry
        self._targets = list(targets)
        self._tls = tls
        self._metadata = (("authorization", f"Bearer {token}"),) if token is not None else ()
        self._options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            # How long one attempt to connect may take, over slow networks too.
            ("grpc.min_reconnect_backoff_ms", max(1, int(retry.connect_timeout * 1000))),
            ("grpc.max_reconnect_backoff_ms", 2000),
            # Trainers and servers that come back on another machine must not share a dead connection for hours.
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            # What the server may send before anybody reads it, batches in few frames, and in few pieces.
            ("grpc.http2.lookahead_bytes", 8 << 20),
            ("grpc.http2.max_frame_size", 1 << 20),
            ("grpc.experimental.tcp_read_chunk_size", 64 << 10),
            *options,
        ]
        self._lock = threading.RLock()  # a stream's finalizer may come in the middle of anything
        self._current = 0
        self._channel: grpc.Channel | None = None
        self._closed = False
        self.reached = False  # a server has answered

    @property
    def target(self) -> str:
        """The server in use."""
        return self._targets[self._current]

    def close(self) -> None:
        """Calls in progress end, and later ones fail, with `Cancelled`."""
        with self._lock:
            self._closed = True
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def next_target(self, failed: str) -> None:
        """Turns from the server `failed` to the next of the list, unless another call has done so."""
        with self._lock:
            if len(self._targets) == 1 or self.target != failed:
                return
            self._current = (self._current + 1) % len(self._targets)
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def gives_up(self, attempt: int, begin: float) -> bool:
        """Whether attempt 1, 2, ... since `begin` (time.monotonic) was the last."""
        if attempt > self.retry.attempts:
            return True
        waited = time.monotonic() - begin
        return not self.reached and attempt >= len(self._targets) and waited >= self.retry.connect_timeout

    def server_stream(self, name: str, request: Any, deserialize: Callable[[bytes], Any]) -> Any:
        """Starts the method `name`: an iterator over its responses, which can be cancelled. Errors: grpc.RpcError."""
        with self._lock:  # nobody closes the channel before the call is on it
            method = self._connect().unary_stream(
                _SERVICE + name, request_serializer=type(request).SerializeToString, response_deserializer=deserialize
            )
            return method(request, metadata=self._metadata)

    def unary(self, name: str, request: Any, deserialize: Callable[[bytes], _T], timeout: float | None) -> _T:
        """Calls the method `name`, again where no server answers. Errors: any `iterand.Error`."""
        check_timeout(timeout)
        attempts = Attempts(self)
        while True:
            target = self.target
            channel = self._connect()
            try:
                method = channel.unary_unary(
                    _SERVICE + name,
                    request_serializer=type(request).SerializeToString,
                    response_deserializer=deserialize,
                )
                answer: _T = method(request, timeout=timeout, metadata=self._metadata)
                attempts.succeeded()
                return answer
            except ValueError:
                # gRPC raises it if another thread has closed the channel meanwhile: for the next server, or for good.
                with self._lock:
                    if channel is self._channel:
                        raise
            except grpc.RpcError as error:
                attempts.failed(target, errors.from_rpc(error, target))

    def _connect(self) -> grpc.Channel:
        with self._lock:
            if self._closed:
                raise errors.Cancelled("the client is closed")
            if self._channel is None:
                _enter_grpc()
                options = list(self._options)
                if self._tls is None:
                    self._channel = grpc.insecure_channel(self.target, options=options)
                else:
                    if self._tls.server_name is not None:
                        options.append(("grpc.ssl_target_name_override", self._tls.server_name))
                    self._channel = grpc.secure_channel(self.target, self._tls.credentials(), options=options)
            return self._channel


class Attempts:
    """The attempts of one call: how many there were since the last answer, and whether there is another."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._count = 0
        self._begin = time.monotonic()

    def succeeded(self) -> None:
        """A server has answered."""
        self._count = 0
        self._connection.reached = True

    def failed(self, target: str, failure: errors.Error, pause: Callable[[float], object] = time.sleep) -> None:
        """Turns to the next server and waits, by `pause`. Raises `failure` if no server can mend it, or none is left.

        A call is Cancelled too when another one has closed its channel to turn to the next server.
        """
        self._count += 1
        connection = self._connection
        if not isinstance(failure, errors.Unavailable | errors.Cancelled):
            raise failure
        if connection.gives_up(self._count, self._begin):
            raise failure
        connection.next_target(target)
        pause(connection.retry.wait(self._count))
