"""A real server on a free port for all tests."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

# Read when torch is first imported. Models this small gain nothing from a second thread, and on a busy machine the two
# wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Workers of loaders are forked from a server that has imported torch, once for all tests.
multiprocessing.set_forkserver_preload(["iterand.torch"])

REPOSITORY = Path(__file__).resolve().parents[3]


def binary() -> str:
    path = Path(os.environ.get("ITERAND_BINARY", REPOSITORY / "build/release/clients/cli/iterand"))
    if not path.is_file():
        pytest.exit(f"{path} is not there: build the target `iterand`, or name its binary by ITERAND_BINARY", 2)
    return str(path)


class Server:
    """A server process that can be stopped and started again on the same port."""

    def __init__(self, folder: Path, *options: str, listen: str = "127.0.0.1:0") -> None:
        self._file = folder / "address"
        self._options = options
        self.address = listen
        self.start()

    def start(self) -> None:
        self._file.unlink(missing_ok=True)
        command = [binary(), "serve", "--listen", self.address, "--address-file", str(self._file)]
        command += ["--drain", "1", *self._options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while not (self._file.exists() and self._file.read_text().strip()):
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{' '.join(command)} did not come up; exit status {self.process.poll()}")
            time.sleep(0.02)
        self.address = self._file.read_text().strip()

    def stop(self, how: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(30)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, to stop and restart."""
    running = Server(tmp_path)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def address(server: Server) -> str:
    return server.address


def sample(count: int, *, recipe: str = "up", seed: int = 0, length: int = 128, **options: object) -> np.ndarray:
    """What `iterand sample --format raw` prints, as rows x length bytes."""
    command = [binary(), "sample", "--recipe", recipe, "--seed", str(seed), "--count", str(count)]
    command += ["--length", str(length), "--format", "raw"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(command, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(count, length)
