"""Each iterator keeps its own place; datasets and loaders know where the next iteration begins."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import iterand
from conftest import sample
from iterand.torch import StreamDataset, StreamLoader

LENGTH, BATCH = 32, 4

Batches = list[np.ndarray]


@pytest.fixture(scope="module")
def rows(address: str) -> np.ndarray:
    return sample(120, length=LENGTH)


def dataset(address: str, **options: Any) -> StreamDataset:
    return StreamDataset("up", length=LENGTH, server=address, **{"batch_size": BATCH, **options})


def plain_loader(data: StreamDataset, workers: int, persistent: bool = False, method: str = "forkserver") -> Any:
    context = method if workers else None
    return DataLoader(
        data, batch_size=None, num_workers=workers, persistent_workers=persistent, multiprocessing_context=context
    )


def split(rows: np.ndarray) -> Batches:
    """The batches of an epoch, for any number of workers."""
    return [rows[begin : begin + BATCH] for begin in range(0, len(rows), BATCH)]


def arrays(items: Iterable[dict[str, torch.Tensor]]) -> Batches:
    return [item["tokens"].numpy() for item in items]


def take(loader: Any, batches: int) -> Batches:
    return arrays(itertools.islice(iter(loader), batches))


def same(left: Batches, right: Batches) -> bool:
    return len(left) == len(right) and all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def restored(address: str, state: dict[str, Any], workers: int = 0, **options: Any) -> StreamLoader:
    loader = StreamLoader(dataset(address, **options), num_workers=workers)
    loader.load_state_dict(json.loads(json.dumps(state)))
    return loader


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (1, False), (1, True), (2, False), (2, True)])
def test_every_epoch_of_a_plain_loader_is_whole(address: str, rows: np.ndarray, workers: int, persistent: bool) -> None:
    expected = split(rows[:14])
    loader = plain_loader(dataset(address, count=14), workers, persistent)
    for _ in range(3):
        assert same(arrays(loader), expected)


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (1, True), (2, False), (2, True)])
def test_a_break_leaves_nothing_for_the_next_epoch(
    address: str, rows: np.ndarray, workers: int, persistent: bool
) -> None:
    endless = plain_loader(dataset(address), workers, persistent)
    for taken in (3, 1, 4):
        assert same(take(endless, taken), split(rows)[:taken])


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_of_a_stream_loader(address: str, rows: np.ndarray, workers: int) -> None:
    expected = split(rows[:14])
    loader = StreamLoader(dataset(address, count=14), num_workers=workers)
    assert same(arrays(loader), expected)
    assert same(take(loader, 2), expected[:2])
    assert same(arrays(loader), expected)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["StreamLoader", "DataLoader", "StreamDataset"])
def test_two_iterators_at_once(address: str, rows: np.ndarray, workers: int, kind: str) -> None:
    if kind == "StreamDataset" and workers:
        pytest.skip("a dataset has no workers")
    data = dataset(address, count=20)
    loader: Any = {
        "StreamLoader": lambda: StreamLoader(data, num_workers=workers),
        "DataLoader": lambda: plain_loader(data, workers),
        "StreamDataset": lambda: data,
    }[kind]()
    expected = split(rows[:20])
    pairs = list(zip(loader, loader, strict=True))
    assert same(arrays(left for left, _ in pairs), expected)
    assert same(arrays(right for _, right in pairs), expected)
    if not workers:
        for number, outer in enumerate(loader):
            assert np.array_equal(outer["tokens"].numpy(), expected[number])
            assert same(take(loader, number), expected[:number])


@pytest.mark.parametrize("workers", [0, 2])
def test_states_of_two_iterators(address: str, rows: np.ndarray, workers: int) -> None:
    expected = split(rows)
    loader = StreamLoader(dataset(address), num_workers=workers)
    first = iter(loader)
    assert same(take(first, 4), expected[:4])
    second = iter(loader)
    assert loader.state_dict() == second.state_dict()
    assert same(take(second, 2), expected[:2])
    next(first)
    assert loader.state_dict() == second.state_dict()
    for iterator, taken in ((first, 5), (second, 2)):
        assert same(take(restored(address, iterator.state_dict(), workers), 3), expected[taken : taken + 3])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_iterator_that_is_dropped_changes_nothing(address: str, rows: np.ndarray, workers: int) -> None:
    expected = split(rows)
    loader = StreamLoader(dataset(address), num_workers=workers)
    current = iter(loader)
    take(current, 4)
    state = loader.state_dict()
    iter(loader)
    assert loader.state_dict() == state
    assert same(take(current, 2), expected[4:6])
    # The loaded state waits for the first iteration that takes a batch.
    second = restored(address, state, workers)
    iter(second)
    assert second.state_dict() == state
    assert same(take(second, 2), expected[4:6])
    assert same(take(second, 2), expected[:2])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_exhausted_iterator_stays_at_the_end(address: str, rows: np.ndarray, workers: int) -> None:
    loader = StreamLoader(dataset(address, count=14), num_workers=workers)
    iterator = iter(loader)
    assert same(arrays(iterator), split(rows[:14]))
    assert list(iterator) == []
    end = loader.state_dict()
    again = iter(loader)  # the next epoch, of which nothing was taken
    second = restored(address, loader.state_dict(), workers, count=14)
    assert same(arrays(second), split(rows[:14]))
    del again
    assert loader.state_dict() == end
    third = restored(address, end, workers, count=14)
    assert list(third) == []
    assert same(arrays(third), split(rows[:14]))


@pytest.mark.parametrize("workers", [0, 2])
def test_three_resumes_in_a_row_also_right_after_resuming(address: str, rows: np.ndarray, workers: int) -> None:
    expected = split(rows)
    state = StreamLoader(dataset(address), num_workers=workers).state_dict()
    done = 0
    for taken in (3, 0, 4, 1):
        loader = restored(address, state, workers)
        assert loader.state_dict() == state
        iterator = iter(loader)
        assert loader.state_dict() == state
        assert same(take(iterator, taken), expected[done : done + taken])
        done += taken
        state = json.loads(json.dumps(loader.state_dict()))
    assert same(take(restored(address, state, workers), 2), expected[done : done + 2])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "begin",
    [lambda loader: [iter(loader)], lambda loader: take(loader, 1), lambda loader: [None for _ in loader]],
    ids=["iter", "break", "end"],
)
def test_loading_after_iteration_began_is_refused(
    address: str, workers: int, begin: Callable[[StreamLoader], list[Any]]
) -> None:
    loader = StreamLoader(dataset(address, count=9), num_workers=workers)
    state = loader.state_dict()
    kept = begin(loader)
    with pytest.raises(iterand.InvalidArgument, match=r"before iter\(\)"):
        loader.load_state_dict(state)
    with pytest.raises(iterand.InvalidArgument, match=r"before iter\(\)"):
        iter_dataset = dataset(address, count=9)
        kept += begin(iter_dataset)  # type: ignore[arg-type]
        iter_dataset.load_state_dict(state)
    StreamLoader(loader.dataset, num_workers=workers).load_state_dict(state)  # a loader of its own


def test_one_dataset_in_several_loaders(address: str, rows: np.ndarray) -> None:
    data = dataset(address, count=40)
    loaders = [StreamLoader(data), StreamLoader(data, num_workers=2), plain_loader(data, 2)]
    iterators = [iter(loader) for loader in loaders]
    for number in range(3):
        for iterator in iterators:
            assert np.array_equal(next(iterator)["tokens"].numpy(), split(rows[:40])[number])
    for loader in loaders[:2]:
        second = StreamLoader(data, num_workers=2)
        second.load_state_dict(loader.state_dict())
        assert same(take(second, 4), split(rows[:40])[3:7])


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (1, True), (2, False), (2, True)])
def test_a_state_is_used_by_one_epoch(address: str, rows: np.ndarray, workers: int, persistent: bool) -> None:
    """Workers of later epochs are copies of a dataset that has the state still."""
    first = dataset(address, count=20)
    take(first, 2)
    for use in (plain_loader, StreamLoader):
        data = dataset(address, count=20)
        data.load_state_dict(first.state_dict())
        loader = use(data, workers, persistent) if use is plain_loader else use(data, workers)
        assert same(arrays(loader), split(rows[8:20]))
        for _ in range(2):
            assert same(arrays(loader), split(rows[:20]))


def test_copies_begin_where_the_next_iteration_would(address: str, rows: np.ndarray) -> None:
    data = dataset(address)
    iterator = iter(data)
    take(iterator, 3)
    later = dataset(address)
    later.load_state_dict(data.state_dict())
    for copied in (copy.deepcopy(data), copy.copy(data), pickle.loads(pickle.dumps(data))):
        assert same(take(copied, 2), split(rows)[:2])
    for copied in (copy.deepcopy(later), copy.copy(later), pickle.loads(pickle.dumps(later))):
        assert copied.state_dict() == later.state_dict()
        assert same(take(copied, 2), split(rows)[3:5])
    assert same(take(later, 1), split(rows)[3:4])
    assert same(take(iterator, 2), split(rows)[3:5])
    loader = StreamLoader(data)
    kept = iter(loader)
    next(kept)
    for copied_loader in (copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))):
        assert same(take(copied_loader, 1), split(rows)[:1])
        assert same(take(kept, 0), [])


def test_a_datasets_own_state(address: str, rows: np.ndarray) -> None:
    data = dataset(address)
    iterator = iter(data)
    take(iterator, 2)
    second = iter(data)
    take(second, 1)
    assert data.state_dict() == second.state_dict()  # type: ignore[attr-defined]
    assert [iterator.state_dict()["next_index"], second.state_dict()["next_index"]] == [8, 4]
    loader = StreamLoader(data)
    take(loader, 3)
    assert data.state_dict()["next_index"] == 12  # the loader has no workers, so the dataset knows
    assert loader.state_dict() == data.state_dict()


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize("kind", ["StreamLoader", "DataLoader"])
def test_a_dataset_that_workers_iterate_does_not_know(address: str, kind: str, method: str) -> None:
    data = dataset(address)
    loader: Any = plain_loader(data, 1, method=method)
    if kind == "StreamLoader":
        loader = StreamLoader(data, num_workers=1, multiprocessing_context=method)
    assert data.state_dict()["next_index"] == 0
    iterator = iter(loader)
    with pytest.raises(iterand.InvalidArgument, match="StreamLoader"):
        data.state_dict()
    next(iterator)
    with pytest.raises(iterand.InvalidArgument, match="StatefulDataLoader"):
        data.state_dict()
    with pytest.raises(iterand.InvalidArgument, match="load_state_dict"):
        data.load_state_dict(StreamLoader(dataset(address)).state_dict())
    take(data, 3)  # in this process
    assert data.state_dict()["next_index"] == 12


stateful = pytest.importorskip("torchdata.stateful_dataloader")


def torchdatas(data: StreamDataset, workers: int, **options: Any) -> Any:
    context = "forkserver" if workers else None
    return stateful.StatefulDataLoader(
        data, batch_size=None, num_workers=workers, multiprocessing_context=context, **options
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("every", [1, 3])
def test_torchdatas_loader_resumes_three_times(address: str, rows: np.ndarray, workers: int, every: int) -> None:
    data = dataset(address, count=60)
    expected = split(rows[:60])
    state: dict[str, Any] | None = None
    done = 0
    for taken in (0, 4, 0, 3, 1):
        loader = torchdatas(data, workers, snapshot_every_n_steps=every)
        if state is not None:
            loader.load_state_dict(state)
        assert same(take(loader, taken), expected[done : done + taken])
        done += taken
        state = copy.deepcopy(loader.state_dict())
    loader.load_state_dict(state)  # the same loader goes back, and so does its dataset
    assert same(arrays(loader), expected[done:])
    assert same(arrays(loader), expected)


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_torchdatas_loader_at_the_end_of_an_epoch(
    address: str, rows: np.ndarray, workers: int, persistent: bool
) -> None:
    loader = torchdatas(dataset(address, count=14), workers, persistent_workers=persistent)
    expected = split(rows[:14])
    for _ in range(2):
        assert same(arrays(loader), expected)
    state = loader.state_dict()
    second = torchdatas(dataset(address, count=14), workers, persistent_workers=persistent)
    second.load_state_dict(state)
    for _ in range(2):
        assert same(arrays(second), expected)  # torchdata takes the end of an epoch for the beginning of the next


def test_torchdatas_loaders_share_a_dataset(address: str, rows: np.ndarray) -> None:
    data = dataset(address, count=60)
    expected = split(rows[:60])
    first, second = torchdatas(data, 0), torchdatas(data, 0)
    iterators = iter(first), iter(second)
    take(iterators[0], 5)
    take(iterators[1], 2)
    beside = iter(plain_loader(data, 1))  # workers of another loader
    next(beside)
    for loader, taken in ((first, 5), (second, 2)):
        third = torchdatas(data, 0)
        third.load_state_dict(loader.state_dict())
        assert same(take(third, 2), expected[taken : taken + 2])
    assert same(take(iterators[0], 2), expected[5:7])
