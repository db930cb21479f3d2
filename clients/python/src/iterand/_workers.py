"""Worker processes: how they start quickly, and what the parent knows of them."""

from __future__ import annotations

import logging
import mmap
import multiprocessing
import os
import struct
from multiprocessing import context
from typing import Any

_log = logging.getLogger("iterand")

_PRELOADED = "iterand.torch"
_warned = False


def preload_fork_server() -> None:
    """Adds iterand.torch, and so torch, to what a fork server imports before its first process.

    Without that every worker imports torch again, which takes seconds. Modules that the caller has named stay. A fork
    server that runs already cannot be changed; see `warn_of_slow_workers`.
    """
    server = _fork_server()
    if server is None or getattr(server, "_forkserver_pid", None) is not None:
        return
    modules = list(getattr(server, "_preload_modules", None) or [])
    if _PRELOADED not in modules:
        multiprocessing.set_forkserver_preload([*modules, _PRELOADED])


def warn_of_slow_workers() -> None:
    """Logs once if a fork server runs that has not imported torch."""
    global _warned
    server = _fork_server()
    modules = getattr(server, "_preload_modules", None) or []
    running = getattr(server, "_forkserver_pid", None) is not None
    if running and not _warned and not {_PRELOADED, "torch"} & set(modules):
        _warned = True
        _log.warning(
            "the fork server was started before any StreamDataset, so every worker imports torch again, at every "
            "epoch; make the dataset earlier, or call multiprocessing.set_forkserver_preload(['iterand.torch']) first"
        )


def _fork_server() -> Any:
    """multiprocessing's own, which has no public way to add to its list; None where there is none."""
    try:
        from multiprocessing import forkserver
    except ImportError:  # Windows
        return None
    return getattr(forkserver, "_forkserver", None)


class WorkerStarts:
    """Counts the worker processes that an object was given to, in the process that owns the object.

    A process that is started by a fork server or by spawn unpickles a copy, which the owner sees. A forked process has
    no copy made, so it notes itself in memory that it shares with the owner.
    """

    _LAYOUT = struct.Struct("=q?q")  # forked workers; whether the next field is set; seed of the first epoch

    def __init__(self, number: int | None = None) -> None:
        self._number = number  # of the copy, counted by the owner of the original
        self._pickled = 0
        self.loaders = 0  # iterations with workers that a StreamLoader has begun
        self._process = os.getpid()
        self._shared = mmap.mmap(-1, self._LAYOUT.size)

    def __reduce__(self) -> tuple[type[WorkerStarts], tuple[int | None]]:
        return type(self), (self._number,)

    def copy(self) -> WorkerStarts:
        """For a copy of the owning object; counts it if a process is being started with it."""
        if context.get_spawning_popen() is None:
            return WorkerStarts()
        self._pickled += 1
        return WorkerStarts(self._pickled - 1)

    @property
    def count(self) -> int:
        forked, _, _ = self._LAYOUT.unpack(self._shared[:])
        return int(self._pickled + forked + self.loaders)

    def note_worker(self, info: Any) -> bool:
        """Called in a worker, with torch's WorkerInfo: whether it is of the first set of workers that had the object.

        A loader starts the workers of an epoch one after the other, so the number of a copy identifies its set.
        Forked workers have no number; those of one epoch share a seed.
        """
        if os.getpid() == self._process:
            return self._number is None or self._number == info.id
        seed = info.seed - info.id
        forked, known, first = self._LAYOUT.unpack(self._shared[:])
        if not known:
            first = seed
        self._shared[:] = self._LAYOUT.pack(forked + 1, True, first)
        return bool(first == seed)
