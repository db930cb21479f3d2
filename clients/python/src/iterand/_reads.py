"""Batches of a shard that are read one by one, several at a time ahead of the consumer.

This is how workers read, which take every K-th batch, and readers whose world size does not divide the recipe's lanes.
The server keeps segments in its cache, so readers that keep step have each made once.
"""

from __future__ import annotations

from dataclasses import dataclass

from iterand import errors
from iterand._batch import Batch
from iterand._buffer import Buffer
from iterand._connection import Answer, Attempts, Connection
from iterand._wire import decode_batch
from iterand.v1 import noise_service_pb2 as service

_MOST_CALLS = 4  # of one reader in progress, since a server allows a limited number


@dataclass(frozen=True)
class Batches:
    """The batches 0, every, ... of the rows first, first + stride, ... of a stream, `count` of them or all."""

    spec: service.StreamSpec
    first: int
    stride: int
    count: int | None
    batch_size: int
    every: int
    provenance: bool

    def request(self, number: int, fingerprint: bytes | None) -> service.ReadRequest | None:
        """For the batch `number` * every; None beyond the end. `fingerprint`: what to demand, if it is known."""
        row = number * self.every * self.batch_size
        index = self.first + row * self.stride
        rows = min(self.batch_size, (2**64 - 1 - index) // self.stride + 1)
        if self.count is not None:
            rows = min(rows, self.count - row)
        if rows <= 0:
            return None
        request = service.ReadRequest(
            stream=self.spec, first_index=index, stride=self.stride, rows=rows, provenance=self.provenance
        )
        if fingerprint is not None:
            request.stream.expected_fingerprint = fingerprint
        return request


class _Window:
    """The calls in progress, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[Answer[bytes], service.ReadRequest]] = []

    def cancel(self) -> None:
        for answer, _ in tuple(self.calls):
            answer.cancel()


def pump_reads(connection: Connection, shard: Batches, prefetch: int, buffer: Buffer) -> None:
    """Reads batches into the buffer until the end or the buffer's closing. Errors: any `iterand.Error`."""
    calls = min(prefetch, _MOST_CALLS)
    buffer.narrow(max(1, prefetch - calls))
    attempts, window = Attempts(connection), _Window()
    fingerprint = shard.spec.expected_fingerprint or None
    done = 0
    while True:
        # Until the fingerprint is known, two calls could reach servers of two versions.
        most = calls if fingerprint is not None else 1
        while len(window.calls) < most:
            request = shard.request(done + len(window.calls), fingerprint)
            if request is None:
                break
            window.calls.append((connection.start("Read", request, bytes), request))
        if not window.calls:
            return buffer.put(None)
        if not buffer.watch(window):
            return window.cancel()
        answer, request = window.calls[0]
        try:
            batch = decode_batch(answer.wait())
            _check(batch, request)
        except errors.Error as error:
            window.cancel()
            window.calls.clear()
            if buffer.closed:
                return None
            attempts.failed(answer.link, error, buffer.pause)
            if buffer.closed:
                return None
            continue
        attempts.succeeded()
        fingerprint = batch.fingerprint
        done += 1
        del window.calls[0]
        buffer.put(batch)


def _check(batch: Batch, request: service.ReadRequest) -> None:
    found = (batch.first_index, batch.stride, batch.rows)
    expected = (request.first_index, request.stride, request.rows)
    if found != expected:
        raise errors.ProtocolError(f"batch has first index, stride and rows {found}, expected {expected}")
