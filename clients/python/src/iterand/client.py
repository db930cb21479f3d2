"""The client: streams, random access and descriptions from an iterand server.

A stream is a pure function of (recipe, seed, index), so the server keeps nothing that a client would have to restore.
When a connection breaks, `Stream` asks again from the index that it has reached, on the same server or on the next of
the list, and demands the same fingerprint: the array that follows is the one that would have followed.
"""

from __future__ import annotations

import json
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import grpc
from google.protobuf import json_format

from iterand import errors
from iterand._programs import Execution, InputTape, execute_request, run_programs
from iterand._wire import Batch, Tokens, decode_batch
from iterand.v1 import noise_service_pb2 as service
from iterand.v1 import recipe_pb2

RecipeLike = str | os.PathLike[str] | Mapping[str, Any] | recipe_pb2.Recipe

_SERVICE = "/iterand.v1.NoiseService/"
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
    """How often a call that finds no server is tried again before `Unavailable` is raised.

    Waits double from `first_wait` to `longest_wait` (seconds). Every batch that arrives starts the count anew. A server
    that was never reached is more likely a wrong address than a restart: it is tried for `connect_timeout` seconds.
    """

    attempts: int = 8
    first_wait: float = 0.1
    longest_wait: float = 5.0
    connect_timeout: float = 3.0

    def wait(self, attempt: int) -> float:
        """Seconds before attempt 1, 2, ..."""
        return min(self.longest_wait, self.first_wait * 2.0 ** (attempt - 1))


@dataclass(frozen=True)
class Tls:
    """An encrypted connection. Files are PEM; without `ca` the system's authorities are trusted."""

    ca: str | os.PathLike[str] | None = None
    certificate: str | os.PathLike[str] | None = None  # of this client, with `key`, where the server asks for one
    key: str | os.PathLike[str] | None = None
    server_name: str | None = None  # if the certificate names another host than the address does

    def credentials(self) -> grpc.ChannelCredentials:
        def pem(path: str | os.PathLike[str] | None) -> bytes | None:
            return None if path is None else Path(path).read_bytes()

        return grpc.ssl_channel_credentials(pem(self.ca), pem(self.key), pem(self.certificate))


@dataclass(frozen=True)
class Cost:
    """What a stream costs: see Cost in noise_service.proto."""

    flops_per_token: float
    segment_bytes: int
    first_batch_sequences: int


@dataclass(frozen=True)
class StreamInfo:
    """What a recipe resolves to."""

    recipe: dict[str, Any]  # every default written out
    seed: int
    fingerprint: bytes
    dtype: str
    cost: Cost

    @property
    def length(self) -> int:
        return int(self.recipe["length"])

    @property
    def vocab_size(self) -> int:
        return int(self.recipe["vocab_size"])

    @property
    def lanes(self) -> int:
        return int(self.recipe["lanes"])


@dataclass(frozen=True)
class FamilyInfo:
    """A class of random computations."""

    name: str
    summary: str
    reads_input: bool


@dataclass(frozen=True)
class Description:
    """A server's answer to `describe`."""

    engine_version: int
    presets: dict[str, str]  # name -> description
    families: tuple[FamilyInfo, ...]
    stream: StreamInfo | None


def recipe_text(recipe: RecipeLike) -> tuple[str | None, str | None]:
    """A recipe as (preset name, None) or (None, JSON text).

    `recipe` is a preset's name, a dict, JSON text, or the path of a JSON file: a string is JSON text if it begins with
    a brace, a path if it ends with .json, else a name. Errors: InvalidRecipe for an unreadable file or broken JSON.
    """
    if isinstance(recipe, recipe_pb2.Recipe):
        return None, json_format.MessageToJson(recipe, preserving_proto_field_name=True)
    if isinstance(recipe, Mapping):
        try:
            return None, json.dumps(recipe)
        except (TypeError, ValueError) as error:
            raise errors.InvalidRecipe(f"recipe cannot be written as JSON: {error}") from error
    if isinstance(recipe, str):
        if recipe.lstrip().startswith("{"):
            return None, recipe
        if not recipe.endswith(".json"):
            return recipe, None
    elif not isinstance(recipe, os.PathLike):
        raise errors.InvalidRecipe(
            f"recipe is a {type(recipe).__name__}; it must be a name, a dict, JSON text or a path"
        )
    try:
        return None, Path(recipe).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.InvalidRecipe(f"recipe file {os.fspath(recipe)}: {error}") from error


def _stream_spec(
    recipe: RecipeLike, seed: int, length: int | None, expected_fingerprint: bytes | None, mask: bool = False
) -> service.StreamSpec:
    _check_range("seed", seed, 0, 2**64 - 1)
    if length is not None:
        _check_range("length", length, 1, 2**32 - 1)
    preset, text = recipe_text(recipe)
    spec = service.StreamSpec(
        preset=preset, recipe_json=text, seed=seed, length=length, expected_fingerprint=expected_fingerprint
    )
    if mask:  # if not, the recipe decides
        spec.loss_mask = True
    return spec


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise errors.InvalidArgument(f"{name} is {value}; it must be from {low} to {high}")


class _Buffer:
    """A bounded queue from the thread that reads the network to the one that trains."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[Batch | BaseException | None] = deque()
        self._changed = threading.Condition()
        self._call: Any = None
        self.closed = False

    def put(self, item: Batch | BaseException | None) -> bool:
        """Waits for room. False if the consumer has gone. None ends the stream."""
        with self._changed:
            while len(self._items) >= self._capacity and not self.closed:
                self._changed.wait()
            if self.closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self) -> Batch | BaseException | None:
        with self._changed:
            while not self._items:
                if self.closed:
                    return None
                self._changed.wait()
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def watch(self, call: Any) -> bool:
        """Remembers the call in flight, so that closing cancels it. False if closed already."""
        with self._changed:
            self._call = call
            return not self.closed

    def pause(self, seconds: float) -> None:
        """Waits, but not beyond closing."""
        end = time.monotonic() + seconds
        with self._changed:
            while not self.closed and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._items.clear()
            call = self._call
            self._changed.notify_all()
        if call is not None:
            call.cancel()


class Stream(Iterator[Tokens]):
    """A shard of a stream, in order: iterates over arrays of up to `batch_size` rows x `length` tokens.

    Arrays are read-only views of the messages that came in, of dtype uint8, uint16 or uint32, whichever is the
    smallest for the vocabulary. A background thread reads up to `prefetch` batches ahead. Use it in a `with`
    statement, or call `close`, to leave before the end; a stream that is dropped closes itself. One thread at a time
    may iterate.
    """

    def __init__(
        self,
        client: Client,
        request: service.StreamRequest,
        prefetch: int,
        owns_client: bool,
    ) -> None:
        self._buffer = _Buffer(prefetch)
        self._next_index = first_of_shard(request.start, request.shard.rank, request.shard.world)
        self._fingerprint: bytes | None = None
        self.waited = 0.0  # seconds that the consumer spent waiting for data
        self._finished = False
        thread = threading.Thread(
            target=_pump, args=(client, request, self._buffer), name="iterand-stream", daemon=True
        )
        # Not a method of self: neither the thread nor the finaliser may keep the stream alive.
        self._finalizer = weakref.finalize(self, _shut, self._buffer, client if owns_client else None)
        thread.start()

    @property
    def next_index(self) -> int:
        """Index of the next row: `start=stream.next_index` of a new stream goes on where this one stands."""
        return self._next_index

    @property
    def fingerprint(self) -> bytes | None:
        """32 bytes that name the stream; None before the first batch."""
        return self._fingerprint

    def next_batch(self) -> Batch:
        """The next batch with its indices and provenance. Errors: StopIteration at the end, or any `iterand.Error`."""
        if self._finished:
            raise StopIteration
        begin = time.perf_counter()
        item = self._buffer.get()
        self.waited += time.perf_counter() - begin
        if isinstance(item, Batch):
            self._next_index = item.next_index
            self._fingerprint = item.fingerprint
            return item
        self._finished = True
        self.close()
        if item is None:
            raise StopIteration
        raise item

    def batches(self) -> Iterator[Batch]:
        """The batches themselves, with masks, indices and provenance."""
        while True:
            try:
                yield self.next_batch()
            except StopIteration:
                return

    def __next__(self) -> Tokens:
        return self.next_batch().tokens

    def __iter__(self) -> Stream:
        return self

    def close(self) -> None:
        """Cancels the stream. The server frees its work at once."""
        self._finished = True
        self._finalizer()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _shut(buffer: _Buffer, client: Client | None) -> None:
    buffer.close()
    if client is not None:
        client.close()


def first_of_shard(start: int, rank: int, world: int) -> int:
    return start + (rank - start) % max(world, 1)


def _pump(client: Client, request: service.StreamRequest, buffer: _Buffer) -> None:
    """Reads batches into the buffer until the end, an error that no retry mends, or the buffer's closing."""
    try:
        _pump_batches(client, request, buffer)
    except Exception as error:
        buffer.put(error)


def _pump_batches(client: Client, request: service.StreamRequest, buffer: _Buffer) -> None:
    world = max(request.shard.world, 1)
    position = first_of_shard(request.start, request.shard.rank, world)
    remaining = request.count if request.HasField("count") else None
    attempt = 0
    begin = time.monotonic()
    while remaining is None or remaining > 0:
        request.start = position
        if remaining is not None:
            request.count = remaining
        failure: errors.Error
        try:
            call = client.open_stream(request)
            if not buffer.watch(call):
                call.cancel()
                return
            for data in call:
                batch = decode_batch(data)
                if batch.first_index != position or batch.stride != world:
                    raise errors.ProtocolError(
                        f"batch has rows {batch.first_index} + i * {batch.stride}, expected {position} + i * {world}"
                    )
                request.stream.expected_fingerprint = batch.fingerprint
                position = batch.next_index
                if remaining is not None:
                    remaining -= batch.rows
                attempt = 0
                client.reached = True
                if not buffer.put(batch):
                    return
            if remaining is not None and remaining <= 0:
                break
            failure = errors.Unavailable(f"{client.target}: the server ended the stream at index {position}")
        except grpc.RpcError as error:
            if buffer.closed:
                return
            failure = errors.from_rpc(error, client.target)
            if not isinstance(failure, errors.Unavailable | errors.Cancelled):
                raise failure from error
        attempt += 1
        if client.gives_up(attempt, begin):
            raise failure
        client.use_next_target()
        buffer.pause(client.retry.wait(attempt))
        if buffer.closed:
            return
    buffer.put(None)


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
        self._targets = [target] if isinstance(target, str) else list(target)
        if not self._targets or not all(self._targets):
            raise errors.InvalidArgument("target is empty; it must be host:port or a list of such")
        self._tls = Tls() if tls is True else (tls or None)
        self._metadata = (("authorization", f"Bearer {token}"),) if token is not None else ()
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
            *options,
        ]
        self._lock = threading.Lock()
        self._current = 0
        self._channel: grpc.Channel | None = None
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
        """Closes the connection; streams on it end."""
        with self._lock:
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
        _check_range("prefetch", prefetch, 1, 2**20)
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
        _check_range("first_index", first_index, 0, 2**64 - 1)
        _check_range("rows", rows, 0, 2**32 - 1)
        _check_range("stride", stride, 1, 2**64 - 1)
        request = service.ReadRequest(
            stream=_stream_spec(recipe, seed, length, expected_fingerprint, mask),
            first_index=first_index,
            stride=stride,
            rows=rows,
            provenance=provenance,
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
        timeout: float | None = None,
    ) -> Description:
        """See `iterand.describe`."""
        spec = None if recipe is None else _stream_spec(recipe, seed, length, None)
        answer = self._unary(
            "Describe", service.DescribeRequest(stream=spec), service.DescribeResponse.FromString, timeout
        )
        info: StreamInfo | None = None
        if answer.HasField("stream"):
            found = answer.stream
            info = StreamInfo(
                recipe=_plain_recipe(found.recipe),
                seed=found.seed,
                fingerprint=found.fingerprint,
                dtype=service.Dtype.Name(found.dtype).removeprefix("DTYPE_").lower(),
                cost=Cost(found.cost.flops_per_token, found.cost.segment_bytes, found.cost.first_batch_sequences),
            )
        return Description(
            engine_version=answer.engine_version,
            presets={preset.name: preset.description for preset in answer.presets},
            families=tuple(FamilyInfo(family.name, family.summary, family.reads_input) for family in answer.families),
            stream=info,
        )

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
        method = self._connect().unary_stream(
            _SERVICE + "Stream", request_serializer=service.StreamRequest.SerializeToString, response_deserializer=_raw
        )
        return method(request, metadata=self._metadata)

    def open_execution(self, request: service.ExecuteRequest) -> Any:
        """The bare call: an iterator over responses. `execute` is what most want."""
        method = self._connect().unary_stream(
            _SERVICE + "Execute",
            request_serializer=service.ExecuteRequest.SerializeToString,
            response_deserializer=service.ExecuteResponse.FromString,
        )
        return method(request, metadata=self._metadata)

    def use_next_target(self) -> None:
        """Turns to the next server of the list."""
        if len(self._targets) > 1:
            self.close()
            with self._lock:
                self._current = (self._current + 1) % len(self._targets)

    def _connect(self) -> grpc.Channel:
        with self._lock:
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

    def _unary(self, name: str, request: Any, deserialize: Callable[[bytes], _T], timeout: float | None) -> _T:
        attempt = 0
        begin = time.monotonic()
        while True:
            try:
                method = self._connect().unary_unary(
                    _SERVICE + name,
                    request_serializer=type(request).SerializeToString,
                    response_deserializer=deserialize,
                )
                answer: _T = method(request, timeout=timeout, metadata=self._metadata)
                self.reached = True
                return answer
            except grpc.RpcError as error:
                failure = errors.from_rpc(error, self.target)
                attempt += 1
                if not isinstance(failure, errors.Unavailable) or self.gives_up(attempt, begin):
                    raise failure from error
                self.use_next_target()
                time.sleep(self.retry.wait(attempt))


def _raw(data: bytes) -> bytes:
    return data


def _plain_recipe(recipe: recipe_pb2.Recipe) -> dict[str, Any]:
    plain: dict[str, Any] = _with_numbers(json_format.MessageToDict(recipe, preserving_proto_field_name=True))
    return plain


def _with_numbers(value: Any) -> Any:
    """protobuf's JSON writes 64-bit integers as text; here they are numbers."""
    if isinstance(value, dict):
        return {key: item if key == "description" else _with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    return int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value


def stream_request(
    recipe: RecipeLike,
    seed: int,
    length: int | None,
    batch_size: int,
    shard: tuple[int, int],
    start: int,
    count: int | None,
    provenance: bool,
    expected_fingerprint: bytes | None,
    mask: bool = False,
) -> service.StreamRequest:
    """The message for a shard of a stream. Errors: InvalidArgument, InvalidRecipe."""
    rank, world = shard
    _check_range("shard's world", world, 1, 2**32 - 1)
    _check_range("shard's rank", rank, 0, world - 1)
    _check_range("batch_size", batch_size, 1, 2**32 - 1)
    _check_range("start", start, 0, 2**64 - 1)
    if count is not None:
        _check_range("count", count, 0, 2**64 - 1)
    return service.StreamRequest(
        stream=_stream_spec(recipe, seed, length, expected_fingerprint, mask),
        shard=service.Shard(rank=rank, world=world),
        start=start,
        count=count,
        batch_rows=batch_size,
        provenance=provenance,
    )


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
        true where a token is to be predicted. The fingerprint is that recipe's; the tokens are the same.
    Errors are `iterand.Error`s; they come from the iteration, since the connection is made in the background.
    """
    request = stream_request(
        recipe, seed, length, batch_size, shard, start, count, provenance, expected_fingerprint, mask
    )
    client = Client(target, tls=tls, token=token, retry=retry)
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
    tls: Tls | bool = False,
    token: str | None = None,
    retry: Retry | None = None,
) -> Description:
    """Presets, families and engine version of a server and, if a recipe is given, what it resolves to."""
    with Client(target, tls=tls, token=token, retry=retry) as client:
        return client.describe(recipe, seed=seed, length=length)


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
