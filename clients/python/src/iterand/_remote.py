"""Streams from a server: batches that survive their connection.

When a connection breaks, the reading thread makes a new request from the index that it has reached. The request goes to
the same server or the next of the list, and demands the same fingerprint. The next batch is the one that would have
followed.
"""

from __future__ import annotations

import atexit
import functools
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from iterand import _fork, errors
from iterand._batch import Batch
from iterand._buffer import Buffer
from iterand._connection import Attempts, Connection
from iterand._description import description
from iterand._reads import Batches, pump_reads
from iterand._requests import check_timeout
from iterand._wire import decode_batch
from iterand.v1 import noise_service_pb2 as service


@dataclass
class _Known:
    """What a server has said of a stream. The road and the thread that reads for it share it, so that they ask once."""

    fingerprint: bytes = b""
    engine_version: int = 0
    lanes: int = 0  # 0: nothing is known yet

    def note(self, answer: service.DescribeResponse) -> None:
        """Errors: ProtocolError if the answer describes no stream."""
        stream = description(answer).stream
        if stream is None:
            raise errors.ProtocolError("the server described no stream")
        self.fingerprint = stream.fingerprint
        self.engine_version = answer.engine_version
        self.lanes = stream.lanes


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
        self._known = _Known()

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
        if self._known.lanes == 0:
            request = service.DescribeRequest(stream=self._spec)
            self._known.note(self._connection.unary("Describe", request, service.DescribeResponse.FromString, None))
        return self._known.fingerprint, self._known.engine_version

    def open(self, first: int, stride: int, count: int | None, batch_size: int, every: int) -> RemoteSource:
        if first >= 2**64:
            raise errors.OutOfRange(f"index {first} is beyond the last, 2^64 - 1")
        shard = Batches(self._spec, first, stride, count, batch_size, every, self._provenance)
        return RemoteSource(self._connection, shard, self._known, self._prefetch, self._owns_connection)

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
        if self._owns_connection and not self._connection.closed:
            self._connection.close()


class RemoteSource:
    """One call for batches in order, and the calls that continue it."""

    def __init__(
        self, connection: Connection, shard: Batches, known: _Known, prefetch: int, owns_connection: bool
    ) -> None:
        _keep_freed_memory()
        self._buffer = Buffer(prefetch)
        self._thread = threading.Thread(
            target=_pump, args=(connection, shard, known, prefetch, self._buffer), name="iterand-stream", daemon=True
        )
        # Not a method of self: neither the thread nor the finaliser may keep the source alive.
        self.own_connection = connection if owns_connection else None
        self._finalizer = weakref.finalize(self, _shut, self._buffer, self.own_connection)
        self._thread.start()
        _open_sources.add(self)

    def next(self) -> Batch | None:
        item = self._buffer.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Cancels the call. The server frees its work at once. Does nothing in a forked process."""
        # At the end of the interpreter, after _close_all, a stream may be dropped when the modules are gone.
        if not self._finalizer.alive or _fork.inherited():
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
        if source.own_connection is not None:
            source.own_connection.close()


@functools.cache
def _keep_freed_memory() -> None:
    """Makes malloc keep up to 32 MB of freed memory: see KeepFreedMemory in clients/cpp/rpc_client.cc."""
    np.empty(16 << 20, np.uint8)


def _shut(buffer: Buffer, connection: Connection | None) -> None:
    if _fork.inherited():  # the call is the parent's
        return
    buffer.close()
    if connection is not None:
        connection.interrupt()  # a call of SINGLE_THREADED is only freed with its channel
    else:
        buffer.cancel()


def _pump(connection: Connection, shard: Batches, known: _Known, prefetch: int, buffer: Buffer) -> None:
    """Reads batches into the buffer until the end, an error that no retry can fix, or the buffer's closing.

    The call Stream gives successive batches of a world size that divides the lanes. All others are read one by one.
    """
    try:
        successive = shard.every == 1
        if successive and shard.stride > 1:
            if known.lanes == 0 and not _describe(connection, shard, known, buffer):
                return
            successive = known.lanes % shard.stride == 0
            # The lanes are those of this stream: a server of another version must refuse.
            spec = service.StreamSpec(expected_fingerprint=known.fingerprint)
            spec.MergeFrom(shard.spec)
            shard = replace(shard, spec=spec)
        if successive:
            _pump_stream(connection, shard, buffer)
        else:
            pump_reads(connection, shard, prefetch, buffer)
    except Exception as error:
        buffer.put(error)


def _describe(connection: Connection, shard: Batches, known: _Known, buffer: Buffer) -> bool:
    """Asks a server what the stream is. False if the buffer was closed meanwhile. Errors: any `iterand.Error`."""
    attempts = Attempts(connection)
    request = service.DescribeRequest(stream=shard.spec)
    while True:
        answer = connection.start("Describe", request, service.DescribeResponse.FromString)
        if not buffer.watch(answer):
            answer.cancel()
            return False
        try:
            known.note(answer.wait())
        except errors.Error as error:
            if not buffer.closed:
                attempts.failed(answer.link, error, buffer.pause)
            if buffer.closed:
                return False
        else:
            attempts.succeeded()
            return True


def _pump_stream(connection: Connection, shard: Batches, buffer: Buffer) -> None:
    world_size, position = shard.stride, shard.first
    request = service.StreamRequest(
        stream=shard.spec,
        shard=service.Shard(rank=position % world_size, world_size=world_size),
        count=shard.count,
        batch_size=shard.batch_size,
        provenance=shard.provenance,
    )
    remaining = shard.count
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
