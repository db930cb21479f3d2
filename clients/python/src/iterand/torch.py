"""Streams as PyTorch datasets.

    dataset = StreamDataset("localhost:50051", recipe="up", length=512, batch_size=64, shard=(rank, world))
    for tokens in StreamLoader(dataset, num_workers=2):
        ...  # int64 tensor, 64 x 512

Order. Without workers the batches are the shard's rows in the order of their indices. With K workers, worker k reads
the sub-shard that has every K-th row of the shard, from row k on, and the loader takes a batch from each worker in
turn. So each round of K batches holds the K * batch_size successive rows that it would hold without workers, dealt out
to the batches like cards. K * world must divide the recipe's lanes.

Resuming. `StreamLoader.state_dict()` says which batches were yielded, however many were read ahead, and a loader that
is given this state goes on with the batch that would have come next. Loaders that save the state of a dataset worker
by worker, such as torchdata's StatefulDataLoader, can use StreamDataset itself.

Workers. gRPC does not survive a fork, so StreamLoader starts its workers by a fork server, which has never used it. As
with every start method but "fork", a script must guard its entry by `if __name__ == "__main__":`. A DataLoader is to be
given multiprocessing_context="forkserver" (or "spawn"); a worker that was forked from a process that had used iterand
raises `iterand.ForkedProcess`.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from iterand import client, errors
from iterand._connection import Retry, Tls
from iterand._requests import RecipeLike, check_prefetch, check_range, first_of_shard, recipe_text, stream_request
from iterand._wire import Tokens
from iterand.client import Client


@dataclass(frozen=True)
class _Position:
    """How much of a shard has been read: `origin` rows, and then `batches` batches dealt out by `workers` workers."""

    origin: int = 0
    batches: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        check_range("position's origin", self.origin, 0, 2**64)
        check_range("position's batches", self.batches, 0, 2**64)
        check_range("position's workers", self.workers, 1, 2**32)

    def after_whole_rounds(self, batch_size: int) -> _Position:
        """The same position with fewer than `workers` batches: whole rounds are rows without gaps."""
        rounds = self.batches // self.workers
        return _Position(self.origin + rounds * self.workers * batch_size, self.batches % self.workers, self.workers)


class StreamDataset(IterableDataset[Any]):
    """A shard of a stream. Each item is a batch: a tensor of batch_size x length tokens.

    With `mask` each item is a pair (tokens, mask) of such tensors, the mask of torch.bool: true where a token is to be
    predicted, so that `targets.masked_fill(~mask, -100)` is what cross_entropy should see. A row may have none, and so
    may a batch of few rows, of which cross_entropy's mean is nan: with `reduction="sum"` divide by
    `mask.sum().clamp(min=1)`.

    Give it to a `StreamLoader`, which can be saved and resumed, or to a DataLoader with `batch_size=None` (the batches
    are made by the server) and, if it has workers, `multiprocessing_context="forkserver"`. The connection is made where
    the iteration begins, so inside the workers. With `count`, the shard ends after so many rows, and each worker's last
    batch may have fewer. `dtype` is that of the tensors: embeddings take int64; torch.uint8, where the vocabulary
    allows it, is an eighth of that on the way to the device.

    The other arguments are those of `iterand.stream`.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        recipe: RecipeLike = "up",
        *,
        seed: int = 0,
        length: int | None = None,
        batch_size: int = 64,
        shard: tuple[int, int] = (0, 1),
        start: int = 0,
        count: int | None = None,
        dtype: torch.dtype = torch.int64,
        prefetch: int = 8,
        expected_fingerprint: bytes | None = None,
        mask: bool = False,
        tls: Tls | bool = False,
        token: str | None = None,
        retry: Retry | None = None,
    ) -> None:
        super().__init__()
        # Wrong arguments should fail here and not in a worker.
        stream_request(recipe, seed, length, batch_size, shard, start, count, False, expected_fingerprint, mask)
        check_prefetch(prefetch)
        Client(target, tls=tls, token=token, retry=retry).close()  # which has not connected yet
        _numpy_dtype(dtype)
        preset, text = recipe_text(recipe)
        self.target = target
        self.recipe: str = text if preset is None and text is not None else str(preset)
        self.seed = seed
        self.length = length
        self.batch_size = batch_size
        self.shard = shard
        self.start = start
        self.count = count
        self.dtype = dtype
        self.prefetch = prefetch
        self.fingerprint = expected_fingerprint  # of the stream; known after the first batch
        self.mask = mask
        self.tls = tls
        self.token = token
        self.retry = retry
        self._resume: _Position | None = None  # where the next iteration begins
        self._position = _Position()  # where this iteration began; without workers, where it is
        self._worker: int | None = None
        self._given = 0  # batches that this worker has given since

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        workers, worker = (1, 0) if info is None else (info.num_workers, info.id)
        begin, self._resume = self._resume or _Position(workers=workers), None
        given, self._given = (self._given, 0) if self._worker is not None else (0, 0)
        if self._worker is not None and (self._worker, begin.workers) != (worker, workers):
            raise errors.InvalidArgument(
                f"state of worker {self._worker} of {begin.workers} was given to worker {worker} of {workers}"
            )
        self._worker = None if info is None else worker
        begin = begin.after_whole_rounds(self.batch_size)
        if begin.workers != workers:
            if begin.batches:
                raise errors.InvalidArgument(
                    f"state lies {begin.batches} batches into a round of {begin.workers} workers; "
                    f"{workers} workers can only go on from the end of a round"
                )
            begin = _Position(begin.origin, 0, workers)
        self._position, self._given = begin, given

        rank, world = self.shard
        # A loader asks its worker 0 first. So worker 0 takes the place whose turn it is.
        place = (worker + begin.batches) % workers
        row = begin.origin + place + workers * self.batch_size * (given + (place < begin.batches))
        count = None if self.count is None else max(0, -(-(self.count - row) // workers))
        index = first_of_shard(self.start, rank, world) + row * world
        if index >= 2**64:
            return
        with client.stream(
            self.target,
            self.recipe,
            seed=self.seed,
            length=self.length,
            batch_size=self.batch_size,
            shard=(index % (world * workers), world * workers),
            start=index,
            count=count,
            prefetch=self.prefetch,
            expected_fingerprint=self.fingerprint,
            mask=self.mask,
            tls=self.tls,
            token=self.token,
            retry=self.retry,
        ) as stream:
            for batch in stream.batches():
                self.fingerprint = stream.fingerprint
                if info is None:
                    now = self._position
                    self._position = _Position(now.origin, now.batches + 1, 1)
                else:
                    self._given += 1
                tokens = _to_tensor(batch.tokens, self.dtype)
                yield (tokens, torch.from_numpy(batch.mask.copy())) if batch.mask is not None else tokens

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration stands: in a worker, that worker's; else the dataset's own, iterated without workers."""
        position = (self._resume or self._position).after_whole_rounds(self.batch_size)
        state = {"stream": self._identity(), "position": asdict(position)}
        if self._worker is not None:
            state["worker"] = {"id": self._worker, "given": self._given}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration goes on from `state`. Errors: InvalidArgument if it is none, or of another stream."""
        try:
            position = _Position(**state["position"]).after_whole_rounds(int(state["stream"]["batch_size"]))
            mine, theirs = self._identity(), dict(state["stream"])
            fingerprint = theirs.pop("fingerprint")
            fingerprint = None if fingerprint is None else bytes.fromhex(fingerprint)
            theirs.setdefault("mask", False)  # of which states said nothing once
            worker = None if state.get("worker") is None else (state["worker"]["id"], state["worker"]["given"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise errors.InvalidArgument(f"state is not what state_dict gave: {error!r}") from error
        mine.pop("fingerprint")
        if position.batches == 0 and "worker" not in state:
            theirs["batch_size"] = self.batch_size  # at the end of a round any other batch size can go on
        for name, value in mine.items():
            if theirs.get(name) != value:
                raise errors.InvalidArgument(f"state is of a stream with {name} {theirs.get(name)!r}, not {value!r}")
        if fingerprint is not None:
            self.fingerprint = fingerprint
        self._resume = position
        self._worker, self._given = (None, 0) if worker is None else worker

    def _identity(self) -> dict[str, Any]:
        recipe = self.recipe
        if recipe.lstrip().startswith("{"):
            with contextlib.suppress(ValueError, RecursionError):  # the server says what is wrong with the JSON
                recipe = json.dumps(json.loads(recipe), sort_keys=True)
        return {
            "recipe": recipe,
            "seed": self.seed,
            "length": self.length,
            "batch_size": self.batch_size,
            "shard": list(self.shard),
            "start": self.start,
            "mask": bool(self.mask),
            "fingerprint": None if self.fingerprint is None else self.fingerprint.hex(),
        }


class _Tagged(IterableDataset[tuple[Any, bytes]]):
    """Batches with the stream's fingerprint, which the loader's process would not learn otherwise."""

    def __init__(self, dataset: StreamDataset) -> None:
        super().__init__()
        self._dataset = dataset

    def __iter__(self) -> Iterator[tuple[Any, bytes]]:
        for tokens in self._dataset:
            yield tokens, self._dataset.fingerprint or b""


class StreamLoader:
    """A DataLoader over a StreamDataset that can be saved and resumed, with any number of workers.

    `options` go to the DataLoader (pin_memory, prefetch_factor, ...); workers are started by a fork server unless
    `multiprocessing_context` says otherwise. Every iteration begins at the stream's start, except the first after
    `load_state_dict`.
    """

    def __init__(self, dataset: StreamDataset, num_workers: int = 0, **options: Any) -> None:
        if not isinstance(dataset, StreamDataset):
            raise errors.InvalidArgument(f"dataset is a {type(dataset).__name__}; it must be a StreamDataset")
        check_range("num_workers", num_workers, 0, 2**16)
        for name in ("batch_size", "persistent_workers", "shuffle", "sampler", "batch_sampler", "drop_last"):
            if name in options:
                raise errors.InvalidArgument(f"StreamLoader does not take {name}: the stream settles it")
        self.dataset = dataset
        self.num_workers = num_workers
        self.waited = 0.0  # seconds that the training loop spent waiting for batches
        self._options = options
        if num_workers > 0:
            self._options.setdefault("multiprocessing_context", "forkserver")
        self._position = _Position(workers=max(1, num_workers))

    def __iter__(self) -> Iterator[Any]:
        workers = max(1, self.num_workers)
        begin = self.dataset._resume or _Position(workers=workers)
        begin = begin.after_whole_rounds(self.dataset.batch_size)
        if begin.batches == 0:
            begin = _Position(begin.origin, 0, workers)
        self._position = begin
        batches = iter(
            DataLoader(_Tagged(self.dataset), batch_size=None, num_workers=self.num_workers, **self._options)
        )
        if self.num_workers > 0:
            self.dataset._resume = None  # the workers have it
        return self._count(batches)

    def _count(self, batches: Iterator[tuple[Any, bytes]]) -> Iterator[Any]:
        while True:
            begin = time.perf_counter()
            try:
                tokens, fingerprint = next(batches)
            except StopIteration:
                return
            finally:
                self.waited += time.perf_counter() - begin
            now = self._position
            self._position = _Position(now.origin, now.batches + 1, now.workers)
            self.dataset.fingerprint = fingerprint
            yield tokens

    def state_dict(self) -> dict[str, Any]:
        """What has been yielded so far, as plain data (JSON can hold it)."""
        position = (self.dataset._resume or self._position).after_whole_rounds(self.dataset.batch_size)
        return {"stream": self.dataset._identity(), "position": asdict(position)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration goes on from `state`. Errors: InvalidArgument if it is of another stream."""
        self.dataset.load_state_dict(state)


def _numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """Errors: InvalidArgument if numpy has none such."""
    try:
        wanted: np.dtype[Any] = torch.empty(0, dtype=dtype).numpy().dtype
    except TypeError as error:
        raise errors.InvalidArgument(
            f"dtype is {dtype!r}; it must be a torch.dtype of integers, or of floats that numpy has"
        ) from error
    return wanted


def _to_tensor(tokens: Tokens, dtype: torch.dtype) -> torch.Tensor:
    wanted = _numpy_dtype(dtype)
    if not np.can_cast(tokens.dtype, wanted):
        raise errors.InvalidArgument(f"tokens of dtype {tokens.dtype} do not fit into tensors of {dtype}")
    return torch.from_numpy(tokens.astype(wanted))
