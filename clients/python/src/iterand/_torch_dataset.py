"""StreamDataset: see iterand.torch."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from iterand import _checkpoint, _extras, _workers, api, errors
from iterand._batch import Batch
from iterand._progress import Place, Progress, Worker, called_by, worker_in
from iterand._renamed import refuse_old_names
from iterand._requests import RecipeLike, Shard, check_prefetch, check_spec, recipe_text

try:
    import torch
    from torch.utils.data import IterableDataset, get_worker_info
except ImportError as error:
    raise _extras.missing("iterand.torch", "torch", "torch", error) from error

if TYPE_CHECKING:
    from iterand._connection_options import Retry, Tls
    from iterand._server import Server

Item = dict[str, torch.Tensor]
"""A batch: "tokens" and, if the stream has loss masks, "loss_mask"; each batch_size x length.

>>> from iterand.torch import StreamDataset
>>> {name: tuple(tensor.shape) for name, tensor in next(iter(StreamDataset("tasks", loss_mask=True))).items()}
{'tokens': (64, 512), 'loss_mask': (64, 512)}
"""


class StreamDataset(IterableDataset[Item]):
    """A shard of a stream. Each item is a batch, a dict: "tokens" is a tensor of batch_size x length tokens.

    With `loss_mask` it has "loss_mask" too, of torch.bool: true where a token is to be predicted, so that
    `targets.masked_fill(~batch["loss_mask"], -100)` is what cross_entropy should see. A row may have none, and so may a
    batch of few rows, of which cross_entropy's mean is nan: with `reduction="sum"` divide by
    `batch["loss_mask"].sum().clamp(min=1)`.

    Give it to a `StreamLoader`, which can be saved and resumed. A DataLoader takes it with `batch_size=None`, since an
    item is a batch already. With workers it also needs a server and `multiprocessing_context="forkserver"`. The
    connection is made where the iteration begins, so inside the workers. With `count`, the shard ends after that many
    rows, and the last batch may have fewer. `dtype` is that of the tokens. Embeddings take int64. Where the vocabulary
    allows it, torch.uint8 is an eighth of that on the way to the device.

    The other arguments are those of `iterand.stream`.

    >>> from iterand.torch import StreamDataset
    >>> dataset = StreamDataset("up", length=128, batch_size=32, count=100)
    >>> len(dataset), [len(batch["tokens"]) for batch in dataset]
    (4, [32, 32, 32, 4])
    >>> state = dataset.state_dict()  # and load_state_dict(state) of a new dataset; with workers use a StreamLoader
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
        Shard(batch_size, rank, world_size, start, count)
        check_prefetch(prefetch)
        connection: dict[str, Any] = {"tls": tls, "token": token, "token_file": token_file, "retry": retry}
        addresses = api.addresses(server, **{**connection, "tls": tls or None})
        if addresses is not None:
            from iterand.client import Client

            Client(addresses, **connection).close()  # which has not connected yet
        _numpy_dtype(dtype)
        preset, text = recipe_text(recipe)
        self.recipe: str = text if preset is None and text is not None else str(preset)
        self.seed = seed
        self.length = length
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.start = start
        self.count = count
        self.dtype = dtype
        self.fingerprint = expected_fingerprint  # of the stream; known after the first batch
        self.loss_mask = loss_mask
        self.server = addresses  # None: sequences are made in the process that iterates
        self._call = {"seed": seed, "length": length, "loss_mask": loss_mask, "prefetch": prefetch, **connection}
        self._name = _checkpoint.Name.of(preset, text, seed, length, loss_mask)
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

    def __len__(self) -> int:
        """Batches of a whole iteration, of all workers together. Errors: TypeError if the stream is endless."""
        if self.count is None:
            raise TypeError("the stream is endless: this StreamDataset has no count, and so no len()")
        return -(-self.count // self.batch_size)

    def __bool__(self) -> bool:
        return True

    def __getstate__(self) -> dict[str, Any]:
        # A copy has iterations of its own, and a worker's copy is one that the parent knows of.
        return self.__dict__ | {"_progress": self._progress.copy(), "_starts": self._starts.copy(), "_starts_before": 0}

    def __iter__(self) -> StreamIterator:
        begin, info = self._progress.next_begin(), get_worker_info()
        if info is not None and not self._starts.note_worker(info) and begin is not None and begin.worker is None:
            begin = None  # the DataLoader of this worker, which starts new ones for every epoch, has used it already
        return self._iterate_from(begin, self.server)

    def _iterate_from(self, begin: Place | None, server: list[str] | None) -> StreamIterator:
        self._starts_before = self._starts.count
        return StreamIterator(self, begin or Place(self.start), server)

    def state_dict(self) -> dict[str, Any]:
        """Where the latest iteration in this process stands; in a worker of a DataLoader, that worker's.

        Before any iteration: where the first one will begin. Errors: InvalidArgument if workers have iterated since,
        whose places only their loader knows.
        """
        elsewhere = get_worker_info() is None and self._starts.count > self._starts_before
        if elsewhere and not called_by("torchdata", "torch.utils.data"):
            raise errors.InvalidArgument(
                "worker processes iterate over this dataset, and only their loader knows which batches were yielded: "
                "call state_dict() of the loader, a StreamLoader or torchdata's StatefulDataLoader"
            )
        return self._state(self._progress.place())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration continues from `state`, the state of a StreamDataset, a StreamLoader or a Stream.

        Errors: InvalidArgument if it is not a state, is another worker's, or if an iteration has begun.
        FingerprintMismatch if it is of another recipe, seed or engine version.
        """
        place, fingerprint = self._parse(state)
        place.for_worker(self._worker())
        if called_by("torchdata", "torch.utils.data") or get_worker_info() is not None:
            self._progress.load_for_the_very_next(place)
        elif self._starts.count:
            raise errors.InvalidArgument(
                "load_state_dict was called after workers had begun to iterate over this dataset, which it would not "
                "affect; call it before iter(), or on a new dataset"
            )
        else:
            self._progress.load(place)
        self.fingerprint = fingerprint

    def _state(self, place: Place | None) -> dict[str, Any]:
        place = place or Place(self.start)
        state = _checkpoint.to_dict(self._name, self.fingerprint, place.next_index)
        return state if place.worker is None else state | {"worker": dict(vars(place.worker))}

    def _parse(self, state: Mapping[str, Any]) -> tuple[Place, bytes | None]:
        """The place in a state, and the fingerprint to demand. Errors: as `load_state_dict`."""
        # A server is not asked here: this process must not use gRPC before it forks.
        resolve = self._resolve if self.server is None else None
        known = self.fingerprint
        if known is None and resolve is not None and isinstance(state, Mapping) and state.get("fingerprint"):
            known, _ = resolve()
        next_index, fingerprint = _checkpoint.check(state, self._name, known, resolve)
        return Place(next_index, worker_in(state)), fingerprint

    def _resolve(self) -> tuple[bytes, int]:
        """Fingerprint and engine version of the stream that this process makes."""
        from iterand._embedded import EmbeddedRoad, open_stream

        return EmbeddedRoad(open_stream(self.recipe, self.seed, self.length, self.loss_mask, None), False).resolve()

    def _worker(self) -> Worker | None:
        """This process as one of several workers."""
        info = get_worker_info()
        if info is None or info.num_workers == 1:
            return None
        return Worker(info.id, info.num_workers, self.batch_size * self.world_size)

    def _batches(self, place: Place, server: list[str] | None) -> Iterator[Batch]:
        """The batches from `place` on."""
        count = None
        if self.count is not None:
            end = self.start + self.count * self.world_size
            count = max(0, -((place.next_index + self.rank - end) // self.world_size))
        if place.next_index + self.rank >= 2**64:
            return
        every = 1 if place.worker is None else place.worker.workers
        with api.open_shard(
            self.recipe,
            Shard(self.batch_size, self.rank, self.world_size, place.next_index, count, every),
            expected_fingerprint=self.fingerprint,
            server=server or False,
            **self._call,
        ) as stream:
            yield from stream.batches()

    def _item(self, batch: Batch) -> Item:
        numpy_dtype = _numpy_dtype(self.dtype)
        if not np.can_cast(batch.tokens.dtype, numpy_dtype):
            raise errors.InvalidArgument(
                f"tokens of dtype {batch.tokens.dtype} do not fit into tensors of {self.dtype}"
            )
        item = {"tokens": torch.from_numpy(batch.tokens.astype(numpy_dtype))}
        return item if batch.loss_mask is None else item | {"loss_mask": torch.from_numpy(batch.loss_mask)}


class StreamIterator(Iterator[Item]):
    """One iteration over a StreamDataset. It connects when the first batch is asked for.

    Use `close`, or drop it, to leave before the end.

    >>> from iterand.torch import StreamDataset
    >>> iterator = iter(StreamDataset("up", length=128))
    >>> next(iterator)["tokens"].dtype, iterator.state_dict()["next_index"]
    (torch.int64, 64)
    >>> iterator.close()
    """

    def __init__(self, dataset: StreamDataset, begin: Place, server: list[str] | None) -> None:
        self._dataset = dataset
        self._server = server
        self._worker = dataset._worker()
        self._cursor = dataset._progress.begin(begin.for_worker(self._worker))
        self._batches: Iterator[Batch] | None = None

    def __repr__(self) -> str:
        return f"iter({self._dataset!r})"

    def __iter__(self) -> StreamIterator:
        return self

    def __next__(self) -> Item:
        if self._batches is None:
            self._dataset._progress.advance(self._cursor)
            self._batches = self._dataset._batches(self._cursor.place, self._server)
        try:
            batch = next(self._batches)
            item = self._dataset._item(batch)
        except KeyboardInterrupt:
            self._batches = None  # the next call starts again from the same place
            raise
        self._dataset.fingerprint = batch.fingerprint
        step = batch.rows * self._dataset.world_size
        if self._worker is not None:
            step += (self._worker.workers - 1) * self._worker.global_batch_size
        self._cursor.place = Place(self._cursor.place.next_index + step, self._worker)
        return item

    def state_dict(self) -> dict[str, Any]:
        """Where this iteration stands."""
        return self._dataset._state(self._cursor.place)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """This iteration continues from `state`. Errors: as those of StreamDataset.load_state_dict."""
        place, fingerprint = self._dataset._parse(state)
        if self._batches is not None:
            raise errors.InvalidArgument("load_state_dict was called after this iteration had begun")
        self._cursor.place = place.for_worker(self._worker)
        self._dataset.fingerprint = fingerprint

    def close(self) -> None:
        """Ends the iteration and its call to the server."""
        batches, self._batches = self._batches, iter(())
        if batches is not None and hasattr(batches, "close"):
            batches.close()


@functools.cache
def _numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """Errors: InvalidArgument if numpy has none such."""
    try:
        wanted: np.dtype[Any] = torch.empty(0, dtype=dtype).numpy().dtype
    except TypeError as error:
        raise errors.InvalidArgument(
            f"dtype is {dtype!r}; it must be a torch.dtype of integers, or of floats that numpy has"
        ) from error
    return wanted
