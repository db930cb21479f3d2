"""Servers that end, restart, are full or do not exist: streams continue exactly where they were."""

from __future__ import annotations

import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pytest

import iterand
from client_helpers import FEW, LENGTH, collect, opened_streams, wait_for_threads
from conftest import Server, sample
from iterand import Retry


def test_waits_stay_bounded_however_many_there_were() -> None:
    retry = Retry(attempts=10**6, first_wait=0.1, longest_wait=5)
    assert [retry.wait(attempt) for attempt in (1, 2, 3)] == [0.1, 0.2, 0.4]
    assert retry.wait(1025) == retry.wait(10**6) == 5


def test_a_full_server_is_left_for_the_next(address: str) -> None:
    full = Server("--max-streams", "1")
    try:
        with iterand.stream("uniform", length=LENGTH, server=full.address) as taken:
            next(taken)
            both = [full.address, address]
            rows = collect(cast("str", both), recipe="uniform", count=100)
            np.testing.assert_array_equal(rows, sample(100, recipe="uniform", length=LENGTH))
            assert iterand.read("uniform", 0, length=LENGTH, server=both).shape == (1, LENGTH)
            assert len(list(iterand.execute(".", server=both))) == 1
            with pytest.raises(iterand.Unavailable, match=f"{full.address}.* 1 calls .* open"):
                collect(full.address, retry=FEW, count=1)
    finally:
        full.stop()


def test_gives_up_soon_on_a_server_that_was_never_reached() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
    for call in (
        lambda retry: collect(nobody, retry=retry, count=1),
        lambda retry: iterand.describe(retry=retry, server=nobody),
        lambda retry: list(iterand.execute("+.", retry=retry, server=nobody)),
    ):
        begin = time.monotonic()
        with pytest.raises(iterand.Unavailable):
            call(Retry(attempts=100, connect_timeout=0.3))
        assert 0.3 <= time.monotonic() - begin < 10


# A server that goes is watched on streams without an end, since the buffers of a connection may hold tens of megabytes
# that it sent before.
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_server_restarted_in_mid_stream(own_server: Server, monkeypatch: pytest.MonkeyPatch, how: int) -> None:
    requests = opened_streams(monkeypatch)
    restart = threading.Timer(0.5, own_server.start)
    with iterand.stream("uniform", length=LENGTH, batch_size=7, prefetch=2, server=own_server.address) as stream:
        rows = [next(stream) for _ in range(5)]
        own_server.stop(how)
        restart.start()
        while len(requests) < 2:
            rows.append(next(stream))
        rows += [next(stream) for _ in range(10)]  # the queue's, then the new server's
    restart.join()
    tokens = np.concatenate(rows)
    assert 0 < requests[-1].start < len(tokens)
    np.testing.assert_array_equal(tokens, sample(len(tokens), recipe="uniform", length=LENGTH))


def test_falls_back_to_the_next_server(own_server: Server, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = opened_streams(monkeypatch)
    with iterand.stream("uniform", length=LENGTH, prefetch=1, server=[own_server.address, address]) as stream:
        rows = [next(stream)]
        own_server.stop(signal.SIGKILL)
        while len(requests) < 2:
            rows.append(next(stream))
        rows += [next(stream) for _ in range(10)]
    tokens = np.concatenate(rows)
    assert 0 < requests[-1].start < len(tokens)
    np.testing.assert_array_equal(tokens, sample(len(tokens), recipe="uniform", length=LENGTH))


@pytest.mark.parametrize("own_connection", [True, False])
def test_a_stream_that_is_read_batch_by_batch(own_server: Server, address: str, own_connection: bool) -> None:
    """3 readers do not divide the lanes. Their calls end with the server, and are made again on the next."""
    options: dict[str, Any] = {"length": LENGTH, "batch_size": 5, "rank": 1, "world_size": 3, "prefetch": 6}
    servers = [own_server.address, address]
    with iterand.Client(servers) as client:
        stream = (
            iterand.stream("uniform", server=servers, **options)
            if own_connection
            else client.stream("uniform", **options)
        )
        rows = [next(stream) for _ in range(3)]
        own_server.stop(signal.SIGKILL)
        rows += [next(stream) for _ in range(17)]
        assert stream.next_index == 20 * 15
        np.testing.assert_array_equal(np.concatenate(rows), sample(300, recipe="uniform", length=LENGTH)[1::3])
        stream.close()
        assert list(stream) == []
    wait_for_threads(0)


def test_a_stream_that_is_read_batch_by_batch_from_a_server_with_one_place() -> None:
    small = Server("--max-streams", "1")
    try:
        rows = collect(small.address, recipe="uniform", batch_size=5, world_size=3, count=40)
        np.testing.assert_array_equal(rows, sample(120, recipe="uniform", length=LENGTH)[::3])
    finally:
        small.stop()


def test_calls_turn_to_the_next_server_together() -> None:
    with iterand.Client(["first:1", "second:1"]) as client:
        connection = client._connection
        first = connection._connect()
        connection.turn(first)
        connection.turn(first)  # of another stream, which failed on the same server
        assert client.target == "second:1"
        connection.turn(connection._connect())
        assert client.target == "first:1"


def test_streams_of_one_client_fall_back_together(
    own_server: Server, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, world = opened_streams(monkeypatch), 4
    with iterand.Client([own_server.address, address]) as client:
        streams = [
            client.stream("uniform", length=LENGTH, rank=rank, world_size=world, prefetch=1) for rank in range(world)
        ]
        rows = [[next(stream)] for stream in streams]
        own_server.stop(signal.SIGKILL)

        def read_on(rank: int) -> None:
            while sum(request.shard.rank == rank for request in requests) < 2:
                rows[rank].append(next(streams[rank]))
            rows[rank] += [next(streams[rank]) for _ in range(10)]

        with ThreadPoolExecutor(world) as pool:
            list(pool.map(read_on, range(world)))
        for stream in streams:
            stream.close()
    parts = [np.concatenate(each) for each in rows]
    expected = sample(max(map(len, parts)) * world, recipe="uniform", length=LENGTH)
    for rank, part in enumerate(parts):
        np.testing.assert_array_equal(part, expected[rank::world][: len(part)])


def test_a_call_goes_on_when_another_thread_turns_to_the_next_server(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with iterand.Client([address, address]) as client:
        connection = client._connection
        connect = connection._connect

        def turned() -> object:
            link = connect()
            monkeypatch.undo()
            connection.turn(link)  # closes the channel
            return link

        monkeypatch.setattr(connection, "_connect", turned)
        described = client.describe("up").stream
        assert described is not None
        assert described.vocab_size == 256


def test_a_closed_client_stays_closed(address: str) -> None:
    client = iterand.Client(address)
    stream = client.stream("uniform", length=LENGTH, prefetch=1)
    next(stream)
    client.close()
    with pytest.raises(iterand.Cancelled, match="client is closed"):
        for _ in range(100_000):
            next(stream)
    with pytest.raises(iterand.Cancelled, match="client is closed"):
        client.describe()
    wait_for_threads(0)


def test_server_gone_for_good(own_server: Server) -> None:
    with iterand.stream("up", length=LENGTH, prefetch=1, retry=FEW, server=own_server.address) as stream:
        next(stream)
        own_server.stop()
        with pytest.raises(iterand.Unavailable):
            for _ in range(10_000):
                next(stream)
        with pytest.raises(StopIteration):
            next(stream)
