"""Datasets and loaders: order, workers, resuming."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import pickle
import types
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import iterand
from conftest import sample
from iterand import api
from iterand._requests import Shard
from iterand.torch import StreamDataset, StreamLoader

LENGTH, BATCH = 32, 4


def dataset(address: Any, **options: object) -> StreamDataset:
    return StreamDataset("up", length=LENGTH, server=address, **{"batch_size": BATCH, **options})  # type: ignore[arg-type]


def take(loader: object, batches: int) -> list[torch.Tensor]:
    items = itertools.islice(iter(loader), batches)  # type: ignore[call-overload]
    return [item["tokens"] for item in items]


def all_of(loader: Any) -> list[torch.Tensor]:
    return [item["tokens"] for item in loader]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.fixture(scope="module")
def rows(address: str) -> np.ndarray:
    return sample(400, length=LENGTH)


def test_tensors(address: str, rows: np.ndarray) -> None:
    batches = take(dataset(address), 3)
    assert batches[0].dtype == torch.int64
    np.testing.assert_array_equal(torch.cat(batches).numpy(), rows[: 3 * BATCH])
    assert take(dataset(address, dtype=torch.uint8), 1)[0].dtype == torch.uint8
    with pytest.raises(iterand.InvalidArgument, match="int8"):
        take(dataset(address, dtype=torch.int8), 1)


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", [DataLoader, StreamLoader])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_documented_order(address: str, rows: np.ndarray, workers: int, kind: type, world_size: int) -> None:
    """Global batch t has the rows from t * G on, for any number of workers."""
    options: dict[str, object] = {"batch_size": None} if kind is DataLoader else {}
    if kind is DataLoader and workers > 0:
        options["multiprocessing_context"] = "forkserver"
    rank, size = world_size - 1, BATCH * world_size
    loader = kind(dataset(address, rank=rank, world_size=world_size, start=1), num_workers=workers, **options)
    for number, tokens in enumerate(take(loader, 6)):
        expected = rows[1:][number * size : (number + 1) * size][rank::world_size]
        np.testing.assert_array_equal(tokens.numpy(), expected)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6, 12, 24, 48, 96])
@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_every_row_once_for_any_world_size_and_number_of_workers(address: str, world_size: int, workers: int) -> None:
    """By worker, in this process: all readers together have each row of the global batches, at its place."""
    batches, start = 6, 7
    size = 2 * world_size
    known = {
        bytes(row): index
        for index, row in enumerate(iterand.read("uniform", range(7 + batches * size), length=LENGTH, server=address))
    }
    assert len(known) == 7 + batches * size
    for rank in range(0, world_size, max(1, world_size // 4)):
        for worker in range(workers):
            shard = Shard(2, rank, world_size, start + worker * size, 2 * (batches - worker), workers)
            road = api.open_shard(
                "uniform",
                shard,
                seed=0,
                length=LENGTH,
                loss_mask=False,
                expected_fingerprint=None,
                server=address,
                prefetch=3,
                tls=False,
                token=None,
                token_file=None,
                retry=None,
            )
            found = [[known[bytes(row)] for row in batch.tokens] for batch in road.batches()]
            first = [start + number * size + rank for number in range(worker, batches, workers)]
            assert found == [[index, index + world_size] for index in first]
            assert road.next_index >= start + batches * size


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("taken", [0, 1, 2, 5])
def test_resumed_loader_equals_the_uninterrupted_one(address: str, workers: int, taken: int) -> None:
    whole = take(StreamLoader(dataset(address), num_workers=workers), taken + 5)
    first = StreamLoader(dataset(address), num_workers=workers)
    assert same(take(first, taken), whole[:taken])
    state = json.loads(json.dumps(first.state_dict()))
    second = StreamLoader(dataset(address), num_workers=workers)
    second.load_state_dict(state)
    assert same(take(second, 3), whole[taken : taken + 3])
    third = StreamLoader(dataset(address), num_workers=workers)
    third.load_state_dict(second.state_dict())
    assert third.state_dict() == second.state_dict()
    assert same(take(third, 2), whole[taken + 3 :])


@pytest.mark.parametrize("taken", [0, 1, 3, 4])
def test_a_state_resumes_with_any_workers_batch_size_and_world_size(address: str, rows: np.ndarray, taken: int) -> None:
    first = StreamLoader(dataset(address, rank=1, world_size=2), num_workers=3)
    take(first, taken)
    state = json.loads(json.dumps(first.state_dict()))
    done = taken * 2 * BATCH
    assert state["next_index"] == done
    for workers, batch_size, rank, world_size in ((0, 6, 0, 1), (2, 3, 2, 3), (1, BATCH, 0, 2)):
        second = StreamLoader(
            dataset(address, batch_size=batch_size, rank=rank, world_size=world_size), num_workers=workers
        )
        second.load_state_dict(state)
        expected = rows[done:][rank::world_size][: 2 * batch_size]
        np.testing.assert_array_equal(torch.cat(take(second, 2)).numpy(), expected)
    with iterand.stream("up", length=LENGTH, server=address) as stream:  # a Stream takes the state of a loader
        stream.load_state_dict(state)
        np.testing.assert_array_equal(next(stream)[:5], rows[done : done + 5])
        third = StreamLoader(dataset(address))
        third.load_state_dict(stream.state_dict())
        np.testing.assert_array_equal(take(third, 1)[0].numpy(), rows[done + 64 :][:BATCH])


@pytest.mark.parametrize("first_remote", [False, True])
def test_embedded_and_remote_states_are_one(address: str, rows: np.ndarray, first_remote: bool) -> None:
    here, there = (address, False) if first_remote else (False, address)
    first = StreamLoader(dataset(here))
    take(first, 3)
    second = StreamLoader(dataset(there))
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(take(second, 1)[0].numpy(), rows[3 * BATCH :][:BATCH])


def test_workers_without_a_server_share_one(rows: np.ndarray) -> None:
    loader = StreamLoader(dataset(False, count=30), num_workers=2)
    for _ in range(2):
        np.testing.assert_array_equal(torch.cat(all_of(loader)).numpy(), rows[:30])
    server = loader._server
    assert server is not None
    copied = pickle.loads(pickle.dumps(loader))
    assert copied._server is None
    process = server._running.process  # type: ignore[union-attr]
    assert process.poll() is None
    del loader
    assert process.poll() == 0
    with pytest.raises(iterand.Error, match="stopped"):
        _ = server.address


def test_workers_without_a_server_that_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITERAND_BINARY", "/nowhere")
    with pytest.raises(iterand.InvalidArgument, match=r"num_workers is 2 .* does not start .* Use num_workers=0"):
        iter(StreamLoader(dataset(False), num_workers=2))


def test_a_plain_loader_without_a_server() -> None:
    """One worker may make the stream; each of several would make all of it."""
    data = dataset(False, count=10)
    options: dict[str, Any] = {"batch_size": None, "multiprocessing_context": "forkserver"}
    assert [len(batch) for batch in all_of(DataLoader(data, num_workers=1, **options))] == [4, 4, 2]
    with pytest.raises(iterand.InvalidArgument, match=r"2 workers .* num_workers=0.*StreamLoader.*iterand.Server"):
        all_of(DataLoader(data, num_workers=2, **options))


def test_length(address: str) -> None:
    assert [len(StreamLoader(dataset(address, count=count))) for count in (0, 1, 4, 5)] == [0, 1, 1, 2]
    for workers in (0, 2):
        options: dict[str, Any] = {"multiprocessing_context": "forkserver"} if workers else {}
        plain = DataLoader(dataset(address, count=10), batch_size=None, num_workers=workers, **options)
        assert len(plain) == len(list(plain)) == 3
    for endless in (StreamLoader(dataset(address)), dataset(address)):
        assert endless
        with pytest.raises(TypeError, match="endless"):
            len(endless)


def test_iterations_begin_anew(address: str) -> None:
    for workers in (0, 2):
        loader = StreamLoader(dataset(address, count=10), num_workers=workers)
        first = all_of(loader)
        assert sum(len(batch) for batch in first) == 10
        assert same(all_of(loader), first)


def shifted(item: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return item["tokens"][:, :-1], item["tokens"][:, 1:]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_collate_function_gets_the_batches(address: str, rows: np.ndarray, workers: int) -> None:
    loader = StreamLoader(dataset(address, count=3 * BATCH), num_workers=workers, collate_fn=shifted)
    batches = list(loader)
    assert np.array_equal(torch.cat([inputs for inputs, _ in batches]), rows[: 3 * BATCH, :-1])
    assert np.array_equal(torch.cat([targets for _, targets in batches]), rows[: 3 * BATCH, 1:])
    assert loader.state_dict()["next_index"] == 3 * BATCH


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("count", [0, 1, 7, 9, 16])
def test_count(address: str, rows: np.ndarray, workers: int, count: int) -> None:
    batches = all_of(StreamLoader(dataset(address, count=count), num_workers=workers))
    assert [len(batch) for batch in batches] == [min(BATCH, count - begin) for begin in range(0, count, BATCH)]
    if count:
        np.testing.assert_array_equal(torch.cat(batches).numpy(), rows[:count])


def test_resume_near_the_end(address: str) -> None:
    whole = all_of(StreamLoader(dataset(address, count=19), num_workers=2))
    for taken in range(len(whole) + 1):
        first = StreamLoader(dataset(address, count=19), num_workers=2)
        take(first, taken)
        second = StreamLoader(dataset(address, count=19), num_workers=2)
        second.load_state_dict(first.state_dict())
        assert same(all_of(second), whole[taken:])


def test_state_of_another_stream_is_refused(address: str) -> None:
    first = StreamLoader(dataset(address))
    take(first, 1)
    for options, words in (
        ({"seed": 1}, "seed 0, not 1"),
        ({"length": 64}, "length 32, not 64"),
        ({"loss_mask": True}, "loss_mask False, not True"),
    ):
        for server in (address, False):
            other = StreamDataset("up", **{"length": LENGTH, "server": server, **options})  # type: ignore[arg-type]
            with pytest.raises(iterand.FingerprintMismatch, match=f"{words}.*make the stream with what the state says"):
                StreamLoader(other).load_state_dict(first.state_dict())
    state = {"stream": {"recipe": "up"}, "position": {"origin": 8, "batches": 0, "workers": 1}}
    with pytest.raises(iterand.InvalidArgument, match=r"saved by an earlier version .* start = the old start"):
        StreamLoader(dataset(address)).load_state_dict(state)
    state = first.state_dict() | {"fingerprint": "00" * 32}
    other_version = StreamLoader(dataset(address))
    other_version.load_state_dict(state)
    with pytest.raises(iterand.FingerprintMismatch):
        take(other_version, 1)
    with pytest.raises(iterand.FingerprintMismatch, match=r"of engine version 6.* Install the version that saved it"):
        StreamLoader(dataset(False)).load_state_dict(state)


def test_errors_of_workers_reach_the_loop(address: str) -> None:
    bad = StreamLoader(StreamDataset("no-such-preset", server=address), num_workers=1)
    with pytest.raises(iterand.UnknownPreset, match="no-such-preset"):
        take(bad, 1)
    with pytest.raises(iterand.InvalidArgument, match="batch_size"):
        StreamLoader(dataset(address), batch_size=3)


def test_wrong_arguments_are_told_before_any_worker_starts(address: str) -> None:
    for options, name in (
        ({"prefetch": 0}, "prefetch"),
        ({"token": "ü"}, "token"),
        ({"tls": "cert.pem"}, "tls"),
        ({"dtype": torch.bfloat16}, "dtype"),
        ({"dtype": "int64"}, "dtype"),
        ({"loss_mask": 1}, "loss_mask is 1; it must be True or False"),
        ({"retry": 5}, "retry is 5; it must be a Retry"),
    ):
        with pytest.raises(iterand.InvalidArgument, match=name):
            dataset(address, **options)
    with pytest.raises(iterand.InvalidArgument, match="target"):
        dataset("foo")
    for workers in ("2", 1.5, -1):
        with pytest.raises(iterand.InvalidArgument, match="num_workers"):
            StreamLoader(dataset(address), num_workers=workers)  # type: ignore[arg-type]
    with pytest.raises(iterand.InvalidArgument, match="dataset is a list"):
        StreamLoader([1, 2])  # type: ignore[arg-type]
    for state in ({}, {"stream": {}}, {"next_index": 4}, 3, None):
        with pytest.raises(iterand.InvalidArgument, match="state is not what state_dict gave"):
            StreamLoader(dataset(address)).load_state_dict(state)
    good = StreamLoader(dataset(address)).state_dict()
    for name, value in (
        ("next_index", -5),
        ("next_index", 0.5),
        ("fingerprint", "zz"),
        ("worker", 3),
        ("worker", {"id": 2, "workers": 2, "global_batch_size": 4}),
    ):
        with pytest.raises(iterand.InvalidArgument, match="state is not what state_dict gave"):
            StreamLoader(dataset(address)).load_state_dict({**good, name: value})


def test_workers_started_while_a_stream_is_open(address: str) -> None:
    with iterand.stream("up", length=LENGTH, server=address) as stream:
        next(stream)
        assert len(take(StreamLoader(dataset(address), num_workers=2), 4)) == 4
        next(stream)


def test_workers_forked_from_a_process_that_has_used_grpc_say_so(address: str) -> None:
    iterand.describe(server=address)
    with pytest.raises(iterand.ForkedProcess, match="forkserver"):
        take(DataLoader(dataset(address), batch_size=None, num_workers=1, multiprocessing_context="fork"), 1)


def test_spawned_workers(address: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    batches = take(StreamLoader(dataset(address), num_workers=1, multiprocessing_context=spawn), 2)
    assert same(batches, take(dataset(address), 2))


def test_worker_by_worker_state(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The convention of torchdata's StatefulDataLoader: each worker saves and loads its own dataset."""
    for worker in range(2):
        module = "iterand._torch_dataset"
        info = types.SimpleNamespace(id=worker, num_workers=2)
        monkeypatch.setattr(f"{module}.get_worker_info", lambda info=info: info)
        whole = take(dataset(address, count=30), 5)
        first = dataset(address, count=30)
        iterator = iter(first)
        assert same([next(iterator)["tokens"] for _ in range(2)], whole[:2])
        second = dataset(address, count=30)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert second.state_dict() == first.state_dict()
        assert same(all_of(second), whole[2:])
        other = types.SimpleNamespace(id=1 - worker, num_workers=2)
        monkeypatch.setattr(f"{module}.get_worker_info", lambda other=other: other)
        with pytest.raises(iterand.InvalidArgument, match=f"state is of worker {worker} of 2 .* given to worker"):
            dataset(address, count=30).load_state_dict(first.state_dict())


def test_torchdatas_loader(address: str) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    for workers in (0, 2):
        options = {"batch_size": None, "num_workers": workers}
        if workers > 0:
            options["multiprocessing_context"] = "forkserver"
        whole = take(DataLoader(dataset(address), **options), 8)
        first = stateful.StatefulDataLoader(dataset(address), **options)
        iterator = iter(first)
        assert same([next(iterator)["tokens"] for _ in range(3)], whole[:3])
        second = stateful.StatefulDataLoader(dataset(address), **options)
        second.load_state_dict(first.state_dict())
        assert same(take(second, 5), whole[3:])
