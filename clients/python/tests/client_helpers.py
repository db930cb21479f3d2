"""What the client's tests share."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import iterand
from iterand import Retry
from iterand._connection import Connection
from iterand.v1 import noise_service_pb2 as service

LENGTH = 128
FEW = Retry(attempts=2, first_wait=0.05)


def collect(address: str, **options: object) -> np.ndarray:
    """The rows of a whole stream."""
    options = {"recipe": "up", "length": LENGTH, **options}
    with iterand.stream(server=address, **options) as stream:  # type: ignore[arg-type]
        return np.concatenate(list(stream))


def opened_streams(monkeypatch: pytest.MonkeyPatch) -> list[service.StreamRequest]:
    """The requests of all calls that open a stream, from now on."""
    requests: list[service.StreamRequest] = []
    server_stream = Connection.server_stream

    def noted(connection: Connection, name: str, request: service.StreamRequest, *more: object) -> object:
        copy = service.StreamRequest()
        copy.CopyFrom(request)
        requests.append(copy)
        return server_stream(connection, name, request, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Connection, "server_stream", noted)
    return requests


def threads() -> int:
    return sum(thread.name == "iterand-stream" for thread in threading.enumerate())


def wait_for_threads(expected: int) -> None:
    end = time.monotonic() + 5
    while threads() != expected and time.monotonic() < end:
        time.sleep(0.01)
    assert threads() == expected
