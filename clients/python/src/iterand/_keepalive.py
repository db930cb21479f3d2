"""Finds servers that are silent: stopped, hung, or at the end of a connection that is lost.

TCP does not show it, since the kernel of a stopped server accepts what is sent to it. gRPC's own keepalive cannot be
short: it mistakes a trainer that pauses for a silent server, because answers wait after batches that are not read.
Calls therefore note when they wait for the server. Once a call has waited for a while, a health check goes out on its
channel. A server that makes a batch for minutes answers the check; one that does not answer is silent.
"""

from __future__ import annotations

import atexit
import itertools
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import grpc

from iterand import _fork

_TICK = 0.25  # seconds between looks at the calls in progress

# Calls of this process to one server beside which a check certainly finds room: HTTP/2 advises servers to allow 100 per
# connection. With more, the check takes a connection of its own.
_CROWD = 90

_SILENCE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)

_numbers = itertools.count()


def unshared() -> tuple[str, int]:
    """An option that gives a channel connections of its own: gRPC shares them between channels with equal options."""
    return "iterand.channel", next(_numbers)


class Link:
    """A channel to one server, and when something was last received from there.

    where: the target, as errors name it.
    keepalive_time, keepalive_timeout: seconds that a call waits before a check, and that the check may take.
    patience: the former while nothing has come yet.
    connect: makes a channel of its own to the same server.
    drop: called when the server is silent; closes the channel, which ends the calls on it.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        target: str,
        where: str,
        keepalive_time: float,
        keepalive_timeout: float,
        patience: float,
        connect: Callable[[], grpc.Channel],
        drop: Callable[[Link], None],
    ) -> None:
        self.channel = channel
        self.target = target
        self.where = where
        self.heard: float | None = None  # time.monotonic
        self.silent = False
        self.interrupted = False  # closed for a fork
        self._time = keepalive_time
        self._timeout = keepalive_timeout
        self._patience = patience
        self._connect = connect
        self._drop = drop
        self._check: Any = None
        self._extra: grpc.Channel | None = None

    def silence(self) -> str:
        """What an error says about a silent server."""
        return f"{self.where}: the server is silent: it did not answer a health check within {self._timeout:g} s"

    def look(self, calls: list[Waiting], crowd: bool) -> None:
        """Starts a check if a call has waited for long, or reads the outcome of the one in progress."""
        now = time.monotonic()
        if self._check is None:
            allowed = self._patience if self.heard is None else self._time
            waits = (call.waiting_since for call in calls)
            if any(since is not None and now - max(since, self.heard or 0.0) >= allowed for since in waits):
                self._start(crowd)
            return
        if not self._check.done():
            return
        code = self._check.code()
        self._finish()
        if code not in _SILENCE:  # any other answer is one
            self.heard = now
        elif any(call.waiting_since is not None for call in calls):
            self.silent = True
            self._drop(self)

    def _start(self, crowd: bool) -> None:
        try:
            self._extra = self._connect() if crowd else None
            method = (self._extra or self.channel).unary_unary("/grpc.health.v1.Health/Check", bytes, bytes)
            self._check = method.future(b"", timeout=self._timeout)
            _fork.keep(self._check)
        except ValueError:  # the channel has been closed
            self._finish()

    def _finish(self) -> None:
        self._check = None
        extra, self._extra = self._extra, None
        if extra is not None:
            extra.close()


class Waiting:
    """A call in progress, from its making until `end` or until it is dropped."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.waiting_since: float | None = None  # time.monotonic; None while it does not wait for the server
        _watchdog.add(self)

    def end(self) -> None:
        self.waiting_since = None
        _watchdog.remove(self)


class _Watchdog:
    """One thread for all calls in progress; it ends when there are none."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a generator may be dropped at any point
        self._calls: weakref.WeakSet[Waiting] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._exit = threading.Event()

    def add(self, call: Waiting) -> None:
        with self._lock:
            self._calls.add(call)
            if self._thread is None and not self._exit.is_set():
                self._thread = threading.Thread(target=self._run, name="iterand-keepalive", daemon=True)
                self._thread.start()

    def remove(self, call: Waiting) -> None:
        with self._lock:
            self._calls.discard(call)

    def close(self) -> None:
        """A thread that is inside of gRPC when the interpreter ends aborts the process."""
        self._exit.set()
        thread = self._thread
        if thread is not None and not _fork.inherited():
            thread.join(1.0)

    def _run(self) -> None:
        while not self._exit.wait(_TICK):
            with self._lock:
                calls = list(self._calls)
                if not calls:
                    self._thread = None
                    return
            by_link: dict[Link, list[Waiting]] = {}
            by_target: dict[str, int] = {}
            for call in calls:
                by_link.setdefault(call.link, []).append(call)
                by_target[call.link.target] = by_target.get(call.link.target, 0) + 1
            for link, its in by_link.items():
                link.look(its, by_target[link.target] >= _CROWD)


_watchdog = _Watchdog()
atexit.register(_watchdog.close)
