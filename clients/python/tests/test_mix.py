"""Noise and real data in one loader: nothing lost or twice, exact shares, exact resumption, clear errors."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import iterand

LENGTH = 32
RECIPE = {"families": [{"uniform": {}}], "length": LENGTH, "lanes": 4, "segment_sequences": 8}
ANNEAL = ([{"at": 0, "weight": 1}, {"at": 10, "weight": 0}], [{"at": 0, "weight": 0}, {"at": 10, "weight": 1}])


class Rows:
    """Real data with indices: item i begins with i."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return {"input_ids": [index, *[7] * (LENGTH - 1)]}


class Saved:
    """Real data that is iterated over, with a state of its own; `late`: only after the first item."""

    def __init__(self, count: int, late: bool = False) -> None:
        self.count = count
        self.late = late
        self.start = self.at = 0
        self.begun = False
        self.failing: set[int] = set()

    def __iter__(self) -> Iterator[np.ndarray]:
        at, self.start = self.start, 0
        self.begun = False
        while at < self.count:
            if at in self.failing:
                self.failing = set()
                raise OSError(f"item {at} cannot be read")
            self.begun, self.at = True, at + 1
            yield np.array([at, *[7] * (LENGTH - 1)], np.uint16)
            at += 1

    def state_dict(self) -> Any:
        assert self.begun or not self.late, "state_dict was called before the first item"
        return {"at": self.at}

    def load_state_dict(self, state: Any) -> None:
        self.start = self.at = state["at"]
        self.begun = False


class Stuck(Saved):
    """Begins all iterations at the state that it was given, as `datasets` do."""

    def __iter__(self) -> Iterator[np.ndarray]:
        start = self.start
        yield from super().__iter__()
        self.start = start


class SavedIterator(Iterator[np.ndarray]):
    def __init__(self, count: int) -> None:
        self.count = count
        self.at = 0

    def __next__(self) -> np.ndarray:
        if self.at == self.count:
            raise StopIteration
        self.at += 1
        return np.array([self.at - 1, *[7] * (LENGTH - 1)])

    def get_state(self) -> Any:
        return {"at": np.int64(self.at)}

    def set_state(self, state: Any) -> None:
        self.at = int(state["at"])


class OfIterators:
    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> SavedIterator:
        return SavedIterator(self.count)


def noise(**options: Any) -> iterand.Stream:
    return iterand.stream(RECIPE, **{"batch_size": 5, "server": False, **options})


NOISE = {row.tobytes(): index for index, row in enumerate(iterand.read(RECIPE, range(3000), server=False).astype(int))}


def read(batches: Any) -> list[tuple[str, int]]:
    """The sequences of some batches: ("noise", index) or ("real", index)."""
    found = []
    for batch in batches:
        assert batch["tokens"].shape == batch["loss_mask"].shape == (len(batch["source"]), LENGTH)
        for tokens, source in zip(batch["tokens"].astype(int), batch["source"], strict=True):
            found.append(("noise", NOISE[tokens.tobytes()]) if source == 0 else ("real", int(tokens[0])))
    return found


def parts(found: list[tuple[str, int]]) -> tuple[list[int], list[int]]:
    return [i for name, i in found if name == "noise"], [i for name, i in found if name == "real"]


Make = Callable[[], iterand.Mix]
MAKERS: dict[str, Make] = {
    "indexed": lambda: iterand.mix(noise(), Rows(10_000), (1, 2), batch_size=7, seed=3),
    "repeated": lambda: iterand.mix(noise(), Rows(10), (1, 2), batch_size=7, seed=3, repeat=True),
    "iterable": lambda: iterand.mix(noise(), Saved(10_000), (1, 2), batch_size=7, seed=3),
    "late": lambda: iterand.mix(noise(), Saved(10_000, late=True), (1, 2), batch_size=7, seed=3),
    "iterators": lambda: iterand.mix(noise(), OfIterators(23), ANNEAL, batch_size=7, repeat=True),
    "again": lambda: iterand.mix(noise(), Saved(23), ANNEAL, batch_size=7, repeat=True),
    "stuck": lambda: iterand.mix(noise(), Stuck(23), ANNEAL, batch_size=7, repeat=True),
    "annealed": lambda: iterand.mix(noise(batch_size=64), Rows(10_000), ANNEAL, batch_size=8),
    "data sets": lambda: iterand.mix(iterand.IndexDataset(RECIPE, count=3000, server=False), Rows(999), batch_size=7),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_nothing_is_lost_and_nothing_comes_twice(make: Make) -> None:
    found = read(itertools.islice(make(), 40))
    noisy, real = parts(found)
    assert noisy == list(range(len(noisy)))
    size = getattr(make()._sources[1], "_data").count  # noqa: B009
    assert real == [index % size for index in range(len(real))]
    assert len(noisy) + len(real) == 40 * make()._batch_size
    assert found == read(itertools.islice(make(), 40))


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_mix_resumes_exactly_from_every_step(make: Make) -> None:
    batches = list(itertools.islice(make(), 26))
    running = make()
    for step in range(21):
        state = json.loads(json.dumps(running.state_dict(), default=int))
        resumed = make()
        resumed.load_state_dict(state)
        assert resumed.step == step
        again = make()  # from a state that was saved at once after resuming
        again.load_state_dict(json.loads(json.dumps(resumed.state_dict(), default=int)))
        for loader in (resumed, again):
            assert read(itertools.islice(loader, 5)) == read(batches[step : step + 5])
        third = make()  # and from one that was saved by the resumed one
        third.load_state_dict(json.loads(json.dumps(resumed.state_dict(), default=int)))
        assert read(itertools.islice(third, 1)) == read(batches[step + 5 : step + 6])
        next(running)


def test_noise_from_a_server_is_the_same_and_continues_here(address: str) -> None:
    here, there = (iterand.mix(noise(server=server), Rows(999), batch_size=7) for server in (False, address))
    for _ in range(5):
        assert np.array_equal(next(here)["tokens"], next(there)["tokens"])
    resumed = iterand.mix(noise(), Rows(999), batch_size=7)
    resumed.load_state_dict(there.state_dict())
    assert read([next(resumed)]) == read([next(there)]) == read([next(here)])


def test_every_batch_has_its_share() -> None:
    for weights, share in (((1, 2), 1 / 3), ((0.3, 0.1), 0.75), ((1, 0), 1), ((0, 1), 0)):
        mix = iterand.mix(noise(), Rows(10**6), weights, batch_size=16, seed=1)
        rows = [int((batch["source"] == 0).sum()) for batch in itertools.islice(mix, 200)]
        assert all(abs(count - 16 * share) <= 1 for count in rows)
        assert abs(sum(rows) - 200 * 16 * share) < 3
    orders = {
        tuple(next(iterand.mix(noise(), Rows(100), batch_size=16, seed=seed))["source"].tolist()) for seed in range(20)
    }
    assert len(orders) > 15


def test_weights_follow_their_schedule() -> None:
    mix = iterand.mix(noise(), Rows(10**6), ANNEAL, batch_size=100)
    rows = [int((batch["source"] == 0).sum()) for batch in itertools.islice(mix, 15)]
    assert all(abs(count - max(0, 100 - 10 * step)) <= 1 for step, count in enumerate(rows))
    steps = ([{"at": 3, "weight": 0}, {"at": 3, "weight": 1}], 1)
    mix = iterand.mix(noise(), Rows(10**6), steps, batch_size=10)
    rows = [int((batch["source"] == 0).sum()) for batch in itertools.islice(mix, 6)]
    assert rows[:3] == [0] * 3
    assert rows[3:] == [5] * 3


@pytest.mark.parametrize("end", ["real", "noise", "iterable"])
def test_the_mix_ends_with_the_first_source(end: str) -> None:
    for count in range(1, 25):
        source = noise(count=count) if end == "noise" else noise()
        data: Any = Rows(10_000) if end == "noise" else Rows(count) if end == "real" else Saved(count)
        mix = iterand.mix(source, data, (1, 1), batch_size=6, seed=count)
        found = read(mix)
        noisy, real = parts(found)
        assert len(noisy if end == "noise" else real) == count
        assert noisy == list(range(len(noisy)))
        assert real == list(range(len(real)))
        assert next(mix, None) is None


def test_all_ranks_have_one_order_and_any_world_size_continues() -> None:
    def mix(rank: int, world_size: int) -> iterand.Mix:
        stream = noise(rank=rank, world_size=world_size)
        return iterand.mix(stream, Rows(10_000), (1, 2), batch_size=6, rank=rank, world_size=world_size)

    used: list[tuple[str, int]] = []
    state = None
    for world_size in (3, 1, 2, 4):
        states = []
        for rank in range(world_size):
            reader = mix(rank, world_size)
            if state is not None:
                reader.load_state_dict(state)
            used += read(itertools.islice(reader, 5))
            states.append(reader.state_dict())
        assert all(other == states[0] for other in states)
        state = states[0]
    noisy, real = parts(used)
    assert sorted(noisy) == list(range(len(noisy)))
    assert sorted(real) == list(range(len(real)))
    with pytest.raises(iterand.InvalidArgument, match="state is of reader 0 of 2"):
        first = iterand.mix(noise(world_size=2), Saved(9), rank=0, world_size=2)
        iterand.mix(noise(rank=1, world_size=2), Saved(9), rank=1, world_size=2).load_state_dict(first.state_dict())


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("item", range(0, 40, 3))
def test_an_error_of_a_source_loses_nothing(item: int, late: bool) -> None:
    """Neither for the next call nor for a state that is saved after the error."""

    def make() -> tuple[iterand.Mix, Saved]:
        data = Saved(10_000, late)
        return iterand.mix(noise(), data, (1, 1), batch_size=8), data

    expected = read(itertools.islice(make()[0], 12))
    mix, data = make()
    data.failing = {item}
    found: list[tuple[str, int]] = []
    with pytest.raises(OSError, match=f"item {item} cannot be read"):
        for batch in itertools.islice(mix, 12):
            found += read([batch])
    state = mix.state_dict()
    resumed, _ = make()
    resumed.load_state_dict(state)
    assert found + read(itertools.islice(resumed, 12 - len(found) // 8)) == expected
    data.failing = {item + 4}  # the mix itself begins again where it was, though a generator ends with its error
    while len(found) < len(expected):
        with contextlib.suppress(OSError):
            found += read([next(mix)])
    assert found == expected


def test_a_data_set_that_fails_once_is_read_again() -> None:
    class Flaky(Rows):
        left = 3

        def __getitem__(self, index: int) -> Any:
            if index % 10 == 9 and self.left:
                self.left -= 1
                raise OSError("the disk is away")
            return super().__getitem__(index)

    expected = read(itertools.islice(iterand.mix(noise(), Rows(1000), batch_size=8), 12))
    mix = iterand.mix(noise(), Flaky(1000), batch_size=8)
    found: list[tuple[str, int]] = []
    errors = 0
    while len(found) < len(expected):
        try:
            found += read([next(mix)])
        except OSError:
            errors += 1
    assert found == expected
    assert errors == 3


def test_loss_masks_of_one_source() -> None:
    stream = iterand.stream("tasks", length=64, loss_mask=True, server=False)
    real = np.zeros((500, 64), np.uint8)
    batch = next(iterand.mix(stream, real, (1, 1), batch_size=32, dtype="int32"))
    masks = iterand.stream("tasks", length=64, loss_mask=True, batch_size=32, server=False).next_batch().loss_mask
    assert masks is not None
    noisy = batch["source"] == 0
    assert batch["tokens"].dtype == np.int32
    assert np.array_equal(batch["loss_mask"][noisy], masks[: noisy.sum()])
    assert batch["loss_mask"][~noisy].all()
    assert not batch["tokens"][~noisy].any()


def test_wrong_arguments_are_refused() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"weights": 1}, r"weights is 1; it must be a pair"),
        ({"weights": (1,)}, r"it must be a pair"),
        ({"weights": (0, 0)}, r"both are 0 at step 0"),
        ({"weights": ([{"at": 0, "weight": 1}, {"at": 9, "weight": 0}], 0)}, r"both are 0 at step 9"),
        ({"weights": (-1, 1)}, r"weights\[0\]: is -1, must be in \[0, 1e\+06\]"),
        ({"weights": (1, float("nan"))}, r"weights\[1\]: is nan"),
        ({"weights": (1, "2")}, r"weights\[1\] is '2'"),
        ({"weights": (1, [])}, r"weights\[1\] has no points"),
        ({"weights": (1, [{"at": 0}])}, r"weights\[1\]\[0\] is {'at': 0}; it must be a point"),
        ({"weights": (1, [{"at": 5, "weight": 1}, {"at": 4, "weight": 1}])}, r"\[1\].at: is 4, must be at least 5"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"rank": 1}, "rank is 1"),
        ({"repeat": 1}, "repeat is 1"),
        ({"world_size": 2}, "noise is the stream of reader 0 of 1, but the mix has rank=0 and world_size=2"),
        ({"dtype": "float32"}, "dtype is float32"),
        ({"noise": "up"}, "noise is a str; it must be a stream"),
        ({"real": 5}, "real is a int; it must be an iterand.stream, a data set"),
        ({"real": iter([1])}, "real is a list_iterator, which cannot be saved"),
    ]
    for options, message in wrong:
        with pytest.raises(iterand.InvalidArgument, match=message):
            iterand.mix(**{"noise": noise(), "real": Rows(5), **options})
    items: list[tuple[Any, str]] = [
        ([[1] * 5] * 9, r"real\[0\] has 5 tokens, but noise\[\d+\] has 32|noise\[\d\] has 32 tokens, but real"),
        ([{"text": "x"}], r"real\[0\] has the columns 'text'; one of them must be 'tokens' or 'input_ids'"),
        ([np.zeros((2, LENGTH), int)], r"real\[0\] is of int64 and shape \(2, 32\); it must be one sequence"),
        ([np.zeros(LENGTH)], r"real\[0\] is of float64"),
        (["words"], r"real\[0\] is of <U5"),
        ([{"tokens": [1] * LENGTH, "loss_mask": [True]}], r"real\[0\]\['tokens'\] has a loss mask of shape \(1,\)"),
        ([], r"real has no items"),
    ]
    for data, message in items:
        with pytest.raises(iterand.InvalidArgument, match=message):
            next(iterand.mix(noise(), data, repeat=True))
    with pytest.raises(iterand.InvalidArgument, match=r"real\[0\] and the rows after it: dtype is uint8"):
        next(iterand.mix(noise(), [[300] * LENGTH], (0, 1), dtype="uint8", repeat=True))


def test_states_of_others_are_refused() -> None:
    def make(**options: Any) -> iterand.Mix:
        return iterand.mix(noise(seed=options.pop("noise_seed", 0)), Rows(options.pop("size", 99)), **options)

    mix = make()
    next(mix)
    state = mix.state_dict()
    for options, message in (
        ({"seed": 1}, "state is of a mix with seed 0, not 1"),
        ({"weights": (1, 2)}, "state is of a mix with weights"),
        ({"batch_size": 9}, "state is of a mix with batch_size 64, not 9"),
        ({"size": 98}, "state is of real with 99 items; it has 98 now"),
    ):
        with pytest.raises(iterand.InvalidArgument, match=message):
            make(**options).load_state_dict(state)
    with pytest.raises(iterand.FingerprintMismatch, match="seed"):
        make(noise_seed=1).load_state_dict(state)
    other = make(weights=(1, 2), batch_size=9)
    other.load_state_dict(state, strict=False)
    used = int((next(make())["source"] == 0).sum())
    assert min(parts(read([next(other)]))[0]) == used
    with pytest.raises(iterand.InvalidArgument, match="after iteration had begun"):
        mix.load_state_dict(state)
    for broken in ({}, {**state, "version": 9}, {**state, "step": -1}, {**state, "noise": {}}, {**state, "real": 3}, 5):
        with pytest.raises(iterand.InvalidArgument):
            make().load_state_dict(broken)  # type: ignore[arg-type]
