"""A connection to one server of a list, and the attempts of a call that outlives it.

Nothing here depends on the requests: `_stream`, `_execute` and `client` make the requests.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from iterand import errors
from iterand._connection_options import Retry, Tls
from iterand._proxy import proxy_for, without_password
from iterand._requests import check_timeout

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
        _keep_grpc_running()
        _fork.register()
        _fork.keep(channel)
        return channel


@functools.cache
def _keep_grpc_running() -> grpc.Channel:
    """A channel that never connects and is never closed.

    A fork closes our connections first. When its last channel is closed, gRPC shuts down on a thread of its own. That
    thread and gRPC's handler of forks can wait for each other forever.
    """
    channel = grpc.insecure_channel("unused.invalid:1")
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
