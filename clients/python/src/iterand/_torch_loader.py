"""StreamLoader: see iterand.torch."""

from __future__ import annotations

import atexit
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from iterand import _workers, errors
from iterand._progress import Place, Progress, called_by
from iterand._requests import check_range
from iterand._torch_dataset import Item, StreamDataset

if TYPE_CHECKING:
    from iterand._server import Server


class _Shipment(IterableDataset[Any]):
    """What a loader's iteration reads: a batch, its rows and the stream's fingerprint, or the error of a worker.

    The loader's process would not learn the fingerprint otherwise, and a DataLoader would wrap the error's text and
    drop its code.
    """

    def __init__(
        self, dataset: StreamDataset, begin: Place, server: list[str] | None, collate: Callable[[Item], Any] | None
    ) -> None:
        super().__init__()
        self._dataset = dataset
        self._begin = begin
        self._server = server
        self._collate = collate

    def __iter__(self) -> Iterator[Any]:
        try:
            for item in self._dataset._iterate_from(self._begin, self._server):
                rows = item["tokens"].shape[0]
                batch = item if self._collate is None else self._collate(item)
                yield batch, rows, self._dataset.fingerprint or b""
        except errors.Error as error:
            if get_worker_info() is None:
                raise
            yield error


def _as_is(shipment: Any) -> Any:
    """A DataLoader's own `collate_fn` would look into every batch for arrays to convert."""
    return shipment


class StreamLoader:
    """A DataLoader over a StreamDataset that can be saved and resumed, and gives the same batches with any number of
    workers.

    `options` go to the DataLoader (pin_memory, prefetch_factor, ...); `collate_fn` is called with each item. Workers
    are started by a fork server unless `multiprocessing_context` says otherwise. A dataset without a server needs no
    workers. If there are some, the loader starts one server that they share, with the cores of `iterand.set_threads`,
    and stops it when the loader is dropped.

    Every iteration begins at the stream's start, except the first after `load_state_dict`. Several iterators may be in
    use at once, each with workers of its own. `len` is the number of batches of a whole iteration, if the dataset has a
    `count`.

    >>> from iterand.torch import StreamDataset, StreamLoader
    >>> loader = StreamLoader(StreamDataset("up", length=128, batch_size=32))
    >>> for step, batch in zip(range(2), loader):
    ...     print(step, tuple(batch["tokens"].shape))
    0 (32, 128)
    1 (32, 128)
    >>> state = loader.state_dict()  # save it with the model
    >>> resumed = StreamLoader(StreamDataset("up", length=128, batch_size=8))
    >>> resumed.load_state_dict(state)
    >>> resumed.state_dict()["next_index"]
    64
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
        self._progress = Progress()
        self._server: Server | None = None  # for the workers of a dataset that has none

    def __repr__(self) -> str:
        options = "".join(
            f", {name}={value!r}"
            for name, value in self._options.items()
            if (name, value) != ("multiprocessing_context", "forkserver")
        )
        return f"StreamLoader({self.dataset!r}, num_workers={self.num_workers}{options})"

    def __getstate__(self) -> dict[str, Any]:
        # A copy has iterations and a server of its own.
        return self.__dict__ | {"_progress": self._progress.copy(), "_server": None}

    def __len__(self) -> int:
        """As len(dataset). Errors: TypeError if the stream is endless."""
        return len(self.dataset)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> LoaderIterator:
        """Starts the workers, and the server that they share if the dataset has none."""
        return LoaderIterator(self, self._next_begin())

    def _address(self) -> list[str] | None:
        """Where the sequences come from; None: this process. Errors: InvalidArgument."""
        if self.num_workers == 0 or self.dataset.server is not None:
            return self.dataset.server
        if self._server is None:
            from iterand._native import core
            from iterand._server import Server

            try:
                self._server = Server(listen="unix:", threads=core.threads(), options=("--log-level", "error"))
            except (OSError, errors.Error) as error:
                raise errors.InvalidArgument(
                    f"num_workers is {self.num_workers} and the dataset has no server, so its workers would share one, "
                    f"which does not start ({error}). Use num_workers=0, whose sequences are made ahead on threads of "
                    "this process, or give the dataset a server="
                ) from error
            weakref.finalize(self, self._server.stop)
            atexit.register(_close_all)  # before the server's own: workers should not see it stop
        return [self._server.address]

    def _next_begin(self) -> Place:
        begin = self._progress.next_begin()
        if begin is None and not self._progress.advanced:
            begin = self.dataset._progress.next_begin()
        return (begin or Place(self.dataset.start)).for_worker(None)

    def state_dict(self) -> dict[str, Any]:
        """What the latest iteration has yielded so far, as plain data (JSON can hold it).

        Before any iteration: where the first one will begin. Each iterator has a `state_dict` of its own.
        """
        if self.dataset.count is None and called_by("lightning", "pytorch_lightning"):
            raise errors.InvalidArgument(
                "Lightning reads one batch ahead of a loader that has no length, so its checkpoint would continue one "
                "batch late: give the StreamDataset a count, such as max_steps * batch_size"
            )
        place = self._progress.place()
        if place is None and not self._progress.advanced:
            place = self.dataset._progress.next_begin()
        return self.dataset._state(place)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration continues from `state`, the state of a StreamLoader or a Stream.

        Errors: InvalidArgument if it is not a state, or if an iteration has begun. FingerprintMismatch if it is of
        another recipe, seed or engine version.
        """
        place, fingerprint = self.dataset._parse(state)
        self._progress.load(place.for_worker(None))
        self.dataset.fingerprint = fingerprint


class LoaderIterator(Iterator[Item]):
    """One iteration over a StreamLoader, with workers of its own. Use `close`, or drop it, to leave before the end.

    >>> from iterand.torch import StreamDataset, StreamLoader
    >>> iterator = iter(StreamLoader(StreamDataset("up", length=128, batch_size=32)))
    >>> batch = next(iterator)
    >>> iterator.state_dict()["next_index"]
    32
    >>> iterator.close()
    """

    def __init__(self, loader: StreamLoader, begin: Place) -> None:
        if loader.num_workers > 0:
            _workers.preload_fork_server()
            _workers.warn_of_slow_workers()
        self._loader = loader
        self._ended = False
        self._batches: Iterator[Any] | None = self._start(begin)
        self._cursor = loader._progress.begin(begin)
        if loader.num_workers > 0:
            loader.dataset._starts.loaders += 1
            _with_workers.add(self)

    def _start(self, begin: Place) -> Iterator[Any]:
        loader = self._loader
        shipment = _Shipment(loader.dataset, begin, loader._address(), loader._options.get("collate_fn"))
        if loader.num_workers == 0 and loader._options.keys() <= {"collate_fn"}:
            return iter(shipment)  # a DataLoader would only add marks for a profiler
        options = loader._options | {"collate_fn": _as_is}
        return iter(DataLoader(shipment, batch_size=None, num_workers=loader.num_workers, **options))

    def __repr__(self) -> str:
        return f"iter({self._loader!r})"

    def __iter__(self) -> LoaderIterator:
        return self

    def __next__(self) -> Item:
        if self._ended:
            raise StopIteration
        self._loader._progress.advance(self._cursor)
        self._loader.dataset._progress.advance(None)
        begin = time.perf_counter()
        try:
            if self._batches is None:
                self._batches = self._start(self._cursor.place)
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
        batch, rows, self._loader.dataset.fingerprint = item
        self._cursor.place = Place(self._cursor.place.next_index + rows * self._loader.dataset.world_size)
        return batch  # type: ignore[no-any-return]

    def state_dict(self) -> dict[str, Any]:
        """What this iteration has yielded so far, as StreamLoader.state_dict."""
        return self._loader.dataset._state(self._cursor.place)

    def close(self) -> None:
        """Ends the iteration and its workers."""
        self._ended, self._batches = True, None


_with_workers: weakref.WeakSet[LoaderIterator] = weakref.WeakSet()


def _close_all() -> None:
    for iterator in list(_with_workers):
        iterator.close()
