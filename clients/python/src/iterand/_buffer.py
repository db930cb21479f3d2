"""A queue between two threads."""

from __future__ import annotations

import contextlib
from queue import Empty, SimpleQueue
from typing import Any

from iterand._batch import Batch


class Buffer:
    """A bounded queue from the thread that reads the network to the one that trains.

    It is made of SimpleQueues because they are cheap and their `put` is reentrant. A finaliser may call `close` at any
    point of this or another thread.
    """

    def __init__(self, capacity: int) -> None:
        self._items: SimpleQueue[Batch | BaseException | None] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()  # an entry for each item that may be put
        for _ in range(capacity):
            self._room.put(None)
        self._capacity = capacity
        self._hurry: SimpleQueue[None] = SimpleQueue()  # ends a pause
        self._call: Any = None
        self.closed = False

    def put(self, item: Batch | BaseException | None) -> None:
        """Waits for room; drops the item if the consumer has gone. None ends the stream."""
        if not self.closed:
            self._room.get()
        if not self.closed:
            self._items.put(item)

    def get(self) -> Batch | BaseException | None:
        item = self._items.get()
        self._room.put(None)
        return item

    def narrow(self, capacity: int) -> None:
        """Leaves less room. Before the first `put`."""
        for _ in range(self._capacity - capacity):
            self._room.get()
        self._capacity = capacity

    def watch(self, call: Any) -> bool:
        """Remembers the call in flight, so that it can be cancelled. False if closed already."""
        self._call = call  # before `closed` is read; close() does the opposite, so one side always sees the other
        return not self.closed

    def pause(self, seconds: float) -> None:
        """Waits, at most until the buffer is closed."""
        with contextlib.suppress(Empty):
            self._hurry.get(timeout=seconds)

    def cancel(self) -> None:
        """Cancels the call in flight."""
        call = self._call
        if call is not None:
            call.cancel()

    def close(self) -> None:
        """Releases both sides. The call in flight must be cancelled next."""
        self.closed = True
        self._room.put(None)
        self._hurry.put(None)
        with contextlib.suppress(Empty):
            while True:
                self._items.get_nowait()
        self._items.put(None)
