"""A stream of batches that survives its connections.

When a connection breaks, `Stream` asks again from the index that it has reached, on the same server or on the next of
the list, and demands the same fingerprint: the array that follows is the one that would have followed.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import threading
import time
import weakref
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

import numpy as np

from iterand import _fork, errors
from iterand._connection import Attempts, Connection
from iterand._requests import first_of_shard
from iterand._wire import Batch, Tokens, decode_batch
from iterand.v1 import noise_service_pb2 as service


class _Buffer:
    """A bounded queue from the thread that reads the network to the one that trains.

    It is made of SimpleQueues because they are cheap, and because `close` may come from a finaliser, in the middle of
    anything that this or another thread does: their `put` is reentrant.
    """

    def __init__(self, capacity: int) -> None:
        self._items: SimpleQueue[Batch | BaseException | None] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()  # an entry for each item that may be put
        for _ in range(capacity):
            self._room.put(None)
        self._hurry: SimpleQueue[None] = SimpleQueue()  # ends a pause
        self._call: Any = None
        self.closed = False

    def put(self, item: Batch | BaseException | None) -> None:
        """Waits for room; drops the item if the consumer has gone. None ends the stream."""
        if not self.closed:
            self._room.get()
        if not self.closed:
            self._items.put(item)

    def get(self) -> Batch | BaseException | None:
        item = self._items.get()
        self._room.put(None)
        return item

    def watch(self, call: Any) -> bool:
        """Remembers the call in flight, so that it can be cancelled. False if closed already."""
        self._call = call  # before `closed` is read; who closes does it the other way round, so one sees the other
        return not self.closed

    def pause(self, seconds: float) -> None:
        """Waits, but not beyond closing."""
        with contextlib.suppress(Empty):
            self._hurry.get(timeout=seconds)

    def cancel(self) -> None:
        """Cancels the call in flight."""
        call = self._call
        if call is not None:
            call.cancel()

    def close(self) -> None:
        """Sends both sides away. The call in flight has to be cancelled next."""
        self.closed = True
        self._room.put(None)
        self._hurry.put(None)
        with contextlib.suppress(Empty):
            while True:
                self._items.get_nowait()
        self._items.put(None)


class Stream(Iterator[Tokens]):
    """A shard of a stream, in order: iterates over arrays of up to `batch_size` rows x `length` tokens.

    Arrays are read-only views of the messages that came in, of dtype uint8, uint16 or uint32, whichever is the
    smallest for the vocabulary. A background thread reads up to `prefetch` batches ahead. Use it in a `with`
    statement, or call `close`, to leave before the end; a stream that is dropped closes itself. One thread at a time
    may iterate.
    """

    def __init__(
        self,
        connection: Connection,
        request: service.StreamRequest,
        prefetch: int,
        owns_connection: bool,
    ) -> None:
        _fork.check()
        _keep_freed_memory()
        spec = request.stream
        self._name = f"{spec.preset or 'own recipe'}, seed {spec.seed}"
        self._connection = connection
        self._buffer = _Buffer(prefetch)
        self._next_index = first_of_shard(request.start, request.shard.rank, request.shard.world_size)
        self._fingerprint: bytes | None = None
        self.waited = 0.0  # seconds that the consumer spent waiting for data
        self._finished = False
        self._thread = threading.Thread(
            target=_pump, args=(connection, request, self._buffer), name="iterand-stream", daemon=True
        )
        # Not a method of self: neither the thread nor the finaliser may keep the stream alive.
        self._finalizer = weakref.finalize(self, _shut, self._buffer, connection if owns_connection else None)
        self._thread.start()
        _open_streams.add(self)

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
        _fork.check()
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

    def __repr__(self) -> str:
        state = ", ended" if self._finished else ""
        return f"<Stream of {self._name}, at index {self._next_index}, from {self._connection.target}{state}>"

    def __next__(self) -> Tokens:
        return self.next_batch().tokens

    def __iter__(self) -> Stream:
        return self

    def close(self) -> None:
        """Cancels the stream. The server frees its work at once. Does nothing in a forked process."""
        if _fork.inherited():
            return
        self._finished = True
        self._finalizer()
        # A thread that is inside of gRPC when the interpreter ends aborts the process.
        self._thread.join(_GOODBYE)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# Seconds that closing waits at most for the thread that reads: it has nothing left to do.
_GOODBYE = 1.0

_open_streams: weakref.WeakSet[Stream] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for stream in list(_open_streams):
        stream.close()


@functools.cache
def _keep_freed_memory() -> None:
    """Has malloc keep up to 32 MB of what is freed: see KeepFreedMemory in clients/cpp/client.cc."""
    np.empty(16 << 20, np.uint8)


def _shut(buffer: _Buffer, connection: Connection | None) -> None:
    if _fork.inherited():  # the call is the parent's
        return
    buffer.close()
    if connection is not None:
        connection.close()
    else:
        buffer.cancel()


def _pump(connection: Connection, request: service.StreamRequest, buffer: _Buffer) -> None:
    """Reads batches into the buffer until the end, an error that no retry mends, or the buffer's closing."""
    try:
        _pump_batches(connection, request, buffer)
    except Exception as error:
        buffer.put(error)


def _pump_batches(connection: Connection, request: service.StreamRequest, buffer: _Buffer) -> None:
    world_size = max(request.shard.world_size, 1)
    position = first_of_shard(request.start, request.shard.rank, world_size)
    if position >= 2**64:
        raise errors.OutOfRange(
            f"start is {request.start}: shard {request.shard.rank} of {world_size} has no index from there to 2^64 - 1"
        )
    remaining = request.count if request.HasField("count") else None
    attempts = Attempts(connection)
    while remaining is None or remaining > 0:
        request.start = position
        if remaining is not None:
            request.count = remaining
        call = connection.server_stream("Stream", request, bytes)
        if not buffer.watch(call):
            call.cancel()
            return
        try:
            for data in call:
                batch = decode_batch(data)
                if batch.first_index != position or batch.stride != world_size:
                    raise errors.ProtocolError(
                        f"batch has rows {batch.first_index} + i * {batch.stride}, "
                        f"expected {position} + i * {world_size}"
                    )
                request.stream.expected_fingerprint = batch.fingerprint
                position = batch.next_index
                if remaining is not None:
                    remaining -= batch.rows
                attempts.succeeded()
                buffer.put(batch)  # if nobody wants it any more the call is about to end, and frees what it holds then
            if position >= 2**64 or (remaining is not None and remaining <= 0):
                break
            failure: errors.Error = errors.Unavailable(
                f"{call.link.where}: the server ended the stream at index {position}"
            )
        except errors.Error as error:
            failure = error
            if isinstance(error, errors.Unavailable) and remaining is not None and remaining <= 0:
                break  # the connection broke behind the last batch
        if buffer.closed:
            return
        attempts.failed(call.link, failure, buffer.pause)
        if buffer.closed:
            return
    buffer.put(None)
