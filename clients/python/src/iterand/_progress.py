"""Distinguishes the place of each iteration from where the next one begins.

Every iterator owns a Cursor, which nothing else moves. A dataset or a loader owns a Progress, which only remembers the
state that was loaded, and which cursor `state_dict` reports.
"""

from __future__ import annotations

import sys
import weakref
from dataclasses import dataclass
from typing import Any

from iterand import errors
from iterand._requests import check_range


@dataclass(frozen=True)
class Worker:
    """A worker of a loader: of the global batches from the loader's begin on it has `id`, `id` + `workers`, ..."""

    id: int
    workers: int
    global_batch_size: int


@dataclass(frozen=True)
class Place:
    """Where one iteration stands: the index of the first row of the global batch that it takes next.

    `worker` is None where all batches are seen. A worker's place says nothing of the others'.
    """

    next_index: int
    worker: Worker | None = None

    def for_worker(self, worker: Worker | None) -> Place:
        """The same place for a worker, or for the process that sees all batches. Errors: InvalidArgument."""
        if self.worker is None and worker is not None:
            return Place(self.next_index + worker.id * worker.global_batch_size, worker)
        if self.worker != worker:
            raise errors.InvalidArgument(
                f"state is of {_words(self.worker)}, but was given to {_words(worker)}: resume with the same "
                "num_workers, batch_size and world_size, or save the state of a StreamLoader, which resumes with any"
            )
        return self


def worker_in(state: Any) -> Worker | None:
    """The part "worker" of a state. Errors: InvalidArgument."""
    if state.get("worker") is None:
        return None
    try:
        found = Worker(**state["worker"])
        check_range("workers", found.workers, 1, 2**32)
        check_range("id", found.id, 0, found.workers - 1)
        check_range("global_batch_size", found.global_batch_size, 1, 2**64)
    except (TypeError, ValueError) as error:
        raise errors.InvalidArgument(f"state is not what state_dict gave: {error!r}") from error
    return found


def _words(worker: Worker | None) -> str:
    if worker is None:
        return "a process without workers"
    return f"worker {worker.id} of {worker.workers} with global batches of {worker.global_batch_size} rows"


class Cursor:
    """The place of one iteration. It belongs to that iteration's iterator."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.number = 0  # among the iterations of one Progress


class Progress:
    """The iterations over one dataset or loader.

    `state_dict` reports the iteration that was begun last. An iterator counts from the moment that it is made, but one
    that is dropped before its first batch leaves no trace. Without an iteration, the loaded state is reported.

    A loaded state is where iterations begin until one of them takes its first batch. Later ones begin at the start.
    """

    def __init__(self, loaded: Place | None = None) -> None:
        self._loaded = loaded
        self._used_once = False  # the very next iteration uses up the loaded state, whether it takes a batch or not
        self._iterations = 0
        self._advanced = False  # an iteration has taken its first batch
        self._latest: Cursor | None = None  # of the iterations that have taken a batch
        self._newest: weakref.ref[Cursor] | None = None

    def copy(self) -> Progress:
        """For a copy of the dataset or loader: its first iteration begins where the next one of this would."""
        return Progress(self.next_begin())

    @property
    def advanced(self) -> bool:
        return self._advanced

    def next_begin(self) -> Place | None:
        """Where the next iteration begins; None for the start of the stream."""
        return None if self._advanced else self._loaded

    def begin(self, place: Place) -> Cursor:
        """A cursor for a new iteration from `place`."""
        self._iterations += 1
        cursor = Cursor(place)
        cursor.number = self._iterations
        self._newest = weakref.ref(cursor)
        if self._used_once:
            self._loaded, self._used_once = None, False
        return cursor

    def advance(self, cursor: Cursor | None) -> None:
        """An iteration is about to take its first batch; None for one that a loader reports by itself."""
        self._advanced = True
        if cursor is not None and (self._latest is None or cursor.number > self._latest.number):
            self._latest = cursor

    def place(self) -> Place | None:
        """What `state_dict` reports; None for the start of the stream."""
        cursor = (self._newest() if self._newest is not None else None) or self._latest
        return self.next_begin() if cursor is None else cursor.place

    def load(self, place: Place) -> None:
        """The next iteration begins at `place`.

        Errors: InvalidArgument if an iterator exists or one has taken a batch. Lightning makes one and drops it first.
        """
        if self._advanced or (self._newest is not None and self._newest() is not None):
            raise errors.InvalidArgument(
                "load_state_dict was called after iteration had begun, which it would not affect; "
                "call it before iter(), or on a new dataset and loader"
            )
        self._loaded = place

    def load_for_the_very_next(self, place: Place) -> None:
        """As `load`, for a caller that begins an iteration at once."""
        self._loaded, self._used_once, self._advanced = place, True, False


def called_by(*packages: str) -> bool:
    """Whether the method that asks was called by one of these packages.

    torchdata's loader saves and restores the dataset beside its iterator, and begins an iteration right after
    restoring. So it may restore a dataset of this process that was iterated before, which from other callers is a
    mistake.
    """
    module = str(sys._getframe(2).f_globals.get("__name__", ""))
    return module.startswith(tuple(f"{package}." for package in packages))
