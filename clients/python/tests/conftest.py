"""A real server on a free port for all tests."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server_program import binary

import framework_programs
from framework_programs import Compared
from iterand._server import ServerProcess

# Read when torch is first imported. Models this small gain nothing from a second thread, and on a busy machine the two
# wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Workers of loaders are forked from a server that has imported torch, once for all tests.
multiprocessing.set_forkserver_preload(["iterand.torch"])

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need other packages run only if the option -m names their marker."""
    named = config.getoption("markexpr", "")
    left_out = [marker for marker in ("integrations", "browser") if marker not in named]
    kept = [item for item in items if not any(item.get_closest_marker(marker) for marker in left_out)]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


_compared: list[Compared] = []


@pytest.fixture
def compared() -> Callable[..., Compared]:
    """What a test of a framework counts its sequences with; `framework_programs.Compared` has the arguments."""

    def begin(package: str, processes: int = 1, workers: int | str = 0) -> Compared:
        _compared.append(Compared(package, processes, str(workers)))
        return _compared[-1]

    return begin


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the tests of frameworks compared, and with which versions."""
    if _compared:
        terminalreporter.section("sequences compared by index")
        for line in framework_programs.summary(_compared):
            terminalreporter.write_line(line)


class Server:
    """A server process that can be stopped and started again on the same port."""

    def __init__(self, *options: str, listen: str = "127.0.0.1:0") -> None:
        self._options = options
        self.address = listen
        self.start()

    def start(self) -> None:
        self._running = ServerProcess(binary(), "--drain", "1", *self._options, listen=self.address)
        self.process = self._running.process
        self.address = self._running.address

    def stop(self, how: int = signal.SIGTERM) -> int:
        return self._running.stop(how)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server of the test's own, to stop and restart."""
    running = Server()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def address(server: Server) -> str:
    return server.address


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The distribution's browser, for the tests in browser/."""
    playwright = pytest.importorskip("playwright.sync_api")
    if not Path(CHROMIUM).exists():
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def sample(count: int, *, recipe: str = "up", seed: int = 0, length: int = 128, **options: object) -> np.ndarray:
    """What `iterand sample --format raw` prints, as rows x length bytes."""
    command = [binary(), "sample", "--recipe", recipe, "--seed", str(seed), "--count", str(count)]
    command += ["--length", str(length), "--format", "raw"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(command, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(count, length)
