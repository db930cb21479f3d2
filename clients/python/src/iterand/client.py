"""The client: streams, random access and descriptions from an iterand server.

A stream is a pure function of (recipe, seed, index), so the server keeps nothing that a client would have to restore,
and every call may be made again on another server.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import grpc
import grpc.experimental

from iterand import errors
from iterand._description import Description, description
from iterand._programs import Execution, InputTape, execute_request, run_programs
from iterand._requests import RecipeLike, check_bool, check_range, check_timeout, stream_request, stream_spec
from iterand._stream import Stream
from iterand._wire import Batch, Tokens, decode_batch
from iterand.v1 import noise_service_pb2 as service

_SERVICE = "/iterand.v1.NoiseService/"

# The thread that reads a stream waits on the connection itself: a batch is not handed over from a thread of gRPC's.
# gRPC never frees a call of this kind that is cancelled, only one that ends with its channel, so this is for streams
# that have a channel of their own.
_SINGLE_THREADED = ((grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1),)
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

    Waits double from `first_wait` to `longest_wait` (seconds). Every batch that arrives starts the count anew. A server
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


class Client:
    """A connection to one server, or to the first of several equal servers that answers.

    target: "host:port", or a list of such; all must serve the same streams (any iterand servers of one engine version
    do).
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        tls: Tls | bool = False,
        token: str | None = None,
        retry: Retry | None = None,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self._targets = _checked_targets(target)
        if not isinstance(tls, bool | Tls):
            raise errors.InvalidArgument(f"tls is {tls!r}; it must be True, False or a Tls, as Tls(ca='cert.pem')")
        self._tls = Tls() if tls is True else (tls or None)
        self._metadata = (("authorization", f"Bearer {_checked_token(token)}"),) if token is not None else ()
        if not isinstance(retry, Retry | None):
            raise errors.InvalidArgument(f"retry is {retry!r}; it must be a Retry, as Retry(attempts=3), or None")
        self.retry = retry if retry is not None else Retry()
        self._options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.initial_reconnect_backoff_ms", 100),
            # How long one attempt to connect may take, over slow networks too.
            ("grpc.min_reconnect_backoff_ms", max(1, int(self.retry.connect_timeout * 1000))),
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
        self._lock = threading.RLock()  # a stream's finaliser may come in the middle of anything
        self._current = 0
        self._channel: grpc.Channel | None = None
        self._closed = False
        self.reached = False  # a server has answered

    def gives_up(self, attempt: int, begin: float) -> bool:
        """Whether attempt 1, 2, ... since `begin` (time.monotonic) was the last."""
        if attempt > self.retry.attempts:
            return True
        waited = time.monotonic() - begin
        return not self.reached and attempt >= len(self._targets) and waited >= self.retry.connect_timeout

    @property
    def target(self) -> str:
        """The server in use."""
        return self._targets[self._current]

    def close(self) -> None:
        """Closes the connection. Streams on it end and later calls fail, with `Cancelled`."""
        with self._lock:
            self._closed = True
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stream(
        self,
        recipe: RecipeLike = "up",
        *,
        seed: int = 0,
        length: int | None = None,
        batch_size: int = 64,
        shard: tuple[int, int] = (0, 1),
        start: int = 0,
        count: int | None = None,
        provenance: bool = False,
        prefetch: int = 8,
        expected_fingerprint: bytes | None = None,
        mask: bool = False,
    ) -> Stream:
        """See `iterand.stream`."""
        request = stream_request(
            recipe, seed, length, batch_size, shard, start, count, provenance, expected_fingerprint, mask
        )
        return self._stream(request, prefetch, owns_client=False)

    def _stream(self, request: service.StreamRequest, prefetch: int, owns_client: bool) -> Stream:
        check_prefetch(prefetch)
        return Stream(self, request, prefetch, owns_client)

    def read_batch(
        self,
        first_index: int,
        rows: int = 1,
        *,
        stride: int = 1,
        recipe: RecipeLike = "up",
        seed: int = 0,
        length: int | None = None,
        provenance: bool = False,
        expected_fingerprint: bytes | None = None,
        mask: bool = False,
        timeout: float | None = None,
    ) -> Batch:
        """As `read`, with indices, fingerprint and, if asked for, provenance and the loss mask."""
        check_range("first_index", first_index, 0, 2**64 - 1)
        check_range("rows", rows, 0, 2**32 - 1)
        check_range("stride", stride, 1, 2**64 - 1)
        check_bool("provenance", provenance)
        request = service.ReadRequest(
            stream=stream_spec(recipe, seed, length, expected_fingerprint, mask),
            first_index=first_index,
            stride=stride,
            rows=rows,
            provenance=bool(provenance),
        )
        data = self._unary("Read", request, _raw, timeout)
        return decode_batch(data)

    def read(
        self,
        first_index: int,
        rows: int = 1,
        *,
        stride: int = 1,
        recipe: RecipeLike = "up",
        seed: int = 0,
        length: int | None = None,
        timeout: float | None = None,
    ) -> Tokens:
        """See `iterand.read`."""
        return self.read_batch(
            first_index, rows, stride=stride, recipe=recipe, seed=seed, length=length, timeout=timeout
        ).tokens

    def describe(
        self,
        recipe: RecipeLike | None = None,
        *,
        seed: int = 0,
        length: int | None = None,
        mask: bool = False,
        timeout: float | None = None,
    ) -> Description:
        """See `iterand.describe`."""
        spec = None if recipe is None else stream_spec(recipe, seed, length, None, mask)
        answer = self._unary(
            "Describe", service.DescribeRequest(stream=spec), service.DescribeResponse.FromString, timeout
        )
        return description(answer)

    def execute(
        self,
        programs: str | bytes | Sequence[str | bytes],
        inputs: InputTape | Sequence[InputTape] = None,
        *,
        max_steps: int | None = None,
        max_output: int | None = None,
        cells: int | None = None,
        symbols: int | None = None,
        repeat: bool = False,
    ) -> Iterator[Execution]:
        """See `iterand.execute`."""
        request = execute_request(programs, inputs, max_steps, max_output, cells, symbols, repeat)
        return run_programs(self, request)

    def open_stream(self, request: service.StreamRequest) -> Any:
        """The bare call: an iterator over serialised batches. `Stream` is what a trainer wants."""
        return self._start("Stream", request, _raw)

    def open_execution(self, request: service.ExecuteRequest) -> Any:
        """The bare call: an iterator over responses. `execute` is what most want."""
        return self._start("Execute", request, service.ExecuteResponse.FromString)

    def use_next_target(self, failed: str) -> None:
        """Turns from the server `failed` to the next of the list, unless another call has done so."""
        with self._lock:
            if len(self._targets) == 1 or self.target != failed:
                return
            self._current = (self._current + 1) % len(self._targets)
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

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

    def _start(self, name: str, request: Any, deserialize: Callable[[bytes], Any]) -> Any:
        with self._lock:  # nobody closes the channel before the call is on it
            method = self._connect().unary_stream(
                _SERVICE + name, request_serializer=type(request).SerializeToString, response_deserializer=deserialize
            )
            return method(request, metadata=self._metadata)

    def _unary(self, name: str, request: Any, deserialize: Callable[[bytes], _T], timeout: float | None) -> _T:
        check_timeout(timeout)
        attempt = 0
        begin = time.monotonic()
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
                self.reached = True
                return answer
            except ValueError:
                # gRPC raises it if another thread has closed the channel meanwhile: for the next server, or for good.
                with self._lock:
                    if channel is self._channel:
                        raise
            except grpc.RpcError as error:
                failure = errors.from_rpc(error, target)
                attempt += 1
                # Cancelled: another call has turned to the next server.
                if not isinstance(failure, errors.Unavailable | errors.Cancelled) or self.gives_up(attempt, begin):
                    raise failure from error
                self.use_next_target(target)
                time.sleep(self.retry.wait(attempt))


def check_prefetch(prefetch: int) -> None:
    check_range("prefetch", prefetch, 1, 2**20)


def _checked_targets(target: str | Sequence[str]) -> list[str]:
    """Addresses as a list. gRPC takes one without a port for port 443, and a URL for a host's name."""
    targets: list[Any] = list(target) if isinstance(target, list | tuple) else [target]
    if not targets or not all(targets):
        raise errors.InvalidArgument(f"target is {target!r}; it must be host:port or a list of such")
    for address in targets:
        if not isinstance(address, str) or ":" not in address or address.startswith(("http://", "https://")):
            raise errors.InvalidArgument(
                f"target {address!r}: host:port or unix:path is wanted, such as 'localhost:50051'"
            )
        port = address.rpartition(":")[2]  # which gRPC takes modulo 2^16
        if not address.startswith("unix:") and port.isdecimal() and not 1 <= int(port) <= 65535:
            raise errors.InvalidArgument(f"target {address!r}: the port must be from 1 to 65535")
    return targets


def _checked_token(token: str) -> str:
    """The token without the white space around it, which a file that it was read from may have."""
    if not isinstance(token, str):
        raise errors.InvalidArgument(f"token is a {type(token).__name__}; it must be a str")
    token = token.strip()
    if not (token.isascii() and token.isprintable()):
        raise errors.InvalidArgument("token has a character that no header can carry; it must be printable ASCII")
    return token


def _raw(data: bytes) -> bytes:
    return data


def stream(
    target: str | Sequence[str],
    recipe: RecipeLike = "up",
    *,
    seed: int = 0,
    length: int | None = None,
    batch_size: int = 64,
    shard: tuple[int, int] = (0, 1),
    start: int = 0,
    count: int | None = None,
    provenance: bool = False,
    prefetch: int = 8,
    expected_fingerprint: bytes | None = None,
    mask: bool = False,
    tls: Tls | bool = False,
    token: str | None = None,
    retry: Retry | None = None,
) -> Stream:
    """Streams one shard of a recipe's sequences: iterates over arrays of rows x length tokens.

    target: "host:port" of a server, or a list of them to fall back on.
    recipe: a preset's name, a dict, JSON text, or the path of a JSON file.
    length: tokens a sequence, instead of the recipe's own.
    shard: (rank, world): the indices g with g mod world = rank. The recipe's lanes must be a multiple of world.
    start: the shard's sequences with index >= start.
    count: how many sequences this shard gives; None: endless.
    prefetch: batches read ahead.
    expected_fingerprint: refuse any other stream (FingerprintMismatch).
    mask: ask for loss masks, as a recipe with loss_mask does: `stream.batches()` then gives batches whose `mask` is
        true where a token is to be predicted, which may be nowhere in a row. The fingerprint is that recipe's; the
        tokens are the same.
    Errors are `iterand.Error`s; they come from the iteration, since the connection is made in the background.
    """
    request = stream_request(
        recipe, seed, length, batch_size, shard, start, count, provenance, expected_fingerprint, mask
    )
    client = Client(target, tls=tls, token=token, retry=retry, options=_SINGLE_THREADED)
    return client._stream(request, prefetch, owns_client=True)


def read(
    target: str | Sequence[str],
    first_index: int,
    rows: int = 1,
    *,
    stride: int = 1,
    recipe: RecipeLike = "up",
    seed: int = 0,
    length: int | None = None,
    tls: Tls | bool = False,
    token: str | None = None,
    retry: Retry | None = None,
) -> Tokens:
    """Random access: the sequences first_index, first_index + stride, ... as an array of rows x length tokens."""
    with Client(target, tls=tls, token=token, retry=retry) as client:
        return client.read(first_index, rows, stride=stride, recipe=recipe, seed=seed, length=length)


def describe(
    target: str | Sequence[str],
    recipe: RecipeLike | None = None,
    *,
    seed: int = 0,
    length: int | None = None,
    mask: bool = False,
    tls: Tls | bool = False,
    token: str | None = None,
    retry: Retry | None = None,
) -> Description:
    """Presets, families and engine version of a server and, if a recipe is given, what it resolves to; with `mask` the
    stream that `iterand.stream` with a mask reads, which has a fingerprint of its own."""
    with Client(target, tls=tls, token=token, retry=retry) as client:
        return client.describe(recipe, seed=seed, length=length, mask=mask)


def execute(
    target: str | Sequence[str],
    programs: str | bytes | Sequence[str | bytes],
    inputs: InputTape | Sequence[InputTape] = None,
    *,
    max_steps: int | None = None,
    max_output: int | None = None,
    cells: int | None = None,
    symbols: int | None = None,
    repeat: bool = False,
    tls: Tls | bool = False,
    token: str | None = None,
    retry: Retry | None = None,
) -> Iterator[Execution]:
    """Runs programs on the server's byte machine and yields what each did, in order, as the results come.

    programs: one text or many, of the instructions + - > < [ ] . , and white space.
    inputs: the input tape of all programs, or one for each: bytes, the seed of random ones, or None for an empty tape.
    max_steps, max_output, cells, symbols: limits and the machine's size; the defaults stand in noise_service.proto.
    repeat: a program that ends begins again on the same tape.
    Errors are `iterand.Error`s and come with the first result; a program that is none is an InvalidArgument that names
    it, the position and the character.
    """
    with Client(target, tls=tls, token=token, retry=retry) as client:
        yield from client.execute(
            programs,
            inputs,
            max_steps=max_steps,
            max_output=max_output,
            cells=cells,
            symbols=symbols,
            repeat=repeat,
        )
