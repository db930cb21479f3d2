"""A connection to one server of a list, and the attempts of a call that outlives it.

Nothing here depends on the requests: `_stream`, `_execute` and `client` make the requests.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from iterand import errors
from iterand._proxy import proxy_for, without_password
from iterand._requests import check_range, check_timeout
from iterand._secrets import warn_if_readable_by_all

# gRPC reads the variable when it is imported. Its lines on standard error only repeat what is raised as an exception. A
# program that sets the variable, or has imported gRPC before, gets them.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
import grpc
import grpc.experimental

from iterand import _fork
from iterand._keepalive import Link, Waiting, unshared

_SERVICE = "/iterand.v1.NoiseService/"

# The thread that reads a stream waits on the connection itself: no thread of gRPC's hands batches over.
# It is for streams that have a channel of their own, since gRPC frees a cancelled call of this kind only with its
# channel.
SINGLE_THREADED = ((grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1),)
_T = TypeVar("_T")

_CLOSED = "the client is closed"

_log = logging.getLogger("iterand")


@dataclass(frozen=True)
class Retry:
    """How long a call looks for a server before `Unavailable` is raised. Times are in seconds.

    A call that finds no server, or only full ones, is tried `attempts` times more. Waits in between double from
    `first_wait` to `longest_wait`. Every batch that arrives resets the count. A server that was never reached is more
    likely a wrong address than a restart: it is tried for `connect_timeout`, which also bounds one attempt to connect.

    A call that has waited for `keepalive_time` without a message makes a health check. A server that does not answer
    it within `keepalive_timeout` is replaced by the next: one that is stopped, after the sum of both. A server that
    answers may take any time for a batch.

    >>> iterand.describe(server="localhost:1", retry=iterand.Retry(connect_timeout=0.2))
    Traceback (most recent call last):
    iterand.errors.Unavailable: localhost:1: ...
    >>> [iterand.Retry().wait(attempt) for attempt in (1, 2, 3, 9)]
    [0.1, 0.2, 0.4, 5.0]
    """

    attempts: int = 8
    first_wait: float = 0.1
    longest_wait: float = 5.0
    connect_timeout: float = 3.0
    keepalive_time: float = 3.0
    keepalive_timeout: float = 4.0

    def __post_init__(self) -> None:
        check_range("attempts of Retry", self.attempts, 0, 2**31)
        for name in ("first_wait", "longest_wait", "connect_timeout", "keepalive_time", "keepalive_timeout"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 86400:
                raise errors.InvalidArgument(f"{name} of Retry is {value!r}; it must be 0 to 86400 seconds")
        if self.keepalive_timeout == 0:
            raise errors.InvalidArgument("keepalive_timeout of Retry is 0; it must be more than 0 seconds")

    def wait(self, attempt: int) -> float:
        """Seconds before attempt 1, 2, ..."""
        return min(self.longest_wait, self.first_wait * 2.0 ** min(attempt - 1, 64))


@dataclass(frozen=True)
class Tls:
    """An encrypted connection. Files are PEM.

    ca_file: authorities to trust; None: the system's.
    cert_file, key_file: certificate of this client and its key, if the server asks for one.
    server_name: if the certificate names another host than the address does.

    >>> tls = iterand.Tls(ca_file="ca.pem")
    >>> tls.check()  # Client and stream do so
    >>> iterand.stream("up", server="noise.example:50051", tls=tls)
    <Stream of up, seed 0, at index 0, from noise.example:50051>
    """

    ca_file: str | os.PathLike[str] | None = None
    cert_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise errors.InvalidArgument("Tls has one of cert_file and key_file; a client certificate needs both")

    def check(self) -> None:
        """Reads the files, without gRPC. Errors: InvalidArgument for what a handshake could not use.

        Logs a warning if every user of the machine may read the key.
        """
        self._pems()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca_file is not None:
            try:
                context.load_verify_locations(self.ca_file)
            except ssl.SSLError as error:
                raise errors.InvalidArgument(f"ca_file {self.ca_file} has no PEM certificate ({error})") from error
        if self.cert_file is not None and self.key_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file, password=_no_passphrase)
            except ssl.SSLError as error:
                raise errors.InvalidArgument(
                    f"cert_file {self.cert_file} and key_file {self.key_file} must be a PEM certificate and its key "
                    f"without a passphrase ({error})"
                ) from error

    def _credentials(self) -> grpc.ChannelCredentials:
        """Errors: InvalidArgument if a file cannot be read."""
        authorities, key, certificate = self._pems()
        return grpc.ssl_channel_credentials(authorities, key, certificate)

    def _pems(self) -> tuple[bytes | None, ...]:
        if self.key_file is not None:
            warn_if_readable_by_all(self.key_file)
        return tuple(_pem(path) for path in (self.ca_file, self.key_file, self.cert_file))


def _pem(path: str | os.PathLike[str] | None) -> bytes | None:
    try:
        return None if path is None else Path(path).read_bytes()
    except OSError as error:
        raise errors.InvalidArgument(f"TLS file {path} cannot be read: {error.strerror}") from error


def _no_passphrase() -> bytes:
    return b""  # where OpenSSL would ask at the terminal


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
        self.targets = list(targets)
        self._tls = tls
        self._metadata = (("authorization", f"Bearer {token}"),) if token is not None else ()
        self._options = list(options)
        self._lock = threading.RLock()  # a stream's finalizer may run at any point
        self._current = 0
        self._link: Link | None = None
        self._apart = False  # the next channel must not share a connection with an earlier one
        self.closed = False
        self.reached = False  # a server has answered
        _fork.connections.add(self)

    @property
    def target(self) -> str:
        """The server in use."""
        return self.targets[self._current]

    def close(self) -> None:
        """Calls in progress end, and later ones fail, with `Cancelled`. Does nothing in a forked process."""
        if _fork.inherited():
            return
        with self._lock:
            self.closed = True
            link, self._link = self._link, None
        if link is not None:
            link.channel.close()

    def server_stream(
        self, name: str, request: Any, deserialize: Callable[[bytes], _T], timeout: float | None = None
    ) -> ServerStream[_T]:
        """Starts the method `name`, whose responses come one by one. Errors: ForkedProcess, Cancelled."""
        _fork.check()
        with _fork.gate, self._lock:  # no thread closes the channel before the call is on it
            link = self._connect()
            method = link.channel.unary_stream(
                _SERVICE + name, request_serializer=type(request).SerializeToString, response_deserializer=deserialize
            )
            return ServerStream(link, method(request, timeout=timeout, metadata=self._metadata))

    def start(self, name: str, request: Any, deserialize: Callable[[bytes], _T]) -> Answer[_T]:
        """Starts the method `name`, which has one response. Errors: ForkedProcess, Cancelled."""
        _fork.check()
        with _fork.gate, self._lock:  # nobody closes the channel before the call is on it
            link = self._connect()
            method = link.channel.unary_unary(
                _SERVICE + name, request_serializer=type(request).SerializeToString, response_deserializer=deserialize
            )
            return Answer(link, method.future(request, metadata=self._metadata))

    def unary(self, name: str, request: Any, deserialize: Callable[[bytes], _T], timeout: float | None) -> _T:
        """Calls the method `name`, again if no server answers. Errors: any `iterand.Error`."""
        attempts = Attempts(self, timeout)
        while True:
            _fork.check()
            link = self._connect()
            try:
                method = link.channel.unary_unary(
                    _SERVICE + name,
                    request_serializer=type(request).SerializeToString,
                    response_deserializer=deserialize,
                )
                waiting = Waiting(link)
                waiting.waiting_since = time.monotonic()
                try:
                    answer: _T = method(request, timeout=attempts.left(), metadata=self._metadata)
                finally:
                    waiting.end()
                link.heard = time.monotonic()
                attempts.succeeded()
                return answer
            except ValueError:
                # gRPC raises it if another thread has closed the channel meanwhile: for the next server, or for good.
                with self._lock:
                    if link is self._link:
                        raise
            except grpc.RpcError as error:
                attempts.failed(link, _failure(error, link))

    def turn(self, failed: Link) -> None:
        """Turns from a server to the next of the list, unless another call has done so."""
        with self._lock:
            if self._link is not failed or (len(self.targets) == 1 and not failed.silent):
                return
            self._current = (self._current + 1) % len(self.targets)
            self._link = None
            self._apart = failed.silent
        failed.channel.close()

    def interrupt(self) -> None:
        """Calls in progress are made again, on a new channel."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.interrupted = True
            link.channel.close()

    def _connect(self) -> Link:
        with _fork.gate, self._lock:
            if self.closed:
                raise errors.Cancelled(_CLOSED)
            if self._link is None:
                _fork.enter()
                proxy = proxy_for(self.target)
                where = self.target
                if proxy is not None:
                    where += f" (through the proxy {without_password(proxy[0])}, which {proxy[1]} names)"
                target = self.target
                self._link = Link(
                    self._channel(target, proxy, self._apart),
                    target,
                    where,
                    self.retry.keepalive_time,
                    self.retry.keepalive_timeout,
                    max(self.retry.keepalive_time, self.retry.connect_timeout),
                    lambda: self._channel(target, proxy, apart=True),
                    self.turn,
                )
            return self._link

    def _channel(self, target: str, proxy: tuple[str, str] | None, apart: bool) -> grpc.Channel:
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            # How long one attempt to connect may take, over slow networks too.
            ("grpc.min_reconnect_backoff_ms", max(1, int(self.retry.connect_timeout * 1000))),
            ("grpc.max_reconnect_backoff_ms", 2000),
            # What the server may send before the client reads it. gRPC's own estimate would raise it without a bound
            # that matters here, and the client would hold all of it in memory.
            ("grpc.http2.lookahead_bytes", 4 << 20),
            ("grpc.http2.bdp_probe", 0),
            # Batches in few frames, and in few pieces.
            ("grpc.http2.max_frame_size", 1 << 20),
            ("grpc.experimental.tcp_read_chunk_size", 64 << 10),
            ("grpc.enable_http_proxy", int(proxy is not None)),
            ("iterand.forks", _fork.forks),  # gRPC shares connections between channels with equal options
        ]
        if proxy is not None:
            options.append(("grpc.http_proxy", proxy[0]))
        if apart:
            options.append(unshared())
        if self._tls is not None and self._tls.server_name is not None:
            options.append(("grpc.ssl_target_name_override", self._tls.server_name))
        options += self._options
        if self._tls is None:
            channel = grpc.insecure_channel(target, options=options)
        else:
            channel = grpc.secure_channel(target, self._tls._credentials(), options=options)
        _fork.register()
        _fork.keep(channel)
        return channel


class ServerStream(Iterator[_T]):
    """A call whose responses come one by one. One thread at a time may iterate; any may cancel."""

    def __init__(self, link: Link, call: Any) -> None:
        self.link = link
        self._call = call
        self._waiting = Waiting(link)
        _fork.keep(call)

    def __next__(self) -> _T:
        """Errors: any `iterand.Error`."""
        _fork.check()
        waiting = self._waiting
        waiting.waiting_since = time.monotonic()
        try:
            response: _T = next(self._call)
        except grpc.RpcError as error:
            waiting.end()
            raise _failure(error, self.link) from error
        except BaseException:  # the end, or an interruption of the caller
            waiting.end()
            raise
        waiting.waiting_since = None
        self.link.heard = time.monotonic()
        return response

    def cancel(self) -> None:
        """Does nothing in a forked process."""
        if not _fork.inherited():
            self._call.cancel()


class Answer(Generic[_T]):
    """The response of a call in progress. One thread may wait for it; any may cancel."""

    def __init__(self, link: Link, call: Any) -> None:
        self.link = link
        self._call = call
        _fork.keep(call)

    def wait(self) -> _T:
        """Errors: any `iterand.Error`."""
        _fork.check()
        waiting = Waiting(self.link)
        waiting.waiting_since = time.monotonic()
        try:
            response: _T = self._call.result()
        except grpc.FutureCancelledError as error:
            raise errors.Cancelled("the call was cancelled") from error
        except grpc.RpcError as error:
            raise _failure(error, self.link) from error
        finally:
            waiting.end()
        self.link.heard = time.monotonic()
        return response

    def cancel(self) -> None:
        """Does nothing in a forked process."""
        if not _fork.inherited():
            self._call.cancel()


def _failure(error: grpc.RpcError, link: Link) -> errors.Error:
    if link.silent:
        return errors.Unavailable(link.silence())
    return errors.from_rpc(error, link.where)


class Attempts:
    """The attempts of one call: how many there were since the last answer, and whether another one is allowed.

    timeout: seconds for all of them together; None for no limit. Errors: InvalidArgument.
    """

    def __init__(self, connection: Connection, timeout: float | None = None) -> None:
        check_timeout(timeout)
        self._connection = connection
        self._timeout = timeout
        self._count = 0
        self._begin = time.monotonic()
        self._lost: float | None = None  # when the first attempt failed, of those since the last answer

    def left(self) -> float | None:
        """Seconds of the timeout that are left; None without one."""
        return None if self._timeout is None else max(0.001, self._begin + self._timeout - time.monotonic())

    def succeeded(self) -> None:
        """A server has answered."""
        if self._lost is not None:
            _log.warning("%s answers, after %.1f s", self._connection.target, time.monotonic() - self._lost)
            self._lost = None
        self._count = 0
        self._connection.reached = True

    def failed(self, link: Link, failure: errors.Error, pause: Callable[[float], object] = time.sleep) -> None:
        """Turns to the next server and waits, by `pause`. Raises `failure` if no other server can help or none is left.

        A call is also Cancelled when another one has closed its channel to turn to the next server.
        """
        connection = self._connection
        if isinstance(failure, errors.DeadlineExceeded) and self._timeout is not None:
            raise self._too_late(link, None)
        if not isinstance(failure, errors.Unavailable | errors.Cancelled):
            raise failure
        if connection.closed:
            raise errors.Cancelled(_CLOSED)
        if link.interrupted:
            return
        self._count += 1
        if self._gives_up():
            raise failure
        wait, left = connection.retry.wait(self._count), self.left()
        if left is not None and left <= wait:
            pause(left)
            raise self._too_late(link, failure)
        if self._lost is None and isinstance(failure, errors.Unavailable):
            self._lost = time.monotonic()
            _log.warning("waiting for a server (%s): %s", ", ".join(connection.targets), failure)
        connection.turn(link)
        pause(wait)

    def _gives_up(self) -> bool:
        connection = self._connection
        if self._count > connection.retry.attempts:
            return True
        waited = time.monotonic() - self._begin
        tried_all = self._count >= len(connection.targets)
        return not connection.reached and tried_all and waited >= connection.retry.connect_timeout

    def _too_late(self, link: Link, failure: errors.Error | None) -> errors.DeadlineExceeded:
        last = "" if failure is None else f"; the last attempt failed: {failure}"
        return errors.DeadlineExceeded(
            f"{link.where}: no complete answer within the timeout of {self._timeout:g} s{last}",
            grpc.StatusCode.DEADLINE_EXCEEDED,
        )
