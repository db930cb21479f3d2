"""A stream of batches, from this process or from a server.

The position in a stream is one number, the index of the first row of the next global batch. A global batch has
batch_size * world_size rows, batch_size for each reader: with its first row at index p, reader `rank` takes the rows
p + rank, p + rank + world_size, ... So the position is enough to continue from there, with any batch size, as any
reader of any world size.

A worker of a loader takes every K-th global batch only. Its position moves by K global batches at a time.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

from iterand import _checkpoint, errors
from iterand._batch import Batch, Tokens
from iterand._requests import Shard, check_range


class Source(Protocol):
    """Batches in order, from one index on."""

    def next(self) -> Batch | None:
        """Waits for the next batch; None at the end. Errors: any `iterand.Error`."""

    def close(self) -> None: ...


class Road(Protocol):
    """Where a stream comes from."""

    @property
    def place(self) -> str:
        """For people: a server's address."""

    @property
    def fingerprint(self) -> bytes | None:
        """None until it is known."""

    def expect(self, fingerprint: bytes) -> None:
        """Refuse any other stream from now on (FingerprintMismatch)."""

    def resolve(self) -> tuple[bytes, int]:
        """Fingerprint and engine version; requests them if necessary."""

    def open(self, first: int, stride: int, count: int | None, batch_size: int, every: int) -> Source:
        """Batches of the `count` rows first, first + stride, ... (None: all there are): the batches 0, every, ..."""

    def read(self, indices: Sequence[int]) -> Batch: ...

    def check_process(self) -> None:
        """Errors: ForkedProcess if the road cannot be used in this process."""

    def close(self) -> None: ...


class Stream(Iterator[Tokens]):
    """A stream's rows for one reader, in order: iterates over arrays of up to `batch_size` rows x `length` tokens.

    Arrays are of dtype uint8, uint16 or uint32, whichever is the smallest for the vocabulary, and may be written to.
    One that was made in this process shares memory with those made just before and after it, which stays as long as one
    of them does: copy what is to be kept for long. Use a stream in a `with` statement, or call `close`, to leave before
    the end; a stream that is dropped closes itself. One thread at a time may iterate.

    >>> with iterand.stream("up", length=128, batch_size=4) as stream:
    ...     first, second = next(stream), stream.next_batch()
    ...     state = stream.state_dict()  # plain data: {"next_index": 8, ...}
    >>> again = iterand.stream("up", length=128, batch_size=2, rank=1, world_size=2)
    >>> again.rank, again.world_size
    (1, 2)
    >>> again.load_state_dict(state)
    >>> next(again.batches()).first_index, again.next_index  # row 1 of the next global batch, which has 4 rows
    (9, 12)
    >>> again.seek(4)
    >>> bool((next(again)[0] == second.tokens[1]).all())
    True
    >>> again.read(range(3)).shape, again.read_batch([5, 3]).rows  # the position stays
    ((3, 128), 2)
    """

    def __init__(self, road: Road, name: _checkpoint.Name, shard: Shard) -> None:
        self._road = road
        self._name = name
        self._batch_size = int(shard.batch_size)
        self._rank = int(shard.rank)
        self._world_size = int(shard.world_size)
        self._every = int(shard.every)
        self._end = None if shard.count is None else int(shard.start) + int(shard.count) * self._world_size
        self._next_index = int(shard.start)
        self._fingerprint = road.fingerprint
        self._begun = False  # a batch was taken
        self._finished = False
        self._closed = False
        self._latest: Tokens | None = None  # some of the rows that were taken last, for notebooks
        self.waited = 0.0  # seconds that the consumer spent waiting for data
        self._source: Source | None = self._open()

    def _open(self) -> Source:
        """Opens a source from the position on."""
        first = self._next_index + self._rank
        if first >= 2**64:
            raise errors.OutOfRange(
                f"start is {self._next_index}: reader {self._rank} of {self._world_size} has no index from there to "
                "2^64 - 1"
            )
        left = None if self._end is None else max(0, -((first - self._end) // self._world_size))
        return self._road.open(first, self._world_size, left, self._batch_size, self._every)

    @property
    def next_index(self) -> int:
        """The position: the index of the first row of the next global batch. `start=stream.next_index` of a new stream,
        with any batch size and any world size, continues where this one is.
        """
        return self._next_index

    @property
    def rank(self) -> int:
        return self._rank

    @property
    def world_size(self) -> int:
        return self._world_size

    @property
    def fingerprint(self) -> bytes | None:
        """32 bytes that name the stream; None before the first batch from a server."""
        return self._fingerprint

    def next_batch(self) -> Batch:
        """The next batch with its indices and provenance. Errors: StopIteration at the end, or any `iterand.Error`."""
        self._road.check_process()
        while not (self._finished or self._closed):
            batch = self._take()
            if batch is None:
                if self._at_end() or self._closed:
                    self._finished = True
                self._close_source()
            elif batch.first_index != self._next_index + self._rank:
                self._close_source()  # Ctrl-C came before the last batch reached its caller: that one is due again
            else:
                others = (self._every - 1) * self._batch_size
                after = self._next_index + (len(batch.tokens) + others) * self._world_size
                self._begun = True
                self._fingerprint = batch.fingerprint
                self._keep(batch.tokens)
                self._next_index = after  # nothing after it can be interrupted
                return batch
        raise StopIteration

    def _keep(self, tokens: Tokens) -> None:
        """Copies some rows, since the caller may write to the batch; into one array, which spares the allocator."""
        rows = tokens[:16, :1024]
        if self._latest is None or self._latest.shape != rows.shape:
            self._latest = rows.copy()
        else:
            self._latest[:] = rows

    def _take(self) -> Batch | None:
        if self._source is None:
            self._source = self._open()
        begin = time.perf_counter()
        try:
            return self._source.next()
        except errors.ConcurrentUse:
            raise
        except Exception:
            self.close()
            raise
        finally:
            self.waited += time.perf_counter() - begin

    def _at_end(self) -> bool:
        first = self._next_index + self._rank
        return first >= 2**64 or (self._end is not None and first >= self._end)

    def batches(self) -> Iterator[Batch]:
        """The batches themselves, with masks, indices and provenance."""
        while True:
            try:
                yield self.next_batch()
            except StopIteration:
                return

    def read(self, indices: int | Sequence[int]) -> Tokens:
        """Random access: the sequences of any indices, in the order given, as an array of len(indices) x length tokens.

        indices: one index, a range, or a sequence or array of them. The position stays where it is.
        """
        return self.read_batch(indices).tokens

    def read_batch(self, indices: int | Sequence[int]) -> Batch:
        """Like `read`, with loss mask and, if the stream has it, provenance. `stride` is 0 if the indices have none."""
        self._road.check_process()
        if self._closed:
            raise errors.Cancelled("the stream is closed")
        return self._road.read(checked_indices(indices))

    def seek(self, index: int) -> None:
        """Moves to a position: the next global batch begins at `index`. `count` rows still end where they did."""
        check_range("index", index, 0, 2**64 - 1)
        if self._closed:
            raise errors.Cancelled("the stream is closed")
        self._close_source()
        self._next_index = int(index)
        self._finished = False

    def state_dict(self) -> dict[str, Any]:
        """Which stream this is, and the position in it, as plain data that JSON can hold."""
        return _checkpoint.to_dict(self._name, self._fingerprint, self._next_index)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from a state of a stream with any batch size, rank and world size, in any process.

        Errors: InvalidArgument if it is not a state or iteration has begun; FingerprintMismatch if it is of another
        recipe, seed or engine version, with what differs.
        """
        if self._begun:
            raise errors.InvalidArgument(
                "load_state_dict was called after iteration had begun; call it on a new stream, or use seek"
            )
        next_index, fingerprint = _checkpoint.check(state, self._name, self._fingerprint, self._road.resolve)
        self.seek(next_index)
        if fingerprint is not None:
            self._fingerprint = fingerprint
            self._road.expect(fingerprint)

    def __repr__(self) -> str:
        state = ", closed" if self._closed else ", ended" if self._finished else ""
        shard = f", reader {self._rank} of {self._world_size}" if self._world_size > 1 else ""
        return f"<Stream of {self._name}{shard}, at index {self._next_index}, from {self._road.place}{state}>"

    def _repr_html_(self) -> str:
        from iterand import _notebook

        return _notebook.of_stream(self)

    def __next__(self) -> Tokens:
        return self.next_batch().tokens

    def __iter__(self) -> Stream:
        return self

    def close(self) -> None:
        """Ends the stream: nothing more is made for it. Does nothing to a server's stream in a forked process."""
        self._closed = True
        self._close_source()
        self._road.close()

    def _close_source(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def checked_indices(indices: int | Sequence[int]) -> Sequence[int]:
    """The indices as a sequence. Errors: InvalidArgument for anything but indices."""
    if isinstance(indices, range):
        if len(indices) > 0:
            check_range("indices", min(indices[0], indices[-1]), 0, 2**64 - 1)
            check_range("indices", max(indices[0], indices[-1]), 0, 2**64 - 1)
        return indices
    try:
        return [_checked_index(operator.index(indices))]  # type: ignore[arg-type]
    except TypeError:
        pass
    try:
        return [_checked_index(operator.index(index)) for index in indices]  # type: ignore[union-attr]
    except TypeError as error:
        raise errors.InvalidArgument(
            f"indices is {indices!r}; it must be an index, a range or a sequence of indices"
        ) from error


def _checked_index(index: int) -> int:
    check_range("indices", index, 0, 2**64 - 1)
    return index
