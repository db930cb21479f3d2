"""The programs that made the sequences on show in the live view."""

from __future__ import annotations

import threading

from iterand import errors
from iterand._printable import printable

_CORE_SECONDS = 1.0  # for one program


class Programs:
    """Finds the programs on a thread of its own.

    It gives up at the first that it cannot find: the others are as expensive, or as unknown. KeyboardInterrupt inside
    `want` or `of` can leave the lock taken, and then `close` waits forever. Callers must hold it back.
    """

    def __init__(self, recipe: str, seed: int, length: int | None) -> None:
        self._recipe = recipe
        self._seed = seed
        self._length = length
        self._changed = threading.Condition()
        self._fingerprint = b""
        self._wanted: list[int] = []
        self._found: dict[int, str] = {}
        self.known = True  # until it gives up
        self._thread = threading.Thread(target=self._find, name="iterand-programs", daemon=True)
        self._thread.start()

    def want(self, indices: list[int], fingerprint: bytes) -> None:
        """Finds the programs of these sequences, and forgets all others."""
        with self._changed:
            self._fingerprint = fingerprint
            self._wanted = [index for index in indices if index not in self._found]
            self._found = {index: program for index, program in self._found.items() if index in indices}
            self._changed.notify_all()

    def of(self, index: int) -> str:
        """The parameters of the program that made a sequence last; empty while they are unknown, or if none did."""
        with self._changed:
            return self._found.get(index, "")

    @property
    def busy(self) -> bool:
        """Whether some of the wanted ones may still be found."""
        return bool(self._wanted) and self.known

    def close(self) -> None:
        with self._changed:
            self.known = False
            self._changed.notify_all()
        self._thread.join()

    def _find(self) -> None:
        try:
            from iterand._embedded import explanation, open_stream

            stream = None
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._wanted or not self.known)
                    if not self.known:
                        return
                    index, fingerprint = self._wanted[0], self._fingerprint
                if stream is None:
                    stream = open_stream(self._recipe, self._seed, self._length, False, fingerprint)
                steps = explanation(stream, index, _CORE_SECONDS).steps
                with self._changed:
                    if self._wanted[:1] == [index]:
                        del self._wanted[0]
                        self._found[index] = printable(steps[-1].program) if steps else ""
                    self._changed.notify_all()
        except (errors.Error, ImportError):
            with self._changed:
                self.known = False
                self._changed.notify_all()
