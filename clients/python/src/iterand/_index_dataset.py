"""A range of a stream as a map-style data set: `len` and `[]`.

Any index can be read, but a segment is made as a whole (48 sequences by default). So a block of rows is kept, and the
order of the reads decides what is made. Reads that move forward have whole blocks made ahead of them, as a stream does.
Any other read makes the one segment that it needs.
"""

from __future__ import annotations

import operator
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt

from iterand import _checkpoint, api, errors
from iterand._batch import Batch, LossMask
from iterand._requests import RecipeLike, check_range, check_spec, recipe_text

if TYPE_CHECKING:
    from iterand._connection_options import Retry, Tls
    from iterand._description import StreamInfo
    from iterand._server import Server
    from iterand._stream import Stream

Item = dict[str, npt.NDArray[Any]]

# Bytes of the tokens of a block of rows that follow one another.
_LEAST_BLOCK, _MOST_BLOCK = 256 << 10, 16 << 20


class IndexDataset:
    """The sequences `start` to `start + count - 1` of a stream, as a data set with `len` and `[]`.

    Item i is a dict: "tokens", the `length` tokens of index `start + i`, and "loss_mask" if the stream has loss masks.
    Items are copies and may be written to. They suit torch's DataLoader (map style), Grain, and `iterand.mix`.

    `dataset[[4, 5, 6]]` is a batch: the items of a list of indices as one, arrays with a row each. A DataLoader with
    `batch_size=None` and a BatchSampler as its sampler reads such batches, which spares the time to stack rows.

    Order. Reads in order reach most of a stream's rate. Reads in random order make a whole segment each (48 sequences
    by default), unless it is still in the cache. The sequences of a segment are in random order already, so shuffling
    costs much and gives little. Endless pools have no random access: read them in order.

    count: sequences of the data set.
    dtype: of the tokens; None: the smallest that the vocabulary fits, as of `iterand.stream`.
    cache_bytes: tokens that are kept, at least one block or segment.
    The other arguments are those of `iterand.stream`. Threads may share a data set; a copy in another process makes
    its own sequences. In this process, wrong arguments raise at once; those of a server's stream at the first read.

    >>> dataset = iterand.IndexDataset("up", length=128, count=1000)
    >>> len(dataset), dataset[999]["tokens"].shape, dataset.batch([4, 5, 6])["tokens"].shape
    (1000, (128,), (3, 128))
    >>> dataset.close()
    """

    def __init__(
        self,
        recipe: RecipeLike = "up",
        *,
        count: int,
        seed: int = 0,
        length: int | None = None,
        start: int = 0,
        loss_mask: bool = False,
        dtype: npt.DTypeLike | None = None,
        cache_bytes: int = 64 << 20,
        expected_fingerprint: bytes | None = None,
        server: str | Sequence[str] | Server | Literal[False] | None = None,
        tls: Tls | bool = False,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        retry: Retry | None = None,
    ) -> None:
        check_spec(seed, length, expected_fingerprint, loss_mask)
        check_range("count", count, 0, 2**63 - 1)
        check_range("start", start, 0, 2**64 - 1)
        check_range("cache_bytes", cache_bytes, 0, 2**63 - 1)
        if start + count > 2**64:
            raise errors.InvalidArgument(
                f"start is {start} and count {count}: the last index would be {start + count - 1}; it must be at most "
                "2^64 - 1"
            )
        addresses = api.addresses(server, tls=tls or None, token=token, token_file=token_file, retry=retry)
        preset, text = recipe_text(recipe)
        self._dtype = None if dtype is None else integer_dtype(dtype)
        self._start, self._count = int(start), int(count)
        self._cache_bytes = int(cache_bytes)
        self._stream: dict[str, Any] = {
            "recipe": preset if text is None else text,
            "seed": int(seed),
            "length": None if length is None else int(length),
            "loss_mask": bool(loss_mask),
            "expected_fingerprint": expected_fingerprint,
            "server": addresses or False,
            "tls": tls,
            "token": token,
            "token_file": token_file,
            "retry": retry,
        }
        self._name = _checkpoint.Name.of(preset, text, seed, length, loss_mask)
        self._blocks: _Blocks | None = None
        if addresses is None:
            with api.stream(**self._stream, count=0) as stream:
                self._stream["expected_fingerprint"] = stream.fingerprint
            self._open()

    @property
    def fingerprint(self) -> bytes | None:
        """32 bytes that name the stream; None if it is a server's and none was expected."""
        found: bytes | None = self._stream["expected_fingerprint"]
        return found

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        """The same in every process, and another for every other stream or range: Grain compares it on restore."""
        recipe = self._name.recipe
        parts = [repr(recipe if len(recipe) <= 60 else f"{recipe[:57]}..."), f"seed={self._name.seed}"]
        parts += [] if self._name.length is None else [f"length={self._name.length}"]
        parts += [f"start={self._start}", f"count={self._count}"]
        parts += ["loss_mask=True"] if self._name.loss_mask else []
        parts += [] if self._dtype is None else [f"dtype={self._dtype}"]
        parts += [] if self.fingerprint is None else [f"fingerprint={self.fingerprint.hex()[:16]}"]
        return f"{type(self).__name__}({', '.join(parts)})"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_blocks": None}  # a copy opens the stream for itself

    def __iter__(self) -> Iterator[Item]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: SupportsIndex | Sequence[SupportsIndex]) -> Item:
        """The item of an index, or the items of a list of indices as one (`batch`).

        Errors: OutOfRange, an IndexError; InvalidArgument for what is not an index; those of the stream.
        """
        if isinstance(index, list):
            return self.batch(index)
        place = index if type(index) is int and 0 <= index < self._count else self._checked(index)
        block, row = (self._blocks or self._open()).find(self._start + place)
        item = {"tokens": block.tokens[row].astype(self._dtype or block.tokens.dtype)}
        if block.loss_mask is not None:
            item["loss_mask"] = block.loss_mask[row].copy()
        return item

    def __getitems__(self, indices: Sequence[SupportsIndex]) -> list[Item]:
        """The items of many indices, in their order; torch's DataLoader calls it."""
        batch = self.batch(indices)
        if len(batch) == 1:
            return [{"tokens": row} for row in batch["tokens"]]
        return [
            {"tokens": row, "loss_mask": mask} for row, mask in zip(batch["tokens"], batch["loss_mask"], strict=True)
        ]

    def batch(self, indices: Sequence[SupportsIndex]) -> Item:
        """The items of many indices as one: arrays of len(indices) x length."""
        blocks = self._blocks or self._open()
        wanted = self._wanted(indices)
        found: list[tuple[_Block, int, int]] = []  # block, first and last row + 1
        at = 0
        while at < len(wanted):
            block, row = blocks.find(wanted[at])
            rows = 1
            if block.step == 1:  # as many as follow one another, or one
                most = min(len(wanted) - at, len(block.tokens) - row)
                first, last = wanted[at], wanted[at + most - 1]
                if last - first == most - 1 and wanted[at : at + most] == list(range(first, last + 1)):
                    rows = most
            found.append((block, row, row + rows))
            at += rows
        if not found:
            return blocks.none()
        tokens = [block.tokens[low:high] for block, low, high in found]
        item = {"tokens": np.concatenate(tokens, dtype=self._dtype or tokens[0].dtype, casting="unsafe")}
        masks = [block.loss_mask[low:high] for block, low, high in found if block.loss_mask is not None]
        if masks:
            item["loss_mask"] = np.concatenate(masks)
        return item

    def close(self) -> None:
        """Frees the cache and ends what is made ahead. The next read opens the stream again."""
        blocks, self._blocks = self._blocks, None
        if blocks is not None:
            blocks.close()

    def _wanted(self, indices: Sequence[SupportsIndex]) -> list[int]:
        """Indices of the stream."""
        try:
            places = list(map(operator.index, indices))
        except TypeError:
            places = []
        if not places or min(places) < 0 or max(places) >= self._count:
            places = [self._checked(index) for index in indices]
        start = self._start
        return [start + place for place in places]

    def _checked(self, index: Any) -> int:
        try:
            place = operator.index(index)
        except TypeError as error:
            raise errors.InvalidArgument(
                f"index is {index!r}, a {type(index).__name__}; it must be a whole number, or a list of them"
            ) from error
        if not -self._count <= place < self._count:
            raise errors.OutOfRange(f"index is {place}; the data set has {self._count} sequences")
        return place + self._count if place < 0 else place

    def _open(self) -> _Blocks:
        self._blocks = _Blocks(self._stream, self._start + self._count, self._dtype, self._cache_bytes)
        return self._blocks


class _Block(NamedTuple):
    """Rows with the indices first, first + step, ..."""

    first: int
    step: int
    tokens: npt.NDArray[Any]
    loss_mask: LossMask | None


class _Blocks:
    """Blocks and segments of a stream up to the index `end`, of which the most recently used are kept. Thread-safe."""

    def __init__(self, stream: dict[str, Any], end: int, dtype: np.dtype[Any] | None, cache_bytes: int) -> None:
        self._arguments = stream
        self._end = end
        self._dtype = dtype
        self._cache_bytes = cache_bytes
        self._last = _Block(0, 1, np.empty((0, 0), np.uint8), None)  # its rows follow one another
        self._begin()

    def _begin(self) -> None:
        """Also in a forked process: the lock may have been held when it was made."""
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, ...], _Block] = OrderedDict()
        self._bytes = 0
        self._missed: int | None = None
        self._info: StreamInfo | None = None
        self._random: Stream | None = None  # for single segments
        self._ahead: Stream | None = None  # makes blocks before they are read

    def find(self, index: int) -> tuple[_Block, int]:
        """The block or segment that has the sequence `index`, and its row there."""
        last = self._last
        row = index - last.first
        if 0 <= row < len(last.tokens):
            return last, row
        if self._process != os.getpid():
            self._begin()
        with self._lock:
            return self._find(index)

    def _find(self, index: int) -> tuple[_Block, int]:
        info = self._describe()
        block = self._get((index // self._block_rows,))
        if block is not None:
            self._last = block
            return block, index - block.first
        lane, place = index % info.lanes, index // info.lanes
        segment, row = divmod(place, self._segment_rows)
        found = None if self._in_order else self._get((lane, segment))
        if found is not None:
            return found, row
        # Reads that move forward by less than a block: one reader, or several that share a range.
        forward = self._missed is not None and 0 <= index - self._missed <= self._block_rows
        self._missed = index
        if forward or self._in_order:
            block = self._read_block(index // self._block_rows)
            self._last = block
            return block, index - block.first
        return self._read_segment(lane, segment), row

    def _describe(self) -> StreamInfo:
        if self._info is None:
            names = ("recipe", "seed", "length", "loss_mask", "server", "tls", "token", "token_file", "retry")
            info = api.describe(**{name: self._arguments[name] for name in names}).stream
            if info is None:
                raise errors.ProtocolError("the server described no stream")
            self._segment_rows = int(info.recipe["segment_sequences"])
            # A pool's rows before an index have to be made to reach it.
            self._in_order = bool(info.recipe.get("pool", {}).get("endless", False))
            stripe = info.lanes * self._segment_rows
            row_bytes = info.length * np.dtype(info.dtype).itemsize
            rows = min(max(stripe, _LEAST_BLOCK // row_bytes // stripe * stripe), max(1, _MOST_BLOCK // row_bytes))
            self._block_rows = min(rows, info.max_batch_size or rows)
            self._info = info
        return self._info

    def _read_block(self, number: int) -> _Block:
        first = number * self._block_rows
        if self._ahead is None or self._ahead.next_index != first:
            self._stop_ahead()
            self._ahead = api.stream(
                **self._arguments, start=first, count=self._end - first, batch_size=self._block_rows
            )
        try:
            batch = self._ahead.next_batch()
        except StopIteration:
            raise errors.ProtocolError(f"the stream ended before index {first}") from None
        except BaseException:
            self._stop_ahead()
            raise
        return self._keep((number,), self._block(batch, first, 1))

    def _read_segment(self, lane: int, segment: int) -> _Block:
        assert self._info is not None
        lanes = self._info.lanes
        first = lane + lanes * segment * self._segment_rows
        if self._random is None:
            self._random = api.stream(**self._arguments, count=0)
        batch = self._random.read_batch(range(first, min(first + lanes * self._segment_rows, 2**64), lanes))
        return self._keep((lane, segment), self._block(batch, first, lanes))

    def _block(self, batch: Batch, first: int, step: int) -> _Block:
        if self._dtype is not None:
            refuse_wide(batch.tokens, self._dtype)
        return _Block(first, step, batch.tokens, batch.loss_mask)

    def none(self) -> Item:
        """A batch of no rows."""
        with self._lock:
            info = self._describe()
        item: Item = {"tokens": np.empty((0, info.length), self._dtype or info.dtype)}
        if info.recipe.get("loss_mask"):
            item["loss_mask"] = np.empty((0, info.length), np.bool_)
        return item

    def _get(self, key: tuple[int, ...]) -> _Block | None:
        block = self._kept.get(key)
        if block is not None:
            self._kept.move_to_end(key)
        return block

    def _keep(self, key: tuple[int, ...], block: _Block) -> _Block:
        self._kept[key] = block
        self._bytes += block.tokens.nbytes
        while self._bytes > self._cache_bytes and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.tokens.nbytes
        return block

    def _stop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.close()

    def close(self) -> None:
        if self._process == os.getpid():
            self._stop_ahead()
            if self._random is not None:
                self._random.close()


def integer_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Errors: InvalidArgument unless `dtype` names a type of whole numbers."""
    try:
        found = np.dtype(dtype)
    except TypeError as error:
        raise errors.InvalidArgument(f"dtype is {dtype!r}; it must be a dtype of numpy, such as 'int64'") from error
    if found.kind not in "iu":
        raise errors.InvalidArgument(f"dtype is {found}; it must be one of whole numbers, such as 'int64'")
    return found


def refuse_wide(tokens: npt.NDArray[Any], dtype: np.dtype[Any]) -> None:
    """Errors: InvalidArgument if one of the tokens does not fit into `dtype`."""
    if np.can_cast(tokens.dtype, dtype) or not tokens.size:
        return
    low, high, limits = int(tokens.min()), int(tokens.max()), np.iinfo(dtype)
    if low < limits.min or high > limits.max:
        raise errors.InvalidArgument(
            f"dtype is {dtype}, which holds numbers from {limits.min} to {limits.max}; the tokens are from {low} to "
            f"{high}: use a wider one"
        )


def cast_tokens(tokens: npt.NDArray[Any], dtype: np.dtype[Any] | None) -> npt.NDArray[Any]:
    """The tokens as `dtype`; as they are if it is None. Errors: as `refuse_wide`."""
    if dtype is None:
        return tokens
    refuse_wide(tokens, dtype)
    return tokens.astype(dtype, copy=False)
