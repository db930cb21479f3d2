"""Worker processes: how they start quickly, how many fit, and what the parent knows of them."""

from __future__ import annotations

import logging
import mmap
import multiprocessing
import os
import struct
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import context
from typing import Any

from iterand import api, errors

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


def misfit(lanes: int, world_size: int, workers: int) -> str | None:
    """Why `workers` workers, 0 for none, cannot share a shard, one of `world_size` of a recipe with `lanes` lanes.

    None if they can.
    """
    if lanes % world_size:
        return (
            f"world_size={world_size} does not divide the recipe's {lanes} lanes; "
            f"nearest allowed: {_nearest(lanes, world_size)}"
        )
    if workers and lanes % (world_size * workers):
        return (
            f"num_workers={workers} does not fit world_size={world_size}: world_size x num_workers is "
            f"{world_size * workers}, which does not divide the recipe's {lanes} lanes; "
            f"nearest allowed: {_nearest(lanes // world_size, workers)} workers"
        )
    return None


def _nearest(whole: int, wanted: int) -> str:
    """The divisors of `whole` around `wanted`."""
    below = next(number for number in range(min(wanted, whole), 0, -1) if whole % number == 0)
    above = next((number for number in range(wanted, whole + 1) if whole % number == 0), None)
    return f"{below}" if above is None or above == below else f"{below} and {above}"


def lanes_of(stream: dict[str, Any]) -> int:
    """Lanes of the recipe, by its server. `stream` holds the arguments of `iterand.describe`."""
    info = api.describe(**stream).stream
    if info is None:
        raise errors.ProtocolError("the server described no stream")
    return info.lanes


def check_workers(stream: dict[str, Any], world_size: int, workers: int, method: Any) -> None:
    """Errors: InvalidArgument if this many workers do not fit, and the server's errors about the stream.

    The server is asked in a process like the workers', so that this process may still fork others: gRPC would not
    survive it. `method` is the loader's multiprocessing_context, a name or a context.
    """
    if isinstance(method, str):
        method = multiprocessing.get_context(method)
    try:
        with ProcessPoolExecutor(1, mp_context=method) as pool:
            lanes = pool.submit(lanes_of, stream).result()
    except BrokenProcessPool:
        return  # processes do not start here: the loader's own error will say why
    problem = misfit(lanes, world_size, workers)
    if problem is not None:
        raise errors.InvalidArgument(problem)
