"""iterable_dataset: see iterand.hf.

`datasets` has no public way to continue an iterable dataset without reading it again: `from_generator` runs its
generator again and drops what was seen. So this derives from the private `_BaseExamplesIterable`, whose methods are
those of datasets 3 to 5.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from iterand import _checkpoint, _extras, api, errors
from iterand._requests import RecipeLike, Shard, check_range, check_spec, recipe_text

try:
    from datasets import IterableDataset
    from datasets.iterable_dataset import _BaseExamplesIterable
except ImportError as error:
    raise _extras.missing("iterand.hf.iterable_dataset", "datasets", "hf", error) from error

if TYPE_CHECKING:
    from iterand._connection_options import Retry, Tls
    from iterand._server import Server

# Any common number of nodes and workers divides it, and then each takes its own rows.
_SHARDS = 2**8 * 3**3 * 5 * 7


def iterable_dataset(
    recipe: RecipeLike = "up",
    *,
    seed: int = 0,
    length: int | None = None,
    start: int = 0,
    count: int | None = None,
    loss_mask: bool = False,
    prefetch: int = 8,
    expected_fingerprint: bytes | None = None,
    server: str | Sequence[str] | Server | Literal[False] | None = None,
    tls: Tls | bool = False,
    token: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    retry: Retry | None = None,
) -> IterableDataset:
    """A stream as a `datasets.IterableDataset`: one example per sequence, in the order of the indices.

    Examples have `input_ids` and `labels` (int64); where a loss mask is false, the label is -100. `count`: how many
    examples there are. `split_dataset_by_node` and the workers of a DataLoader take every n-th example each. The state
    resumes in constant time, with the same numbers of nodes and workers. The other arguments are those of
    `iterand.stream`.

    >>> from iterand.hf import iterable_dataset
    >>> dataset = iterable_dataset("up", length=128, count=1000)
    >>> len(next(iter(dataset))["input_ids"])
    128
    """
    check_spec(seed, length, expected_fingerprint, loss_mask)
    shard = Shard(start=start, count=count)
    connection = {"tls": tls, "token": token, "token_file": token_file, "retry": retry}
    addresses = api.addresses(server, **{**connection, "tls": tls or None})
    preset, text = recipe_text(recipe)
    call = {
        "recipe": text if preset is None else preset,
        "seed": seed,
        "length": length,
        "loss_mask": loss_mask,
        "prefetch": prefetch,
        "expected_fingerprint": expected_fingerprint,
        "server": addresses or False,
        **connection,
    }
    name = _checkpoint.Name.of(preset, text, seed, length, loss_mask)
    end = None if shard.count is None else int(start) + int(shard.count)
    return IterableDataset(_Examples(call, name, int(start), 1, end))


class _Examples(_BaseExamplesIterable):  # type: ignore[misc]
    """The examples first, first + stride, ... before `end`."""

    def __init__(self, call: dict[str, Any], name: _checkpoint.Name, first: int, stride: int, end: int | None) -> None:
        super().__init__()
        self._call = call
        self._name = name
        self._first = first
        self._stride = stride
        self._end = end
        self._problem: str | None = None  # of the state that was loaded

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        if self._problem is not None:
            raise errors.InvalidArgument(self._problem)
        index = self._first if self._state_dict is None else self._state_dict["next_index"]
        count = None if self._end is None else max(0, -((index - self._end) // self._stride))
        if index >= 2**64:
            return
        # Reader 0 of `stride` readers from `index` on.
        shard = Shard(64, 0, self._stride, index, count)
        with api.open_shard(shard=shard, **self._call) as stream:
            for batch in stream.batches():
                for row, tokens in enumerate(batch.tokens.astype(np.int64)):
                    labels = tokens.copy()
                    if batch.loss_mask is not None:
                        labels[~batch.loss_mask[row]] = -100
                    if self._state_dict is not None:
                        self._state_dict["next_index"] = index + self._stride
                        self._state_dict["fingerprint"] = batch.fingerprint.hex()
                    yield index, {"input_ids": tokens, "labels": labels}
                    index += self._stride

    def _init_state_dict(self) -> dict[str, Any]:
        fingerprint = self._call["expected_fingerprint"]
        state = _checkpoint.to_dict(self._name, fingerprint, self._first)
        self._state_dict = {**state, "shard": [self._first, self._stride]}
        return self._state_dict

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """Errors: InvalidArgument, FingerprintMismatch."""
        state, self._problem = self._init_state_dict(), None
        next_index, fingerprint = _checkpoint.check(
            state_dict, self._name, self._call["expected_fingerprint"], resolve=None
        )
        theirs = state_dict.get("shard")
        if not isinstance(theirs, list) or len(theirs) != 2:
            raise errors.InvalidArgument(f"state is not what state_dict gave: shard is {theirs!r}")
        if theirs == state["shard"]:
            state["next_index"] = next_index
        elif next_index != theirs[0]:  # a worker that has not begun has the state of the whole
            # Not raised here: `datasets` loads a worker's state into the whole first, which it does not iterate then.
            self._problem = (
                f"state is of the examples {theirs[0]}, {theirs[0]} + {theirs[1]}, ...; these are {self._first}, "
                f"{self._first} + {self._stride}, ...: resume with the same start and numbers of nodes and workers"
            )
        if fingerprint is not None:
            state["fingerprint"] = fingerprint.hex()
            self._call = {**self._call, "expected_fingerprint": fingerprint}
        return state

    def shuffle_data_sources(self, generator: Any) -> _Examples:
        """The order stays: sequences are independent of each other already."""
        return self

    def shard_data_sources(self, num_shards: int, index: int, contiguous: bool = True) -> _Examples:
        check_range("index", index, 0, num_shards - 1)
        first = self._first + index * self._stride
        return _Examples(self._call, self._name, first, self._stride * num_shards, self._end)

    def reshard_data_sources(self) -> _Examples:
        return self

    @property
    def num_shards(self) -> int:
        return max(1, _SHARDS // self._stride)

    @property
    def sleep_on_threads_shutdown(self) -> bool:
        return False
