"""A real server on a free port for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# Read when torch is first imported. Models this small gain nothing from a second thread, and on a busy machine the two
# wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from iterand._server import ServerProcess
from server_program import binary


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    with ServerProcess(binary()) as server:
        yield server.address
