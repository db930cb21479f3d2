"""A run of the server program that belongs to this process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from iterand.errors import Error

_POLL_SECONDS = 0.02


class ServerProcess:
    """`PROGRAM serve`, started by the constructor and stopped by `stop` or at the end of a `with` block.

    `address` is where it listens, `process` the process itself.
    """

    def __init__(
        self,
        program: str | os.PathLike[str],
        *options: str,
        listen: str = "127.0.0.1:0",
        timeout: float = 30.0,
        stderr: int | IO[Any] | None = None,
        wrapper: Sequence[str] = (),
    ) -> None:
        """Returns when the server listens.

        options: further arguments of `serve`. listen: its `--listen`; port 0 takes a free port. timeout: seconds to
        wait. stderr: where the server logs to, as for subprocess.Popen; None: this process's standard error.
        wrapper: a command that runs the command line appended to it.

        Errors: OSError if the program cannot be run; iterand.Error if it ends before it listens, or does not listen in
        time.
        """
        self._program = os.fspath(program)
        self._folder = tempfile.TemporaryDirectory(prefix="iterand-server.")
        with contextlib.ExitStack() as undo:
            undo.callback(self._folder.cleanup)
            file = Path(self._folder.name) / "address"
            command = [*wrapper, self._program, "serve", "--listen", listen, "--address-file", str(file), *options]
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
            undo.callback(self._kill)
            self.address = self._wait_for_address(file, timeout)
            undo.pop_all()

    def _wait_for_address(self, file: Path, timeout: float) -> str:
        end = time.monotonic() + timeout
        while True:
            with contextlib.suppress(FileNotFoundError):
                if address := file.read_text().strip():
                    return address
            if (status := self.process.poll()) is not None:
                raise Error(f"{self._program} serve ended at once, with exit status {status}")
            if time.monotonic() > end:
                raise Error(f"{self._program} serve did not listen within {timeout:g} seconds")
            time.sleep(_POLL_SECONDS)

    def _kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, how: int = signal.SIGTERM, timeout: float = 60.0) -> int:
        """Sends the signal `how` and returns the exit status. After `timeout` seconds the process is killed."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._kill()
        finally:
            self._folder.cleanup()
        return self.process.returncode

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
