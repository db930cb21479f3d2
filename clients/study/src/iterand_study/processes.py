"""Several runs at a time, each in a process of its own. (parallel.py is about one run in several processes.)"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any

import torch


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _start(count: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the parent ends its workers
    threading.Thread(target=_exit_with_parent, daemon=True).start()  # also if the parent was killed
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))


_ENDED = (
    "a process of --jobs ended by itself (killed, or memory ran out); the same command continues with what is not "
    "finished, and fewer --jobs need less memory"
)


class Processes:
    """Calls functions in worker processes, at most `count` at a time and in the order of `submit`; with a count of 1 in
    this process. A context manager: on an error or an interrupt it ends the workers, otherwise it waits for them.
    """

    def __init__(self, count: int) -> None:
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None
        self._futures: list[concurrent.futures.Future[None]] = []
        if count > 1:
            spawn = multiprocessing.get_context("spawn")  # a fork would copy gRPC's and PyTorch's threads
            self._pool = concurrent.futures.ProcessPoolExecutor(count, spawn, _start, (count,))

    def submit(self, function: Callable[..., None], *arguments: Any) -> None:
        """function and arguments can be pickled. Errors: as of wait, or with a count of 1 the function's."""
        if self._pool is None:
            function(*arguments)
            return
        try:
            self._futures.append(self._pool.submit(function, *arguments))
        except BrokenProcessPool as error:
            raise ChildProcessError(_ENDED) from error

    def wait(self) -> None:
        """Returns when all calls have. Errors: the first that a call raised; ChildProcessError if a worker ended."""
        try:
            for future in concurrent.futures.as_completed(self._futures):
                future.result()
        except BrokenProcessPool as error:
            raise ChildProcessError(_ENDED) from error
        self._futures.clear()

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.wait()
        finally:
            if self._pool is not None:
                workers = multiprocessing.active_children() if self._futures else []
                self._pool.shutdown(wait=False, cancel_futures=True)
                for worker in workers:
                    worker.terminate()
                for worker in workers:
                    worker.join()
