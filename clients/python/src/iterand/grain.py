"""Streams for Grain, the data loader of JAX.

    source = StreamSource("up", length=512, count=1_000_000)  # random access: Grain shards and checkpoints
    loader = grain.MapDataset.source(source).batch(64).to_iter_dataset()

    loader = StreamIterDataset("up", length=512, batch_size=64)  # in order, endless, at the stream's rate
    iterator = iter(loader)
    state = iterator.get_state()  # plain data; set_state continues from it in constant time

Elements are dicts: "tokens" and, if the stream has loss masks, "loss_mask".
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from iterand import _checkpoint, _extras, api, errors
from iterand._batch import Batch
from iterand._index_dataset import IndexDataset, Item, cast_tokens, integer_dtype
from iterand._requests import RecipeLike, check_prefetch, check_range, check_spec, recipe_text

try:
    import grain
except ImportError as error:
    raise _extras.missing("iterand.grain", "grain", "grain", error) from error

if TYPE_CHECKING:
    from iterand._connection_options import Retry, Tls
    from iterand._server import Server
    from iterand._stream import Stream

__all__ = ["StreamIterDataset", "StreamIterator", "StreamSource"]

# Rows that are taken from the stream at once where the elements are single sequences.
_ROWS = 256


class StreamSource(IndexDataset):
    """An `iterand.IndexDataset` as a `grain.sources.RandomAccessDataSource`, for MapDataset.source and DataLoader.

    batch_size: rows of an element, which is then a batch; the last one may have fewer. None: each element is one
        sequence. Grain spends about 15 microseconds per element, more than most streams need per sequence.
    The other arguments are those of `iterand.IndexDataset`. The source's repr names the stream and the range, so that
    Grain refuses a checkpoint of another.

    >>> import grain
    >>> from iterand.grain import StreamSource
    >>> source = StreamSource("up", length=128, count=1000)
    >>> loader = grain.MapDataset.source(source).batch(64).to_iter_dataset()
    >>> next(iter(loader))["tokens"].shape
    (64, 128)
    """

    def __init__(self, recipe: RecipeLike = "up", *, count: int, batch_size: int | None = None, **options: Any) -> None:
        if batch_size is not None:
            check_range("batch_size", batch_size, 1, 2**31 - 1)
        super().__init__(recipe, count=count, **options)
        self._batch_size = None if batch_size is None else int(batch_size)

    def __len__(self) -> int:
        rows = super().__len__()
        return rows if self._batch_size is None else -(-rows // self._batch_size)

    def __getitem__(self, index: Any) -> Item:
        if self._batch_size is None:
            return super().__getitem__(index)
        if not 0 <= index < len(self):
            raise errors.OutOfRange(f"index is {index}; the source has {len(self)} batches")
        first = int(index) * self._batch_size
        return self.batch(range(first, min(first + self._batch_size, super().__len__())))

    def __repr__(self) -> str:
        batches = "" if self._batch_size is None else f" of batches of {self._batch_size}"
        return f"{super().__repr__()}{batches}"

    def _getitems(self, indices: Sequence[int]) -> list[Item]:
        """Elements of many indices, by which Grain may read."""
        return self.__getitems__(indices) if self._batch_size is None else [self[index] for index in indices]


class StreamIterDataset(grain.IterDataset):
    """A stream in order, as a `grain.IterDataset` whose iterators save and resume in constant time.

    batch_size: rows of an element, which is then a batch; None: each element is one sequence.
    rank, world_size: as of `iterand.stream`; a state continues with any of them.
    count: how many sequences this reader gives; None: endless.
    dtype: of the tokens; None: the smallest that the vocabulary fits.
    The other arguments are those of `iterand.stream`.

    Grain's `mp_prefetch` deals out the rows to its workers in turn, so each worker makes a part of the stream. The
    sequences are made on threads of C++, so workers are rarely of use.

    >>> from iterand.grain import StreamIterDataset
    >>> next(iter(StreamIterDataset("up", length=128, batch_size=64)))["tokens"].shape
    (64, 128)
    """

    def __init__(
        self,
        recipe: RecipeLike = "up",
        *,
        batch_size: int | None = None,
        seed: int = 0,
        length: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        count: int | None = None,
        loss_mask: bool = False,
        dtype: npt.DTypeLike | None = None,
        expected_fingerprint: bytes | None = None,
        server: str | Sequence[str] | Server | Literal[False] | None = None,
        prefetch: int = 8,
        tls: Tls | bool = False,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        retry: Retry | None = None,
    ) -> None:
        super().__init__()
        check_spec(seed, length, expected_fingerprint, loss_mask)
        check_range("world_size", world_size, 1, 2**32 - 1)
        check_range("rank", rank, 0, world_size - 1)
        check_range("start", start, 0, 2**64 - 1)
        if batch_size is not None:
            check_range("batch_size", batch_size, 1, 2**31 - 1)
        if count is not None:
            check_range("count", count, 0, 2**64 - 1)
        check_prefetch(prefetch)
        addresses = api.addresses(server, tls=tls or None, token=token, token_file=token_file, retry=retry)
        preset, text = recipe_text(recipe)
        self._batch_size = None if batch_size is None else int(batch_size)
        self._rank, self._world_size = int(rank), int(world_size)
        self._start = int(start)
        self._end = None if count is None else self._start + int(count) * self._world_size
        self._dtype = None if dtype is None else integer_dtype(dtype)
        self._name = _checkpoint.Name.of(preset, text, seed, length, loss_mask)
        self._stream: dict[str, Any] = {
            "recipe": preset if text is None else text,
            "seed": int(seed),
            "length": None if length is None else int(length),
            "loss_mask": bool(loss_mask),
            "server": addresses or False,
            "tls": tls,
            "token": token,
            "token_file": token_file,
            "retry": retry,
        }
        self._prefetch = int(prefetch)
        self._fingerprint = expected_fingerprint
        if addresses is None:  # wrong arguments raise here
            with api.stream(**self._stream, expected_fingerprint=expected_fingerprint, count=0) as stream:
                self._fingerprint = stream.fingerprint

    def __iter__(self) -> StreamIterator:
        return StreamIterator(self)

    def __str__(self) -> str:
        batches = "" if self._batch_size is None else f", batch_size={self._batch_size}"
        return f"StreamIterDataset({self._name}{batches}, reader {self._rank} of {self._world_size})"

    def set_slice(self, sl: slice, sequential_slice: bool = False) -> None:
        """Keeps every `sl.step`-th row of this reader from row `sl.start` on: one worker's share, for mp_prefetch."""
        if sequential_slice:
            raise errors.InvalidArgument(
                "sequential_slice is True; a stream without an end has no first and last part: it must be False"
            )
        check_range("slice's step", sl.step or 1, 1, 2**32 - 1)
        check_range("slice's start", sl.start or 0, 0, (sl.step or 1) - 1)
        self._rank += self._world_size * (sl.start or 0)
        self._world_size *= sl.step or 1

    def _open(self, position: int, fingerprint: bytes | None) -> Stream | None:
        """None if no row of this reader follows."""
        first = position + self._rank
        left = None if self._end is None else max(0, -((first - self._end) // self._world_size))
        if first >= 2**64 or left == 0:
            return None
        return api.stream(
            **self._stream,
            batch_size=self._batch_size or _ROWS,
            rank=self._rank,
            world_size=self._world_size,
            start=position,
            count=left,
            prefetch=self._prefetch,
            expected_fingerprint=fingerprint,
        )

    def _resolve(self) -> tuple[bytes, int]:
        found = api.describe(**self._stream)
        assert found.stream is not None
        return found.stream.fingerprint, found.engine_version


class StreamIterator(grain.DatasetIterator):
    """An iterator of a StreamIterDataset. It opens the stream when the first element is asked for.

    Its state is that of an `iterand.Stream`: the two may be exchanged.

    >>> from iterand.grain import StreamIterDataset
    >>> iterator = iter(StreamIterDataset("up", length=128, batch_size=64))
    >>> batch, state = next(iterator), iterator.get_state()
    >>> iterator.set_state(state | {"next_index": 0})
    >>> bool((next(iterator)["tokens"] == batch["tokens"]).all())
    True
    >>> iterator.close()
    """

    def __init__(self, dataset: StreamIterDataset) -> None:
        super().__init__()
        self._dataset = dataset
        self._fingerprint = dataset._fingerprint
        self._stream: Stream | None = None
        self._batch: Batch | None = None  # where elements are single rows: the batch in work, and its next row
        self._row = 0
        self._position = dataset._start

    def __iter__(self) -> StreamIterator:
        return self

    def __next__(self) -> Item:
        self._assert_not_closed()
        dataset = self._dataset
        if dataset._batch_size is not None:
            batch = self._next_batch()
            self._position = batch.first_index - dataset._rank + batch.rows * dataset._world_size
            return self._item(batch.tokens, batch.loss_mask)
        if self._batch is None or self._row == self._batch.rows:
            self._batch, self._row = self._next_batch(), 0
        row, self._row = self._row, self._row + 1
        self._position = self._batch.first_index - dataset._rank + self._row * dataset._world_size
        masks = self._batch.loss_mask
        return self._item(self._batch.tokens[row], None if masks is None else masks[row])

    def _next_batch(self) -> Batch:
        if self._stream is None:
            self._stream = self._dataset._open(self._position, self._fingerprint)
        if self._stream is None:
            raise StopIteration
        try:
            batch = self._stream.next_batch()
        except (StopIteration, KeyboardInterrupt):
            raise
        except BaseException:
            self._drop()  # the next call begins at the same place
            raise
        self._fingerprint = batch.fingerprint
        return batch

    def _item(self, tokens: npt.NDArray[Any], loss_mask: npt.NDArray[np.bool_] | None) -> Item:
        item: Item = {"tokens": cast_tokens(tokens, self._dataset._dtype)}
        if loss_mask is not None:
            item["loss_mask"] = loss_mask
        return item

    def get_state(self) -> dict[str, Any]:
        return _checkpoint.to_dict(self._dataset._name, self._fingerprint, self._position)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Errors: InvalidArgument if it is not a state; FingerprintMismatch if it is of another stream."""
        position, fingerprint = _checkpoint.check(state, self._dataset._name, self._fingerprint, self._dataset._resolve)
        self._drop()
        self._position, self._fingerprint = position, fingerprint

    def close(self) -> None:
        super().close()
        self._drop()

    def _drop(self) -> None:
        stream, self._stream = self._stream, None
        self._batch = None
        if stream is not None:
            stream.close()

    def __str__(self) -> str:
        return f"StreamIterator({self._dataset._name}, at index {self._position})"
