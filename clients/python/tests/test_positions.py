"""One order of rows for every world size, batch size, number of workers and place, and states that fit all of them."""

from __future__ import annotations

import itertools
import re
import tempfile
from typing import Any

import numpy as np
import pytest
from server_program import binary

import iterand
from client_helpers import opened_streams
from conftest import sample
from iterand._connection import Connection
from iterand._server import ServerProcess
from positions import GLOBAL_BATCH, LENGTH, RECIPE, RESUMES, SEED, STREAM, WORLD_SIZES, Way, hash_of, order, resumes


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return sample(6 * GLOBAL_BATCH, recipe=RECIPE, seed=SEED, length=LENGTH)


@pytest.mark.parametrize("remote", [False, True], ids=["here", "server"])
@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_the_order_is_one_for_any_world_size(address: str, rows: np.ndarray, world_size: int, remote: bool) -> None:
    for kind in ("Stream", "StreamLoader"):
        way = Way(kind, remote, world_size, GLOBAL_BATCH // world_size)
        assert hash_of(way.read(address, None, 6)[0]) == hash_of(rows)


@pytest.mark.slow  # workers are processes
@pytest.mark.parametrize("remote", [False, True], ids=["here", "server"])
@pytest.mark.parametrize("world_size", [1, 2, 3, 6, 12])
def test_the_order_is_one_for_any_number_of_workers(
    address: str, rows: np.ndarray, world_size: int, remote: bool
) -> None:
    for workers in (1, 2, 3):
        assert order(address, remote, world_size, workers) == hash_of(rows), workers


@pytest.mark.slow
@pytest.mark.parametrize("saved", RESUMES, ids=str)
def test_a_state_resumes_in_every_way_to_read(address: str, rows: np.ndarray, saved: Way) -> None:
    exact = resumes(address, rows, saved)
    assert [str(way) for way, exactly in zip(RESUMES, exact, strict=True) if not exactly] == []


@pytest.mark.parametrize("rotated", [0, 3, 7])
def test_resumes_in_a_row_through_ways_to_read(address: str, rows: np.ndarray, rotated: int) -> None:
    """Also of a state that was saved right after resuming, before any batch."""
    ways = [way for way in (*RESUMES[rotated:], *RESUMES[:rotated]) if way.workers == 0][:5]
    state: dict[str, Any] | None = None
    done = 0
    for way, batches in zip(ways, (2, 0, 3, 1, 2), strict=True):
        if batches == 0 and way.kind != "IndexDataset":
            assert state is not None
            resumed = way.reader(server=address if way.remote else False)
            resumed.load_state_dict(state)
            assert resumed.state_dict() == state
            state = resumed.state_dict()
            continue
        tokens, state = way.read(address, state, batches)
        np.testing.assert_array_equal(tokens, rows[done : done + len(tokens)], err_msg=str(way))
        done += len(tokens)
        assert state["next_index"] == done


KINDS = [Way(kind, remote) for kind in ("Stream", "StreamDataset", "StreamLoader") for remote in (False, True)]


@pytest.mark.parametrize("way", KINDS, ids=str)
def test_states_of_other_streams_are_refused(address: str, way: Way) -> None:
    """By name, before anything is read; one of another engine version, whose name is equal, by its fingerprint."""
    server = address if way.remote else False
    _, state = way.read(address, None, 2)
    for options, words in (
        ({"recipe": "lstm"}, "recipe 'up', not 'lstm'"),
        ({"seed": 4}, "seed 3, not 4"),
        ({"length": 64}, "length 32, not 64"),
    ):
        other = way.reader(server=server, **options)
        with pytest.raises(iterand.FingerprintMismatch, match=f"{words}: make the stream with what the state says"):
            other.load_state_dict(state)
    resumed = way.reader(server=server)
    with pytest.raises(iterand.FingerprintMismatch, match=r"Install the version that saved it|expected_fingerprint"):
        resumed.load_state_dict({**state, "fingerprint": "00" * 32})
        next(iter(resumed))  # a server is asked by then
    assert state["next_index"] == 2 * way.batch_size


def test_an_index_dataset_of_another_stream_is_refused(address: str) -> None:
    with iterand.stream(**STREAM, server=False) as stream:
        fingerprint = stream.fingerprint
    for server in (False, address):
        for options in ({"recipe": "lstm"}, {"seed": 4}, {"length": 64}):
            with pytest.raises(iterand.FingerprintMismatch):
                iterand.IndexDataset(
                    **{**STREAM, **options}, count=9, expected_fingerprint=fingerprint, server=server
                ).batch([0])


@pytest.mark.parametrize("way", KINDS, ids=str)
def test_a_state_that_comes_too_late_is_refused(address: str, way: Way) -> None:
    reader = way.reader(server=address if way.remote else False)
    state = reader.state_dict()
    next(iter(reader))
    with pytest.raises(iterand.InvalidArgument, match="load_state_dict was called after iteration had begun"):
        reader.load_state_dict(state)


def test_ranks_that_do_not_divide_the_lanes_are_known_before_any_batch_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, rows: np.ndarray
) -> None:
    """The server refuses nothing; what it said once is not asked again by the same stream."""
    asked: list[str] = []
    start, unary = Connection.start, Connection.unary

    def noted(method: Any) -> Any:
        return lambda self, name, *rest: asked.append(name) or method(self, name, *rest)

    monkeypatch.setattr(Connection, "start", noted(start))
    monkeypatch.setattr(Connection, "unary", noted(unary))
    streams = opened_streams(monkeypatch)
    with tempfile.TemporaryFile("w+") as log, ServerProcess(binary(), "--log-level", "info", stderr=log) as server:
        for world_size, calls in ((1, 1), (2, 1), (3, 0), (64, 0), (96, 0)):
            asked.clear()
            streams.clear()
            batch = GLOBAL_BATCH // 16 if world_size < 16 else 1
            options = {**STREAM, "rank": world_size - 1, "world_size": world_size, "batch_size": batch}
            with iterand.stream(server=server.address, **options) as stream:
                first = next(stream)
                stream.seek(0)
                np.testing.assert_array_equal(next(stream), first)
                np.testing.assert_array_equal(first, rows[world_size - 1 :: world_size][:batch])
            assert asked.count("Describe") == (0 if world_size == 1 else 1)
            assert len(streams) == 2 * calls
        server.stop()
        log.seek(0)
        text = log.read()
    assert "stopped after" in text, text  # the server did log
    assert not re.search("INVALID_ARGUMENT|world_size", text), text


def test_a_recipe_of_its_own_has_its_own_lanes(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    recipe = {"families": [{"uniform": {}}], "length": 16, "lanes": 6}
    expected = iterand.read(recipe, range(60), server=False)
    streams = opened_streams(monkeypatch)
    for world_size, calls in ((3, 1), (6, 1), (4, 0)):
        streams.clear()
        options = {"rank": 1, "world_size": world_size, "batch_size": 5}
        with iterand.stream(recipe, server=address, **options) as stream:
            np.testing.assert_array_equal(
                np.concatenate(list(itertools.islice(stream, 2))), expected[1::world_size][:10]
            )
        assert len(streams) == calls
