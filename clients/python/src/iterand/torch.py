"""Streams as PyTorch datasets.

    dataset = StreamDataset("up", length=512, batch_size=64, rank=rank, world_size=world_size)
    for tokens in StreamLoader(dataset, num_workers=2):
        ...  # int64 tensor, 64 x 512

Order. Without workers the batches are the shard's rows in the order of their indices. With K workers, worker k reads
the sub-shard that has every K-th row of the shard, from row k on, and the loader takes a batch from each worker in
turn. So each round of K batches holds the K * batch_size successive rows that it would hold without workers, dealt out
to the batches like cards. K * world_size must divide the recipe's lanes.

Iterations. Every iterator keeps its own place, so several may be used in turn, and one that is dropped changes nothing.
Each begins at the stream's start, except the first after `load_state_dict`.

Resuming. `StreamLoader.state_dict()` says which batches were yielded, however many were read ahead, and a loader that
is given this state continues with the batch that would have come next. It reports the iteration that was begun last;
`state_dict()` of an iterator reports that one. Loaders that save the state of a dataset worker by worker, such as
torchdata's StatefulDataLoader, can use StreamDataset itself.

Workers. gRPC does not survive a fork, so StreamLoader starts its workers by a fork server, which has never used it. As
with every start method but "fork", a script must guard its entry by `if __name__ == "__main__":`. A DataLoader needs
multiprocessing_context="forkserver" (or "spawn"); a worker that was forked from a process that had used iterand raises
`iterand.ForkedProcess`. The first StreamDataset has the fork server import torch once, unless the server runs already.
With "spawn" every worker imports torch again, at every epoch, unless the DataLoader has persistent_workers=True.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from iterand import _extras, _state, _workers, api, errors
from iterand._batch import Tokens
from iterand._position import Place, Position
from iterand._progress import Progress, called_by_torchdata
from iterand._renamed import refuse_old_names
from iterand._requests import RecipeLike, check_prefetch, check_range, check_shard, check_spec, recipe_text

try:
    import torch
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info
except ImportError as error:
    raise _extras.missing("iterand.torch", "torch", "torch", error) from error

if TYPE_CHECKING:
    from iterand._connection import Retry, Tls
    from iterand._server import Server


class StreamDataset(IterableDataset[Any]):
    """A shard of a stream. Each item is a batch: a tensor of batch_size x length tokens.

    With `loss_mask` each item is a pair (tokens, loss_mask) of such tensors, the loss mask of torch.bool: true where a
    token is to be predicted, so that `targets.masked_fill(~loss_mask, -100)` is what cross_entropy should see. A row
    may have none, and so may a batch of few rows, of which cross_entropy's mean is nan: with `reduction="sum"` divide
    by `loss_mask.sum().clamp(min=1)`.

    Give it to a `StreamLoader`, which can be saved and resumed, or to a DataLoader with `batch_size=None` (the batches
    are made by the server) and, if it has workers, `multiprocessing_context="forkserver"`. The connection is made where
    the iteration begins, so inside the workers. With `count`, the shard ends after `count` rows, and each worker's last
    batch may have fewer. `dtype` is that of the tensors: embeddings take int64; torch.uint8, where the vocabulary
    allows it, is an eighth of that on the way to the device.

    The other arguments are those of `iterand.stream`.
    """

    @refuse_old_names
    def __init__(
        self,
        recipe: RecipeLike = "up",
        *,
        seed: int = 0,
        length: int | None = None,
        batch_size: int = 64,
        rank: int = 0,
        world_size: int = 1,
        start: int = 0,
        count: int | None = None,
        dtype: torch.dtype = torch.int64,
        prefetch: int = 8,
        expected_fingerprint: bytes | None = None,
        loss_mask: bool = False,
        server: str | Sequence[str] | Server | Literal[False] | None = None,
        tls: Tls | bool = False,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        retry: Retry | None = None,
    ) -> None:
        super().__init__()
        # Wrong arguments should fail here and not in a worker.
        check_spec(seed, length, expected_fingerprint, loss_mask)
        check_shard(batch_size, rank, world_size, start, count, False)
        check_prefetch(prefetch)
        addresses = api.addresses(server, tls=tls or None, token=token, token_file=token_file, retry=retry)
        if addresses is not None:
            from iterand.client import Client

            Client(
                addresses, tls=tls, token=token, token_file=token_file, retry=retry
            ).close()  # which has not connected yet
        _numpy_dtype(dtype)
        preset, text = recipe_text(recipe)
        self.server = addresses  # None: sequences are made in the process that iterates
        self.recipe: str = text if preset is None and text is not None else str(preset)
        self.seed = seed
        self.length = length
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.start = start
        self.count = count
        self.dtype = dtype
        self.prefetch = prefetch
        self.fingerprint = expected_fingerprint  # of the stream; known after the first batch
        self.loss_mask = loss_mask
        self.tls = tls
        self.token = token
        self.token_file = token_file
        self.retry = retry
        self._progress = Progress()
        self._starts = _workers.WorkerStarts()
        self._starts_before = 0  # how many workers had started when this process last began an iteration
        _workers.preload_fork_server()

    def __repr__(self) -> str:
        recipe = self.recipe if len(self.recipe) <= 40 else f"{self.recipe[:37]}..."
        parts = [repr(recipe), f"seed={self.seed}"]
        parts += [] if self.length is None else [f"length={self.length}"]
        parts += [f"batch_size={self.batch_size}", f"rank={self.rank}", f"world_size={self.world_size}"]
        parts += [f"start={self.start}"] if self.start else []
        parts += [] if self.count is None else [f"count={self.count}"]
        parts += ["loss_mask=True"] if self.loss_mask else []
        parts += [f"dtype={self.dtype}"] if self.dtype != torch.int64 else []
        server = self.server[0] if self.server is not None and len(self.server) == 1 else self.server
        parts += [] if server is None else [f"server={server!r}"]
        return f"StreamDataset({', '.join(parts)})"

    def __getstate__(self) -> dict[str, Any]:
        # A copy has iterations of its own, and a worker's copy is one that the parent knows of.
        return self.__dict__ | {"_progress": self._progress.copy(), "_starts": self._starts.copy(), "_starts_before": 0}

    def __iter__(self) -> StreamIterator:
        begin, info = self._progress.next_begin(), get_worker_info()
        if info is not None and not self._starts.note_worker(info) and begin is not None and begin.worker is None:
            begin = None  # the DataLoader of this worker, which starts new ones for every epoch, has used it already
        return self._iterate_from(begin)

    def _iterate_from(self, begin: Place | None) -> StreamIterator:
        self._starts_before = self._starts.count
        return StreamIterator(self, begin)

    def state_dict(self) -> dict[str, Any]:
        """The place of the latest iteration in this process; in a worker of a DataLoader, that worker's.

        Before any iteration: where the first one will begin. Errors: InvalidArgument if workers have iterated since,
        whose places only their loader knows.
        """
        elsewhere = get_worker_info() is None and self._starts.count > self._starts_before
        if elsewhere and not called_by_torchdata():
            raise errors.InvalidArgument(
                "worker processes iterate over this dataset, and only their loader knows which batches were yielded: "
                "call state_dict() of the loader, a StreamLoader or torchdata's StatefulDataLoader"
            )
        return self._state(self._progress.place() or Place())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration continues from `state`, the state of a StreamDataset or a StreamLoader.

        Errors: InvalidArgument if it is none, is of another stream, or if an iteration has been begun.
        FingerprintMismatch if it is of another recipe, seed or engine version.
        """
        place, fingerprint = _state.parse(state, self._identity())
        if called_by_torchdata() or get_worker_info() is not None:
            self._progress.load_for_the_very_next(place)
        elif self._starts.count:
            raise errors.InvalidArgument(
                "load_state_dict was called after workers had begun to iterate over this dataset, which it would not "
                "affect; call it before iter(), or on a new dataset"
            )
        else:
            self._progress.load(place)
        self.fingerprint = fingerprint or self.fingerprint

    def _state(self, place: Place) -> dict[str, Any]:
        return {"stream": self._identity(), **place.to_state(self.batch_size)}

    def _identity(self) -> dict[str, Any]:
        return _state.identity(
            self.recipe,
            self.seed,
            self.length,
            self.batch_size,
            self.rank,
            self.world_size,
            self.start,
            self.loss_mask,
            self.fingerprint,
        )

    def _description(self) -> dict[str, Any]:
        """The arguments of `iterand.describe` for this stream."""
        names = ("recipe", "seed", "length", "loss_mask", "tls", "token", "token_file", "retry")
        return {"server": self.server or False, **{name: getattr(self, name) for name in names}}

    def _read(self, place: Place, worker: int, workers: int) -> Iterator[Any]:
        """The batches of `worker` of `workers` from `place`, which that worker has taken up."""
        row = place.next_row(worker, self.batch_size)
        count = None if self.count is None else max(0, -(-(self.count - row) // workers))
        index = self.start + self.rank + row * self.world_size
        if index >= 2**64:
            return
        with api.stream(
            self.recipe,
            seed=self.seed,
            length=self.length,
            batch_size=self.batch_size,
            world_size=self.world_size * workers,
            start=index,
            count=count,
            prefetch=self.prefetch,
            expected_fingerprint=self.fingerprint,
            loss_mask=self.loss_mask,
            server=self.server or False,
            tls=self.tls,
            token=self.token,
            token_file=self.token_file,
            retry=self.retry,
        ) as stream:
            for batch in stream.batches():
                self.fingerprint = stream.fingerprint
                tokens = _to_tensor(batch.tokens, self.dtype)
                yield (tokens, torch.from_numpy(batch.loss_mask)) if batch.loss_mask is not None else tokens

    def _misfit(self, workers: int) -> str | None:
        """Why the server refuses this shard, in the words of the caller's arguments; None if for another reason."""
        with contextlib.suppress(errors.Error):
            return _workers.misfit(_workers.lanes_of(self._description()), self.world_size, workers)
        return None


class StreamIterator(Iterator[Any]):
    """One iteration over a StreamDataset. It connects when the first batch is requested.

    Use `close`, or drop it, to leave before the end.
    """

    def __init__(self, dataset: StreamDataset, begin: Place | None) -> None:
        info = get_worker_info()
        self._dataset = dataset
        self._worker: int | None = None if info is None else info.id
        self._workers: int = 1 if info is None else info.num_workers
        self._cursor = dataset._progress.begin(self._taken_up(begin or Place(Position(workers=self._workers))))
        self._batches: Iterator[Any] | None = None

    def __repr__(self) -> str:
        return f"iter({self._dataset!r})"

    def __iter__(self) -> StreamIterator:
        return self

    def __next__(self) -> Any:
        if self._batches is None:
            self._dataset._progress.advance(self._cursor)
            self._batches = self._dataset._read(self._cursor.place, self._worker or 0, self._workers)
        try:
            item = next(self._batches)
        except errors.InvalidArgument as error:
            problem = self._dataset._misfit(0 if self._worker is None else self._workers)
            if problem is None:
                raise
            raise errors.InvalidArgument(problem, error.code) from None
        except KeyboardInterrupt:
            self._batches = None  # the next call connects again and continues from the same place
            raise
        self._cursor.place = self._cursor.place.after_batch()
        return item

    def state_dict(self) -> dict[str, Any]:
        """The place of this iteration; in a worker, the worker's share of it."""
        return self._dataset._state(self._cursor.place)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state` instead. Errors: as StreamDataset's, or InvalidArgument after the first batch."""
        place, fingerprint = _state.parse(state, self._dataset._identity())
        if self._batches is not None:
            raise errors.InvalidArgument("load_state_dict was called after this iteration had begun")
        self._cursor.place = self._taken_up(place)
        self._dataset.fingerprint = fingerprint or self._dataset.fingerprint

    def close(self) -> None:
        """Ends the iteration and its call to the server."""
        batches, self._batches = self._batches, iter(())
        if batches is not None and hasattr(batches, "close"):
            batches.close()

    def _taken_up(self, place: Place) -> Place:
        return place.taken_up(self._worker, self._workers, self._dataset.batch_size)


class _Shipment(IterableDataset[Any]):
    """What a loader's iteration reads: pairs of a batch and the stream's fingerprint, or the error of a worker.

    The loader's process would not learn the fingerprint otherwise, and a DataLoader would wrap the error's text and
    drop its code.
    """

    def __init__(self, dataset: StreamDataset, begin: Place) -> None:
        super().__init__()
        self._dataset = dataset
        self._begin = begin

    def __iter__(self) -> Iterator[Any]:
        try:
            for item in self._dataset._iterate_from(self._begin):
                yield item, self._dataset.fingerprint or b""
        except errors.Error as error:
            if get_worker_info() is None:
                raise
            yield error


class StreamLoader:
    """A DataLoader over a StreamDataset that can be saved and resumed, with any number of workers that fits.

    `options` go to the DataLoader (pin_memory, prefetch_factor, ...); workers are started by a fork server unless
    `multiprocessing_context` says otherwise. Every iteration begins at the stream's start, except the first after
    `load_state_dict`. Several iterators may be in use at once, each with workers of its own.
    """

    def __init__(self, dataset: StreamDataset, num_workers: int = 0, **options: Any) -> None:
        if not isinstance(dataset, StreamDataset):
            raise errors.InvalidArgument(f"dataset is a {type(dataset).__name__}; it must be a StreamDataset")
        check_range("num_workers", num_workers, 0, 2**16)
        if num_workers > 0 and dataset.server is None:
            raise errors.InvalidArgument(
                f"num_workers is {num_workers}, but the dataset has no server: its sequences are made on threads of "
                "this process, ahead of the loop. Use num_workers=0, or an iterand.Server that workers share (server=)"
            )
        for name in ("batch_size", "persistent_workers", "shuffle", "sampler", "batch_sampler", "drop_last"):
            if name in options:
                raise errors.InvalidArgument(f"StreamLoader does not take {name}: the stream settles it")
        self.dataset = dataset
        self.num_workers = num_workers
        self.waited = 0.0  # seconds that the training loop spent waiting for batches
        self._options = options
        if num_workers > 0:
            self._options.setdefault("multiprocessing_context", "forkserver")
        self._progress = Progress()
        self._checked = num_workers <= 1  # whether this many workers fit; one always does if the shard does

    def __repr__(self) -> str:
        options = "".join(
            f", {name}={value!r}"
            for name, value in self._options.items()
            if (name, value) != ("multiprocessing_context", "forkserver")
        )
        return f"StreamLoader({self.dataset!r}, num_workers={self.num_workers}{options})"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_progress": self._progress.copy()}  # a copy has iterations of its own

    def __iter__(self) -> LoaderIterator:
        """Starts the workers. Errors: InvalidArgument if their number does not fit, or the state that was loaded."""
        if self.num_workers > 0:
            _workers.preload_fork_server()
            _workers.warn_of_slow_workers()
        if not self._checked:
            _workers.check_workers(
                self.dataset._description(),
                self.dataset.world_size,
                self.num_workers,
                self._options["multiprocessing_context"],
            )
            self._checked = True
        return LoaderIterator(self, self._next_begin())

    def _next_begin(self) -> Place:
        begin = self._progress.next_begin()
        if begin is None and not self._progress.advanced:
            begin = self.dataset._progress.next_begin()
        workers = max(1, self.num_workers)
        return (begin or Place(Position(workers=workers))).taken_up(None, workers, self.dataset.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """What the latest iteration has yielded so far, as plain data (JSON can hold it).

        Before any iteration: where the first one will begin. Each iterator has a `state_dict` of its own.
        """
        place = self._progress.place()
        if place is None and not self._progress.advanced:
            place = self.dataset._progress.next_begin()
        return self.dataset._state(place or Place(Position(workers=max(1, self.num_workers))))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration continues from `state`, the state of a StreamLoader.

        Errors: InvalidArgument if it is of another stream, or if an iteration has been begun. FingerprintMismatch if it
        is of another recipe, seed or engine version.
        """
        place, fingerprint = _state.parse(state, self.dataset._identity())
        self._progress.load(place)
        self.dataset.fingerprint = fingerprint or self.dataset.fingerprint


class LoaderIterator(Iterator[Any]):
    """One iteration over a StreamLoader, with workers of its own. Use `close`, or drop it, to leave before the end."""

    def __init__(self, loader: StreamLoader, begin: Place) -> None:
        self._loader = loader
        self._cursor = loader._progress.begin(begin)
        self._ended = False
        self._batches: Iterator[Any] | None = self._start()
        if loader.num_workers > 0:
            loader.dataset._starts.loaders += 1

    def _start(self) -> Iterator[Any]:
        loader = self._loader
        shipment = _Shipment(loader.dataset, self._cursor.place)
        return iter(DataLoader(shipment, batch_size=None, num_workers=loader.num_workers, **loader._options))

    def __repr__(self) -> str:
        return f"iter({self._loader!r})"

    def __iter__(self) -> LoaderIterator:
        return self

    def __next__(self) -> Any:
        if self._ended:
            raise StopIteration
        self._loader._progress.advance(self._cursor)
        self._loader.dataset._progress.advance(None)
        begin = time.perf_counter()
        try:
            if self._batches is None:
                self._batches = self._start()
            item = next(self._batches)
            if isinstance(item, errors.Error):
                raise item
        except (ConnectionError, EOFError, FileNotFoundError) as error:
            self.close()
            # `errors.Unavailable` is a ConnectionError too.
            if isinstance(error, errors.Error) or self._loader.num_workers == 0:
                raise
            # The worker was killed while it sent a tensor through its socket.
            raise RuntimeError("a DataLoader worker exited before it had handed over its batch") from error
        except Exception:
            self.close()
            raise
        except KeyboardInterrupt:
            self._batches = None  # the next call starts again from the same place
            raise
        finally:
            self._loader.waited += time.perf_counter() - begin
        tokens, self._loader.dataset.fingerprint = item
        self._cursor.place = self._cursor.place.after_batch()
        return tokens

    def state_dict(self) -> dict[str, Any]:
        """What this iteration has yielded so far, as StreamLoader.state_dict."""
        return self._loader.dataset._state(self._cursor.place)

    def close(self) -> None:
        """Ends the iteration and its workers."""
        self._ended, self._batches = True, None


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
