"""Where the rows of a mix come from: streams, data sets with indices, and iterables that can be saved.

A source hands out rows that follow one another, and counts only those that were used. So what a batch read before it
failed is read again, or kept for the next attempt, and nothing is lost.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from iterand import errors
from iterand._batch import Batch
from iterand._requests import check_range
from iterand._stream import Stream


class Row(NamedTuple):
    tokens: npt.NDArray[Any]
    loss_mask: npt.NDArray[np.bool_] | None
    place: str  # for errors


class Rows(NamedTuple):
    tokens: npt.NDArray[Any]  # rows x length
    loss_mask: npt.NDArray[np.bool_] | None
    place: str  # of the first row


class Source(Protocol):
    def peek(self, rows: int) -> Rows | None:
        """The next `rows` rows; fewer only at the end. None if there are none, or 0 are asked for."""

    def advance(self, rows: int) -> None:
        """Marks the first `rows` of those that were peeked as used."""

    def state(self) -> dict[str, Any]: ...

    def load(self, state: Mapping[str, Any]) -> None: ...


def source_of(name: str, data: Any, repeat: bool, rank: int, world_size: int) -> Source:
    """Errors: InvalidArgument for what no source can be made of."""
    if isinstance(data, Stream):
        return StreamSource(name, data, rank, world_size)
    if isinstance(data, str | bytes | Mapping):
        raise errors.InvalidArgument(
            f"{name} is a {type(data).__name__}; it must be a stream, such as iterand.stream(...), or a data set"
        )
    # torch's iterable data sets have a [] too, which raises.
    if _methods(data) is None and hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return IndexedSource(name, data, repeat, rank, world_size)
    if hasattr(data, "__iter__"):
        return IterableSource(name, data, repeat, rank, world_size)
    raise errors.InvalidArgument(
        f"{name} is a {type(data).__name__}; it must be an iterand.stream, a data set with len and [], or an iterable "
        "with state_dict and load_state_dict"
    )


class StreamSource:
    """A stream of iterand. Its position is one index, for any rank and world size."""

    def __init__(self, name: str, stream: Stream, rank: int, world_size: int) -> None:
        if (stream.rank, stream.world_size) != (rank, world_size):
            raise errors.InvalidArgument(
                f"{name} is the stream of reader {stream.rank} of {stream.world_size}, but the mix has rank={rank} and "
                f"world_size={world_size}; they must be equal"
            )
        self._name = name
        self._stream = stream
        self._batches: deque[Batch] = deque()
        self._used = 0  # rows of the first batch

    def peek(self, rows: int) -> Rows | None:
        there = sum(batch.rows for batch in self._batches) - self._used
        while there < rows:
            try:
                self._batches.append(self._stream.next_batch())
            except StopIteration:
                break
            there += self._batches[-1].rows
        rows = min(rows, there)
        if rows == 0:
            return None
        tokens, masks, missing, low = [], [], rows, self._used
        for batch in self._batches:
            high = min(batch.rows, low + missing)
            tokens.append(batch.tokens[low:high])
            if batch.loss_mask is not None:
                masks.append(batch.loss_mask[low:high])
            missing, low = missing - (high - low), 0
            if missing == 0:
                break
        first = self._batches[0]
        place = f"{self._name}[{first.first_index + self._used * first.stride}]"
        return Rows(np.concatenate(tokens), np.concatenate(masks) if masks else None, place)

    def advance(self, rows: int) -> None:
        self._used += rows
        while self._batches and self._used >= self._batches[0].rows:
            self._used -= self._batches.popleft().rows

    def state(self) -> dict[str, Any]:
        state = self._stream.state_dict()
        if self._batches:
            batch = self._batches[0]
            state["next_index"] = batch.first_index - self._stream.rank + self._used * batch.stride
        return state

    def load(self, state: Mapping[str, Any]) -> None:
        self._stream.load_state_dict(state)


class IndexedSource:
    """A data set with `len` and `[]`. Rank r of W takes the items r, r + W, ..., from the position on."""

    def __init__(self, name: str, data: Any, repeat: bool, rank: int, world_size: int) -> None:
        self._name = name
        self._data = data
        self._repeat = repeat
        self._rank = rank
        self._world_size = world_size
        self._next = 0  # of all ranks together

    def peek(self, rows: int) -> Rows | None:
        size = len(self._data)
        if size == 0:
            raise errors.InvalidArgument(f"{self._name} has no items")
        first = self._next + self._rank
        places = range(first, first + rows * self._world_size, self._world_size)
        if not self._repeat:
            places = range(first, min(places.stop, size), self._world_size)
        indices = [place % size for place in places]
        many = getattr(self._data, "__getitems__", None)  # as torch's DataLoader does
        items = [self._data[index] for index in indices] if many is None else many(indices)
        return together([row_of(item, f"{self._name}[{index}]") for index, item in zip(indices, items, strict=True)])

    def advance(self, rows: int) -> None:
        self._next += rows * self._world_size

    def state(self) -> dict[str, Any]:
        return {"size": len(self._data), "next": self._next}

    def load(self, state: Mapping[str, Any]) -> None:
        size = state["size"]
        check_range(f"{self._name}'s next", state["next"], 0, 2**64)
        if size != len(self._data):
            raise errors.InvalidArgument(f"state is of {self._name} with {size} items; it has {len(self._data)} now")
        self._next = int(state["next"])


class IterableSource:
    """An iterable that can be saved, or whose iterators can: by state_dict and load_state_dict, or by Grain's get_state
    and set_state. Each process has its own state.

    The state is one of the iterable and the number of items used since. Some iterables have none before they gave an
    item, and others only one that is wrong; None is the beginning.
    """

    def __init__(self, name: str, data: Any, repeat: bool, rank: int, world_size: int) -> None:
        self._name = name
        self._data = data
        self._repeat = repeat
        self._reader = {"rank": rank, "world_size": world_size}
        self._iterator: Iterator[Any] | None = None
        self._rows: deque[Row] = deque()  # read and not used
        self._taken = 0  # items of this process, for errors
        self._saved: Any = None
        self._since = 0  # items used since then
        self._skip = 0  # items to pass over, after a state was loaded
        self._fresh = True  # the iterator has given no item, and may have no state yet
        self._failed = False  # it raised, so that its place is not known
        self._owned = _methods(data) is not None  # the state is that of the iterable, not that of its iterator
        self._owner = self._new_owner()
        methods = _methods(self._owner)
        if methods is None:
            raise errors.InvalidArgument(
                f"{name} is a {type(data).__name__}, which cannot be saved: it must have len and [], or state_dict and "
                "load_state_dict (of its own, or of its iterator)"
            )
        self._save, self._load = methods
        # A data set that was given a state may begin all its iterations there, as those of `datasets` do.
        self._first: Any = None
        self._loaded = False
        if self._owned and repeat:
            with contextlib.suppress(Exception):  # some have no state before their first item
                self._first = copy.deepcopy(self._snapshot())

    def _new_owner(self) -> Any:
        """What has the state, before its first item."""
        if self._owned:
            self._iterator = None
            return self._data
        self._iterator = iter(self._data)
        return self._iterator

    def peek(self, rows: int) -> Rows | None:
        if self._failed:
            self._begin_again()
        while self._skip > 0:
            self._next_item()
            self._skip -= 1
        if not (self._rows or self._fresh):
            self._saved, self._since = self._snapshot(), 0
        while len(self._rows) < rows:
            try:
                item = self._next_item()
            except StopIteration:
                break
            self._rows.append(row_of(item, f"{self._name}, item {self._taken - 1}"))
        return together(list(itertools.islice(self._rows, rows)))

    def _next_item(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self._owner)
        try:
            item = next(self._iterator)
        except StopIteration:
            if not self._repeat:
                raise
            item = self._first_again()
        except BaseException:
            self._failed = True
            raise
        self._taken += 1
        self._fresh = False
        return item

    def _begin_again(self) -> None:
        """From the state that was saved last: a generator has ended by its error."""
        self._owner = self._new_owner()
        if self._saved is not None:
            self._give(self._saved)
        self._fresh, self._failed = True, False
        self._skip = self._since + len(self._rows)
        self._taken -= self._skip

    def _first_again(self) -> Any:
        self._owner = self._new_owner()
        if self._owned and self._loaded and self._first is not None:
            self._give(self._first)
        self._iterator = iter(self._owner)
        try:
            return next(self._iterator)
        except StopIteration:
            raise errors.InvalidArgument(f"{self._name} gave no item when it was iterated over again") from None

    def advance(self, rows: int) -> None:
        for _ in range(rows):
            self._rows.popleft()
        self._since += rows

    def _give(self, state: Any) -> None:
        getattr(self._owner, self._load)(state)
        self._loaded = True

    def _snapshot(self) -> Any:
        return getattr(self._owner, self._save)()

    def state(self) -> dict[str, Any]:
        if self._rows or self._fresh or self._skip > 0 or self._failed:
            return {**self._reader, "state": self._saved, "skip": self._since}
        return {**self._reader, "state": self._snapshot(), "skip": 0}

    def load(self, state: Mapping[str, Any]) -> None:
        reader = {name: state[name] for name in self._reader}
        if reader != self._reader:
            raise errors.InvalidArgument(
                f"state is of reader {reader['rank']} of {reader['world_size']}, and each has its own state of "
                f"{self._name}: it must be that of reader {self._reader['rank']} of {self._reader['world_size']}"
            )
        check_range(f"{self._name}'s skip", state["skip"], 0, 2**32)
        self._saved, self._since = state["state"], int(state["skip"])
        self._skip = self._since
        if self._saved is not None:
            self._give(self._saved)


def _methods(data: Any) -> tuple[str, str] | None:
    """The names of the methods that save and load it."""
    for save, load in (("state_dict", "load_state_dict"), ("get_state", "set_state")):
        if hasattr(data, save) and hasattr(data, load):
            return save, load
    return None


def together(rows: list[Row]) -> Rows | None:
    """Errors: InvalidArgument unless all have one length."""
    if not rows:
        return None
    for row in rows:
        if len(row.tokens) != len(rows[0].tokens):
            refuse_lengths(row.place, len(row.tokens), rows[0].place, len(rows[0].tokens))
    masks = None
    if any(row.loss_mask is not None for row in rows):
        masks = np.stack(
            [np.ones(len(row.tokens), np.bool_) if row.loss_mask is None else row.loss_mask for row in rows]
        )
    return Rows(np.stack([row.tokens for row in rows]), masks, rows[0].place)


def refuse_lengths(place: str, length: int, other_place: str, other: int) -> NoReturn:
    raise errors.InvalidArgument(
        f"{place} has {length} tokens, but {other_place} has {other}; noise and real data must have one length"
    )


def row_of(item: Any, place: str) -> Row:
    """A sequence from an item: an array or a list of tokens, or a mapping that has them.

    Errors: InvalidArgument for anything else.
    """
    mask = None
    if isinstance(item, Mapping):
        column = next((name for name in ("tokens", "input_ids") if name in item), None)
        if column is None:
            raise errors.InvalidArgument(
                f"{place} has the columns {', '.join(map(repr, item))}; one of them must be 'tokens' or 'input_ids'"
            )
        mask = item.get("loss_mask")
        item, place = item[column], f"{place}[{column!r}]"
    try:
        tokens = np.asarray(item)
    except (TypeError, ValueError) as error:
        raise errors.InvalidArgument(f"{place} is a {type(item).__name__}; it must be an array of tokens") from error
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise errors.InvalidArgument(
            f"{place} is of {tokens.dtype} and shape {tokens.shape}; it must be one sequence of whole numbers"
        )
    if mask is not None:
        mask = np.asarray(mask, np.bool_)
        if mask.shape != tokens.shape:
            raise errors.InvalidArgument(
                f"{place} has a loss mask of shape {mask.shape}; it must have the shape of its tokens, {tokens.shape}"
            )
    return Row(tokens, mask, place)
