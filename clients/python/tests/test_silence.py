"""Servers that are stopped, slow or not there yet, and callers that pause or have no time."""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

import iterand
from client_helpers import LENGTH, opened_streams
from conftest import Server, sample
from iterand import Retry

QUICK = Retry(keepalive_time=0.5, keepalive_timeout=1.0, first_wait=0.05)

# One segment takes seconds.
SLOW = {"families": [{"lstm": {"hidden": {"fixed": 32}}}], "length": 128, "lanes": 4, "segment_sequences": 65536}


def test_a_stopped_server_is_left_within_ten_seconds(own_server: Server, address: str) -> None:
    with iterand.stream(
        "uniform", length=LENGTH, batch_size=7, prefetch=1, server=[own_server.address, address]
    ) as stream:
        rows = [next(stream)]
        own_server.process.send_signal(signal.SIGSTOP)
        try:
            longest = 0.0
            while longest < 1:  # the buffers of a connection hold what was sent before
                begin = time.monotonic()
                rows.append(next(stream))
                longest = max(longest, time.monotonic() - begin)
            rows += [next(stream) for _ in range(10)]
        finally:
            own_server.process.send_signal(signal.SIGCONT)
    assert longest < 10
    tokens = np.concatenate(rows)
    np.testing.assert_array_equal(tokens, sample(len(tokens), recipe="uniform", length=LENGTH))


@pytest.mark.parametrize("connected", [False, True])
def test_calls_leave_a_stopped_server(own_server: Server, address: str, connected: bool) -> None:
    with iterand.Client([own_server.address, address]) as client:
        if connected:
            client.describe()
        own_server.process.send_signal(signal.SIGSTOP)
        try:
            begin = time.monotonic()
            assert client.describe().engine_version >= 1
            assert time.monotonic() - begin < 10
            assert client.target == address
        finally:
            own_server.process.send_signal(signal.SIGCONT)


def test_a_server_that_only_accepts_is_left(address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        targets = [f"127.0.0.1:{mute.getsockname()[1]}", address]
        begin = time.monotonic()
        with iterand.stream("uniform", length=LENGTH, server=targets) as stream:
            next(stream)
        assert len(list(iterand.execute(".", server=targets))) == 1
        assert time.monotonic() - begin < 20


def test_a_silent_server_that_wakes_up_goes_on(own_server: Server) -> None:
    with iterand.stream(
        "uniform", length=LENGTH, batch_size=7, prefetch=1, retry=QUICK, server=own_server.address
    ) as stream:
        rows = [next(stream)]
        own_server.process.send_signal(signal.SIGSTOP)
        waking = threading.Timer(4, own_server.process.send_signal, [signal.SIGCONT])
        waking.start()
        longest = 0.0
        while longest < 1:
            begin = time.monotonic()
            rows.append(next(stream))
            longest = max(longest, time.monotonic() - begin)
        rows += [next(stream) for _ in range(10)]
        waking.join()
    tokens = np.concatenate(rows)
    np.testing.assert_array_equal(tokens, sample(len(tokens), recipe="uniform", length=LENGTH))


def test_a_slow_stream_is_not_silent(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = opened_streams(monkeypatch)
    retry = Retry(keepalive_time=0.0, keepalive_timeout=5.0, connect_timeout=0.1)
    with iterand.stream(SLOW, batch_size=64, retry=retry, server=address) as stream:
        next(stream)
    assert len(requests) == 1


def test_a_consumer_that_pauses_keeps_its_call(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = opened_streams(monkeypatch)
    with iterand.stream("uniform", length=LENGTH, prefetch=2, retry=QUICK, server=address) as stream:
        next(stream)
        time.sleep(4)  # the windows are full, and no client reads
        for _ in range(200):
            next(stream)
    assert len(requests) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda target: iterand.describe(timeout=0.7, server=target),
        lambda target: iterand.read("up", 0, timeout=0.7, server=target),
        lambda target: list(iterand.execute(".", timeout=0.7, server=target)),
        lambda target: iterand.Client(target).read_batch("up", 0, timeout=0.7),
        lambda target: list(iterand.Client(target).execute(".", timeout=0.7)),
    ],
)
def test_a_timeout_names_the_target_and_itself(call: Callable[[str], object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        target = f"127.0.0.1:{mute.getsockname()[1]}"
        begin = time.monotonic()
        with pytest.raises(iterand.DeadlineExceeded, match=rf"{target}.* timeout of 0\.7 s"):
            call(target)
        assert time.monotonic() - begin < 3


def test_a_timeout_bounds_all_attempts() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
        begin = time.monotonic()
        with pytest.raises(iterand.DeadlineExceeded, match=f"{nobody}.*timeout of 1 s.*last attempt.*refused"):
            iterand.describe(timeout=1, retry=Retry(attempts=1000, connect_timeout=60), server=nobody)
        assert 0.9 < time.monotonic() - begin < 4


def test_execute_bounds_a_program_that_takes_long(address: str) -> None:
    with pytest.raises(iterand.DeadlineExceeded, match=r"timeout of 0\.5 s"):
        list(iterand.execute(["+[]"] * 2000, max_steps=2**22, timeout=0.5, server=address))


def test_waiting_is_logged_once_and_so_is_its_end(own_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    own_server.stop()
    starting = threading.Timer(1.5, own_server.start)
    starting.start()
    with caplog.at_level(logging.INFO, "iterand"):
        iterand.describe(retry=Retry(attempts=100, connect_timeout=30, longest_wait=0.2), server=own_server.address)
    starting.join()
    lines = [record.getMessage() for record in caplog.records if record.name == "iterand"]
    assert len(lines) == 2
    assert lines[0].startswith("waiting for a server")
    assert own_server.address in lines[0]
    assert lines[1].startswith(f"{own_server.address} answers, after ")
