"""Runs of the server program that belong to this process."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from iterand import _program, errors
from iterand._requests import check_range
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
        stdin: int | IO[Any] | None = None,
        wrapper: Sequence[str] = (),
    ) -> None:
        """Returns when the server listens.

        options: further arguments of `serve`. listen: its `--listen`; port 0 takes a free port. timeout: seconds to
        wait. stderr: where the server logs to, as for subprocess.Popen; None: this process's standard error. stdin:
        likewise.
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
            self.process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=stderr)
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
            if self.process.stdin is not None:
                self.process.stdin.close()
            self._folder.cleanup()
        return self.process.returncode

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Server:
    """A server of this machine, for processes that share what it makes.

    >>> with iterand.Server(threads=2) as server:
    ...     row = iterand.read("up", 7, server=server)  # other processes: server=ADDRESS, what server.address is
    >>> bool((row == iterand.read("up", 7)).all())
    True
    >>> server = iterand.Server(listen="unix:")  # without `with`: until the end of this process, or until
    >>> server.stop()

    It is the program `iterand serve` that comes with the package, and listens when the constructor returns. `address`
    is where: what this and other processes give as `server=`. It is stopped by `stop`, at the end of a `with` block and
    at the end of this process, however sudden. Streams that are open then end with Unavailable.
    """

    def __init__(
        self,
        *,
        threads: int | None = None,
        listen: str = "127.0.0.1:0",
        options: Sequence[str] = (),
        timeout: float = 30.0,
    ) -> None:
        """Returns when the server listens.

        threads: cores that it uses; None: all.
        listen: where; port 0 takes a free port, and "unix:" a socket in a folder of its own, which only this user can
            connect to.
        options: further arguments of `iterand serve`.
        timeout: seconds to wait until it listens.

        Errors: FileNotFoundError if the program does not exist; iterand.Error if it does not start.
        """
        if threads is not None:
            check_range("threads", threads, 1, 4096)
        if not isinstance(listen, str):
            raise errors.InvalidArgument(f"listen is {listen!r}; it must be host:port or unix:path")
        self._owner = os.getpid()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        if listen == "unix:":
            self._folder = tempfile.TemporaryDirectory(prefix="iterand-server.")
            listen = f"unix:{self._folder.name}/socket"
        arguments = ["--until-stdin-ends", *options]
        arguments += [] if threads is None else ["--threads", str(int(threads))]
        arguments += [] if "--drain" in options else ["--drain", "0"]
        self._running: ServerProcess | None = None
        try:
            self._running = ServerProcess(
                _program.path(), *arguments, listen=listen, timeout=timeout, stdin=subprocess.PIPE
            )
        except BaseException:
            self._remove_folder()
            raise
        self._address = self._running.address
        atexit.register(self.stop)

    @property
    def address(self) -> str:
        """Errors: Error after `stop`."""
        if self._running is None:
            raise Error("the server was stopped")
        return self._address

    def stop(self) -> None:
        """Ends the server. Does nothing in a forked process."""
        running, self._running = self._running, None
        if running is None or self._owner != os.getpid():
            return
        atexit.unregister(self.stop)
        running.stop()
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def __repr__(self) -> str:
        return f"<Server at {self._address}{'' if self._running is not None else ', stopped'}>"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
