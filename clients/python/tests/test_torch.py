"""Datasets and loaders: order, workers, resuming."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import types

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import iterand
from conftest import sample
from iterand.torch import StreamDataset, StreamLoader

LENGTH, BATCH = 32, 4


def dataset(address: str, **options: object) -> StreamDataset:
    return StreamDataset("up", length=LENGTH, server=address, **{"batch_size": BATCH, **options})  # type: ignore[arg-type]


def take(loader: object, batches: int) -> list[torch.Tensor]:
    return list(itertools.islice(iter(loader), batches))  # type: ignore[call-overload]


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


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("kind", [DataLoader, StreamLoader])
def test_documented_order(address: str, rows: np.ndarray, workers: int, kind: type) -> None:
    options: dict[str, object] = {"batch_size": None} if kind is DataLoader else {}
    if kind is DataLoader and workers > 0:
        options["multiprocessing_context"] = "forkserver"
    loader = kind(dataset(address, rank=1, world_size=2), num_workers=workers, **options)
    shard, per_round = rows[1::2], max(workers, 1)
    for number, tokens in enumerate(take(loader, 6)):
        round_, place = divmod(number, per_round)
        begin = round_ * per_round * BATCH
        expected = shard[begin : begin + per_round * BATCH][place::per_round]
        np.testing.assert_array_equal(tokens.numpy(), expected)


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


def test_other_number_of_workers_goes_on_from_the_end_of_a_round(address: str, rows: np.ndarray) -> None:
    first = StreamLoader(dataset(address), num_workers=2)
    take(first, 4)
    second = StreamLoader(dataset(address, batch_size=6))
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(torch.cat(take(second, 2)).numpy(), rows[4 * BATCH :][:12])
    take(first, 3)
    third = StreamLoader(dataset(address))
    third.load_state_dict(first.state_dict())
    with pytest.raises(iterand.InvalidArgument, match="round"):
        take(third, 1)


def test_iterations_begin_anew(address: str) -> None:
    for workers in (0, 2):
        loader = StreamLoader(dataset(address, count=10), num_workers=workers)
        first = list(loader)
        assert sum(len(batch) for batch in first) == 10
        assert same(list(loader), first)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("count", [0, 1, 7, 9, 16])
def test_count(address: str, rows: np.ndarray, workers: int, count: int) -> None:
    batches = list(StreamLoader(dataset(address, count=count), num_workers=workers))
    found = sorted(bytes(row.numpy().astype(np.uint8)) for batch in batches for row in batch)
    assert found == sorted(bytes(row) for row in rows[:count])


def test_resume_near_the_end(address: str) -> None:
    whole = list(StreamLoader(dataset(address, count=19), num_workers=2))
    for taken in range(len(whole) + 1):
        first = StreamLoader(dataset(address, count=19), num_workers=2)
        take(first, taken)
        second = StreamLoader(dataset(address, count=19), num_workers=2)
        second.load_state_dict(first.state_dict())
        assert same(list(second), whole[taken:])


def test_state_of_another_stream_is_refused(address: str) -> None:
    first = StreamLoader(dataset(address))
    take(first, 1)
    with pytest.raises(iterand.InvalidArgument, match="seed 0, not 1"):
        StreamLoader(dataset(address, seed=1)).load_state_dict(first.state_dict())
    with pytest.raises(iterand.InvalidArgument, match="loss_mask False, not True"):
        StreamLoader(dataset(address, loss_mask=True)).load_state_dict(first.state_dict())
    state = first.state_dict()
    state["stream"]["shard"] = [state["stream"].pop("rank"), state["stream"].pop("world_size")]
    with pytest.raises(iterand.InvalidArgument, match=r"saved by an earlier version .* as `start`"):
        StreamLoader(dataset(address)).load_state_dict(state)
    state = first.state_dict()
    state["stream"]["fingerprint"] = "00" * 32
    other = StreamLoader(dataset(address))
    other.load_state_dict(state)
    with pytest.raises(iterand.FingerprintMismatch):
        take(other, 1)


def test_errors_of_workers_reach_the_loop(address: str) -> None:
    bad = StreamLoader(StreamDataset("no-such-preset", server=address), num_workers=1)
    with pytest.raises(iterand.UnknownPreset, match="no-such-preset"):
        take(bad, 1)
    with pytest.raises(iterand.InvalidArgument, match="lanes"):
        take(StreamLoader(dataset(address, rank=0, world_size=32), num_workers=2), 1)
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
    for state in ({}, {"stream": {}}, {"stream": {}, "position": {"origin": "?"}}, {"position": {"nowhere": 1}}):
        with pytest.raises(iterand.InvalidArgument, match="state is not what state_dict gave"):
            StreamLoader(dataset(address)).load_state_dict(state)
    good = StreamLoader(dataset(address)).state_dict()
    for part, name, value in (
        ("position", "workers", 0),
        ("position", "origin", -5),
        ("position", "batches", 0.5),
        ("stream", "fingerprint", "zz"),
    ):
        state = {**good, part: {**good[part], name: value}}
        with pytest.raises(iterand.InvalidArgument, match="state is not what state_dict gave"):
            StreamLoader(dataset(address)).load_state_dict(state)


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
        info = types.SimpleNamespace(id=worker, num_workers=2)
        monkeypatch.setattr("iterand.torch.get_worker_info", lambda info=info: info)
        whole = take(dataset(address, count=30), 5)
        first = dataset(address, count=30)
        iterator = iter(first)
        assert same([next(iterator) for _ in range(2)], whole[:2])
        second = dataset(address, count=30)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert second.state_dict() == first.state_dict()
        assert same(list(second), whole[2:])
        other = types.SimpleNamespace(id=1 - worker, num_workers=2)
        monkeypatch.setattr("iterand.torch.get_worker_info", lambda other=other: other)
        third = dataset(address, count=30)
        third.load_state_dict(first.state_dict())
        with pytest.raises(iterand.InvalidArgument, match="worker"):
            list(third)


def test_torchdatas_loader(address: str) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    for workers in (0, 2):
        options = {"batch_size": None, "num_workers": workers}
        if workers > 0:
            options["multiprocessing_context"] = "forkserver"
        whole = take(DataLoader(dataset(address), **options), 8)
        first = stateful.StatefulDataLoader(dataset(address), **options)
        iterator = iter(first)
        assert same([next(iterator) for _ in range(3)], whole[:3])
        second = stateful.StatefulDataLoader(dataset(address), **options)
        second.load_state_dict(first.state_dict())
        assert same(take(second, 5), whole[3:])
