"""Streams from a server: batches that survive their connection.

When a connection breaks, the reading thread makes a new request from the index that it has reached, to the same server
or to the next of the list, and demands the same fingerprint. The next batch is the one that would have followed.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import threading
import weakref
from collections.abc import Sequence
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from iterand import _fork, errors
from iterand._batch import Batch
from iterand._connection import Attempts, Connection
from iterand._requests import check_timeout, first_of_shard
from iterand._wire import decode_batch
from iterand.v1 import noise_service_pb2 as service


class _Buffer:
    """A bounded queue from the thread that reads the network to the one that trains.

    It is made of SimpleQueues because they are cheap and their `put` is reentrant: `close` may be called by a finaliser
    at any point of this or another thread.
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
        self._call = call  # before `closed` is read; close() does the opposite, so one side always sees the other
        return not self.closed

    def pause(self, seconds: float) -> None:
        """Waits, at most until the buffer is closed."""
        with contextlib.suppress(Empty):
            self._hurry.get(timeout=seconds)

    def cancel(self) -> None:
        """Cancels the call in flight."""
        call = self._call
        if call is not None:
            call.cancel()

    def close(self) -> None:
        """Releases both sides. The call in flight must be cancelled next."""
        self.closed = True
        self._room.put(None)
        self._hurry.put(None)
        with contextlib.suppress(Empty):
            while True:
                self._items.get_nowait()
        self._items.put(None)


class RemoteRoad:
    """A server, or several equal ones, as where a stream comes from."""

    def __init__(
        self, connection: Connection, spec: service.StreamSpec, prefetch: int, provenance: bool, owns_connection: bool
    ) -> None:
        _fork.check()
        self._connection = connection
        self._spec = spec
        self._prefetch = prefetch
        self._provenance = provenance
        self._owns_connection = owns_connection

    @property
    def place(self) -> str:
        return self._connection.target

    @property
    def fingerprint(self) -> bytes | None:
        """The fingerprint that is demanded; None until it is known."""
        return self._spec.expected_fingerprint if self._spec.HasField("expected_fingerprint") else None

    def expect(self, fingerprint: bytes) -> None:
        self._spec.expected_fingerprint = fingerprint

    def resolve(self) -> tuple[bytes, int]:
        answer = self._connection.unary(
            "Describe", service.DescribeRequest(stream=self._spec), service.DescribeResponse.FromString, None
        )
        return bytes(answer.stream.fingerprint), int(answer.engine_version)

    def open(self, first: int, stride: int, count: int | None, batch_size: int) -> RemoteSource:
        if first >= 2**64:
            raise errors.OutOfRange(f"index {first} is beyond the last, 2^64 - 1")
        request = service.StreamRequest(
            stream=self._spec,
            shard=service.Shard(rank=first % stride, world_size=stride),
            start=first,
            count=count,
            batch_size=batch_size,
            provenance=self._provenance,
        )
        return RemoteSource(self._connection, request, self._prefetch, self._owns_connection)

    def read(self, indices: Sequence[int], timeout: float | None = None) -> Batch:
        """timeout: seconds for all attempts together. Errors: InvalidArgument if it is not a positive number."""
        check_timeout(timeout)
        if len(indices) == 0:
            batch = self._read_run(0, 1, 1, timeout)
            mask = None if batch.loss_mask is None else batch.loss_mask[:0]
            no_parts = None if batch.parts is None else batch.parts[:0]
            return Batch(batch.tokens[:0], 0, 1, batch.fingerprint, (), mask, no_parts)
        first, stride = int(indices[0]), 1 if len(indices) == 1 else int(indices[1]) - int(indices[0])
        if stride > 0 and all(int(index) == first + i * stride for i, index in enumerate(indices)):
            return self._read_run(first, stride, len(indices), timeout)
        listed = [int(index) for index in indices]
        request = service.ReadRequest(stream=self._spec, indices=listed, provenance=self._provenance)
        return replace(decode_batch(self._connection.unary("Read", request, bytes, timeout)), stride=0)

    def _read_run(self, first: int, stride: int, rows: int, timeout: float | None) -> Batch:
        request = service.ReadRequest(
            stream=self._spec, first_index=first, stride=stride, rows=rows, provenance=self._provenance
        )
        return decode_batch(self._connection.unary("Read", request, bytes, timeout))

    def check_process(self) -> None:
        """Errors: ForkedProcess."""
        _fork.check()

    def close(self) -> None:
        if self._owns_connection and not _fork.inherited():
            self._connection.close()


class RemoteSource:
    """One call for batches in order, and the calls that continue it."""

    def __init__(
        self, connection: Connection, request: service.StreamRequest, prefetch: int, owns_connection: bool
    ) -> None:
        _keep_freed_memory()
        self._buffer = _Buffer(prefetch)
        self._thread = threading.Thread(
            target=_pump, args=(connection, request, self._buffer), name="iterand-stream", daemon=True
        )
        # Not a method of self: neither the thread nor the finaliser may keep the source alive.
        self._finalizer = weakref.finalize(self, _shut, self._buffer, connection if owns_connection else None)
        self._thread.start()
        _open_sources.add(self)

    def next(self) -> Batch | None:
        item = self._buffer.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Cancels the call. The server frees its work at once. Does nothing in a forked process."""
        if _fork.inherited():
            return
        self._finalizer()
        # A thread that is inside of gRPC when the interpreter ends aborts the process.
        self._thread.join(_GOODBYE)


# Seconds that closing waits at most for the thread that reads: it has nothing left to do.
_GOODBYE = 1.0

_open_sources: weakref.WeakSet[RemoteSource] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for source in list(_open_sources):
        source.close()


@functools.cache
def _keep_freed_memory() -> None:
    """Makes malloc keep up to 32 MB of freed memory: see KeepFreedMemory in clients/cpp/rpc_client.cc."""
    np.empty(16 << 20, np.uint8)


def _shut(buffer: _Buffer, connection: Connection | None) -> None:
    if _fork.inherited():  # the call is the parent's
        return
    buffer.close()
    if connection is not None:
        connection.interrupt()  # a call of SINGLE_THREADED is only freed with its channel
    else:
        buffer.cancel()


def _pump(connection: Connection, request: service.StreamRequest, buffer: _Buffer) -> None:
    """Reads batches into the buffer until the end, an error that no retry can fix, or the buffer's closing."""
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
                buffer.put(batch)  # without a consumer the call is about to end, and then frees what it holds
            if position >= 2**64 or (remaining is not None and remaining <= 0):
                break
            failure: errors.Error = errors.Unavailable(
                f"{call.link.where}: the server ended the stream at index {position}"
            )
        except errors.Error as error:
            failure = error
            if isinstance(error, errors.Unavailable) and remaining is not None and remaining <= 0:
                break  # the connection broke after the last batch
        if buffer.closed:
            return
        attempts.failed(call.link, failure, buffer.pause)
        if buffer.closed:
            return
    buffer.put(None)
