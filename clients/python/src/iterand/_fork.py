"""Forked processes: a child inherits gRPC's sockets, but not its threads and locks.

A child must therefore neither call gRPC nor free what gRPC has made. To free an unfinished call resets it on the socket
that the child shares with its parent.

gRPC's own handlers start its threads again in a child, where they continue to read from the shared sockets. The parent
then misses bytes, and its connection breaks or stalls. With GRPC_ENABLE_FORK_SUPPORT=1 the child waits endlessly for
calls that were in progress. Connections are therefore closed before a fork. Calls continue in the parent after it.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import weakref
from typing import Any, Protocol

from iterand import errors

_process: int | None = None  # the process in which gRPC runs, if it does
_handles: weakref.WeakSet[Any] = weakref.WeakSet()


class Interruptible(Protocol):
    def interrupt(self) -> None:
        """Ends the calls in progress, so that they are made again."""


connections: weakref.WeakSet[Interruptible] = weakref.WeakSet()
forks = 0  # of this process while it used gRPC; connections from before must not be used again
gate = threading.RLock()  # held while a call starts, and while the process forks; taken before any other lock


def enter() -> None:
    """Notes that this process uses gRPC from now on. Errors: as `check`."""
    global _process
    check()
    _process = os.getpid()


def inherited() -> bool:
    """Whether this process was forked from one that had used gRPC."""
    return _process is not None and _process != os.getpid()


def check() -> None:
    """Errors: ForkedProcess in a child, made by fork, of a process that has used gRPC."""
    if inherited():
        raise errors.ForkedProcess(
            f"process {os.getpid()} was forked from process {_process}, which had used iterand: gRPC does not "
            'survive a fork. Start processes by multiprocessing.get_context("forkserver") or "spawn"; '
            'a DataLoader takes multiprocessing_context="forkserver", and iterand.torch.StreamLoader does so by itself'
        )


def keep(handle: Any) -> None:
    """Keeps a channel or a call of gRPC alive in children that are forked while it is in use."""
    _handles.add(handle)


def _before() -> None:
    global forks
    gate.acquire()
    if _process == os.getpid():
        forks += 1
        for connection in list(connections):
            connection.interrupt()


def _in_child() -> None:
    gate.release()
    if inherited():
        for handle in list(_handles):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))


@functools.cache
def register() -> None:
    """Makes forks close connections first. Must be called after the first channel was made.

    Handlers that were registered last run first. gRPC registers its own with the first channel, and they stop the
    threads that closing a channel needs.
    """
    os.register_at_fork(before=_before, after_in_parent=gate.release, after_in_child=_in_child)
