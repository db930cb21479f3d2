"""Streams in Grain: random access and in order, sharded, shuffled, saved and resumed."""

from __future__ import annotations

import itertools
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import iterand
from conftest import Server
from framework_programs import Compared

grain = pytest.importorskip("grain", reason="the package grain is absent: pip install 'iterand[grain]'")
from iterand.grain import StreamIterDataset, StreamSource  # noqa: E402

pytestmark = pytest.mark.integrations

FAST: dict[str, Any] = {"recipe": "uniform", "length": 64}  # no two sequences are equal
EXPECTED = iterand.read(indices=range(6000), server=False, **FAST)
INDEX = {row.tobytes(): index for index, row in enumerate(EXPECTED)}


def indices_of(elements: Any) -> list[int]:
    """The indices of elements, single rows or batches."""
    return [INDEX[row.tobytes()] for element in elements for row in np.atleast_2d(element["tokens"])]


def source(**options: Any) -> StreamSource:
    return StreamSource(**{**FAST, "count": 3000, **options})


def test_the_source_is_what_grain_asks_for() -> None:
    assert isinstance(source(), grain.sources.RandomAccessDataSource)
    data = grain.MapDataset.source(source())
    assert len(data) == 3000
    assert indices_of(data[index] for index in (0, 5, 2999, 3000)) == [0, 5, 2999, 0]
    assert repr(source()) == repr(pickle.loads(pickle.dumps(source())))
    assert repr(source()) != repr(source(batch_size=7)) != repr(source(batch_size=8))
    with pytest.raises(iterand.InvalidArgument, match="batch_size is 0"):
        source(batch_size=0)


@pytest.mark.parametrize("threads", [0, 16])
def test_map_datasets_give_every_sequence_once(threads: int) -> None:
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=500 if threads else 0)
    data = grain.MapDataset.source(source())
    assert indices_of(data.to_iter_dataset(options)) == list(range(3000))
    assert indices_of(data.batch(64).to_iter_dataset(options)) == list(range(3000))
    shuffled = indices_of(data[:400].shuffle(seed=1).to_iter_dataset(options))
    assert shuffled != list(range(400))
    assert sorted(shuffled) == list(range(400))
    batches = grain.MapDataset.source(source(batch_size=64))
    assert len(batches) == 47
    assert indices_of(source(batch_size=64)) == list(range(3000))
    with pytest.raises(IndexError, match="index is 47; the source has 47 batches"):
        source(batch_size=64)[47]
    assert indices_of(batches.to_iter_dataset(options)) == list(range(3000))
    shards = [indices_of(data[rank::3].to_iter_dataset(options)) for rank in range(3)]
    assert sorted(itertools.chain(*shards)) == list(range(3000))


def map_dataset() -> Any:
    return grain.MapDataset.source(source()).seed(1).shuffle().batch(7).to_iter_dataset()


def map_dataset_of_batches() -> Any:
    return grain.MapDataset.source(source(batch_size=7)).seed(1).shuffle().to_iter_dataset()


def elements() -> Any:
    return StreamIterDataset(**FAST, count=5000)


def batches() -> Any:
    return StreamIterDataset(**FAST, count=5000, batch_size=7, rank=1, world_size=3, start=5)


def rebatched() -> Any:
    return StreamIterDataset(**FAST).batch(7)


def prefetched() -> Any:
    return StreamIterDataset(**FAST).batch(7).prefetch(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))


def mixed() -> Any:
    return grain.IterDataset.mix([elements(), StreamIterDataset(**FAST, start=3000)], [2, 1])


@pytest.mark.parametrize("make", [map_dataset, map_dataset_of_batches, elements, batches, rebatched, mixed])
def test_iterators_resume_exactly_from_every_step(compared: Callable[..., Compared], make: Any) -> None:
    record = compared("grain")
    expected = [indices_of([element]) for element in itertools.islice(make(), 26)]
    running = iter(make())
    for step in range(21):
        state = json.loads(json.dumps(running.get_state()))
        resumed = iter(make())
        resumed.set_state(state)
        again = iter(make())  # from a state that was saved at once after resuming
        again.set_state(json.loads(json.dumps(resumed.get_state())))
        used = iter(make())  # by an iterator that has been used
        next(used)
        used.set_state(json.loads(json.dumps(resumed.get_state())))
        for iterator in (resumed, again, used):
            assert [indices_of([element]) for element in itertools.islice(iterator, 5)] == expected[step : step + 5]
            iterator.close()
            record.resumed += 1
            record.sequences += sum(map(len, expected[step : step + 5]))
        next(running)


def test_states_keep_their_shape_and_take_constant_time() -> None:
    iterator = iter(elements())
    states = [iterator.get_state()]
    for _ in range(300):
        next(iterator)
        states.append(iterator.get_state())
    assert len({json.dumps({key: type(value).__name__ for key, value in state.items()}) for state in states}) == 1
    assert [state["next_index"] for state in states] == list(range(301))
    begin = time.perf_counter()
    iterator.set_state({**states[0], "next_index": 10**12})
    far = StreamIterDataset(**FAST)
    resumed = iter(far)
    resumed.set_state({**states[0], "next_index": 10**12})
    assert np.array_equal(next(resumed)["tokens"], iterand.read(indices=10**12, **FAST)[0])
    assert time.perf_counter() - begin < 2


def test_a_stream_gives_every_sequence_once_to_readers_of_any_world_size() -> None:
    position, found = 0, []
    for world_size in (1, 3, 2, 6):
        states = []
        for rank in range(world_size):
            iterator = iter(StreamIterDataset(**FAST, batch_size=4, rank=rank, world_size=world_size))
            state = {**iterator.get_state(), "next_index": position}
            iterator.set_state(state)
            found += indices_of(itertools.islice(iterator, 10))
            states.append(iterator.get_state())
            iterator.close()
        assert all(state == states[0] for state in states)
        position = states[0]["next_index"]
    assert sorted(found) == list(range(position)) == list(range(40 * 12))
    assert indices_of(StreamIterDataset(**FAST, count=100, rank=1, world_size=2, batch_size=64)) == list(
        range(1, 200, 2)
    )
    assert indices_of(StreamIterDataset(**FAST, count=0)) == []


def test_a_state_is_that_of_a_stream() -> None:
    iterator = iter(StreamIterDataset(**FAST, batch_size=64))
    next(iterator)
    with iterand.stream(**FAST) as stream:
        stream.load_state_dict(iterator.get_state())
        assert np.array_equal(next(stream), next(iterator)["tokens"])
        iterator.set_state(stream.state_dict())
        assert np.array_equal(next(stream), next(iterator)["tokens"])


def test_workers_share_a_stream(compared: Callable[..., Compared]) -> None:
    """Of Grain's processes. One iterator goes back to the state of every step."""
    record = compared("grain", workers=2)
    flags = pytest.importorskip("absl.flags").FLAGS
    flags.mark_as_parsed()  # a program of absl has done so
    options = grain.MultiprocessingOptions(num_workers=2)
    data = StreamIterDataset(**FAST, batch_size=8, count=800).mp_prefetch(options)
    mapped = grain.MapDataset.source(source(count=500)).batch(10).to_iter_dataset().mp_prefetch(options)
    assert indices_of(mapped) == list(range(500))
    iterator = iter(data)
    states, batches = [], []
    for _ in range(21):
        states.append(json.loads(json.dumps(iterator.get_state())))
        batches.append(indices_of([next(iterator)]))
    batches += [indices_of([batch]) for batch in iterator]
    assert sorted(itertools.chain.from_iterable(batches)) == list(range(800))
    record.sequences += 500 + 800
    for step, state in enumerate(states):
        iterator.set_state(state)
        found = [indices_of([batch]) for batch in itertools.islice(iterator, 3)]
        assert found == batches[step : step + 3], step
        record.resumed += 1
        record.sequences += 3 * 8
    iterator.close()
    resumed = iter(StreamIterDataset(**FAST, batch_size=8, count=800).mp_prefetch(options))
    resumed.set_state(states[5])
    assert [indices_of([batch]) for batch in itertools.islice(resumed, 20)] == batches[5:25]
    resumed.close()


def test_the_data_loader_checks_the_source() -> None:
    def loader(**options: Any) -> Any:
        sampler = grain.samplers.SequentialSampler(3000, grain.sharding.NoSharding())
        return grain.DataLoader(data_source=source(**options), sampler=sampler)

    iterator = iter(loader())
    assert indices_of(itertools.islice(iterator, 10)) == list(range(10))
    state = iterator.get_state()
    resumed = iter(loader())
    resumed.set_state(state)
    assert indices_of(itertools.islice(resumed, 5)) == list(range(10, 15))
    with pytest.raises(ValueError, match="data source in dataloader"):
        iter(loader(seed=1)).set_state(state)


def test_orbax_saves_and_restores(tmp_path: Path) -> None:
    checkpoint = pytest.importorskip("orbax.checkpoint", reason="the package orbax-checkpoint is absent")
    iterator = iter(StreamIterDataset(**FAST, batch_size=8))
    for _ in range(3):
        next(iterator)
    manager = checkpoint.CheckpointManager(tmp_path / "run")
    manager.save(3, args=checkpoint.args.Composite(data=grain.checkpoint.CheckpointSave(iterator)))
    manager.wait_until_finished()
    resumed = iter(StreamIterDataset(**FAST, batch_size=8))
    manager.restore(3, args=checkpoint.args.Composite(data=grain.checkpoint.CheckpointRestore(resumed)))
    assert indices_of([next(resumed)]) == list(range(24, 32))
    manager.close()


def test_loss_masks_and_dtypes() -> None:
    with iterand.stream("tasks", length=64, loss_mask=True, batch_size=10) as stream:
        expected = stream.next_batch()
    options: dict[str, Any] = {"length": 64, "loss_mask": True, "dtype": "int32"}
    batch = next(iter(StreamIterDataset("tasks", batch_size=10, **options)))
    rows = list(itertools.islice(StreamIterDataset("tasks", **options), 10))
    assert batch["tokens"].dtype == rows[0]["tokens"].dtype == np.int32
    assert np.array_equal(batch["tokens"], expected.tokens)
    assert np.array_equal(batch["loss_mask"], expected.loss_mask)
    assert np.array_equal(np.stack([row["loss_mask"] for row in rows]), expected.loss_mask)


def test_a_server_gives_the_same(server: Server) -> None:
    there = StreamIterDataset(**FAST, batch_size=64, count=500, server=server.address)
    assert indices_of(there) == list(range(500))
    iterator = iter(StreamIterDataset(**FAST, batch_size=64, server=server.address))
    next(iterator)
    here = iter(StreamIterDataset(**FAST, batch_size=64))
    here.set_state(iterator.get_state())
    assert np.array_equal(next(here)["tokens"], next(iterator)["tokens"])
    iterator.close()


def test_leaving_early_and_closing() -> None:
    for element in elements():
        assert element["tokens"].shape == (64,)
        break
    iterator = iter(batches())
    next(iterator)
    iterator.close()
    iterator.close()
    with pytest.raises(ValueError, match="closed iterator"):
        next(iterator)
    code = (
        "import sys; from iterand.grain import StreamIterDataset\n"
        "iterator = iter(StreamIterDataset('up-statistics', length=64, batch_size=8).mp_prefetch())\n"
        "next(iter(StreamIterDataset('up', length=512))); sys.exit(3)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 3


def test_errors_come_to_the_caller_and_lose_nothing() -> None:
    starving = {"families": [{"constant": {}}], "length": 64, "lanes": 2, "segment_sequences": 8}
    starving |= {"band": {"low": 0.5, "high": 1}, "starvation_rounds": 5}
    iterator = iter(StreamIterDataset(starving, batch_size=4))
    for _ in range(2):
        with pytest.raises(iterand.Starved):
            next(iterator)
    assert iterator.get_state()["next_index"] == 0


def test_wrong_arguments_are_refused() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"rank": 1}, "rank is 1"),
        ({"count": -1}, "count is -1"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"dtype": "float32"}, "dtype is float32"),
        ({"token": "x"}, "token is given, but no server"),
        ({"recipe": "no-such-preset"}, "no-such-preset"),
    ]
    for options, message in wrong:
        with pytest.raises(iterand.InvalidArgument, match=message):
            StreamIterDataset(**options)
    iterator = iter(elements())
    with pytest.raises(iterand.InvalidArgument, match="state is not what state_dict gave"):
        iterator.set_state({"next_index": 5})
    other = iter(StreamIterDataset(**FAST, seed=1))
    with pytest.raises(iterand.FingerprintMismatch, match="seed 1, not 0"):
        iterator.set_state(other.get_state())


def test_the_rate_is_at_least_a_quarter_of_the_streams() -> None:
    """Measured again if a busy machine slows one of them. `-rP` prints what was measured."""
    rows = 48_000

    def rate(batches: Any) -> float:
        begin = time.perf_counter()
        assert sum(len(batch) if isinstance(batch, np.ndarray) else len(batch["tokens"]) for batch in batches) == rows
        return rows / (time.perf_counter() - begin)

    def shares() -> tuple[float, float]:
        stream = rate(iterand.stream("up-statistics", length=512, batch_size=64, count=rows))
        source = StreamSource("up-statistics", length=512, count=rows, batch_size=64)
        mapped = rate(grain.MapDataset.source(source).to_iter_dataset())
        in_order = rate(StreamIterDataset("up-statistics", length=512, batch_size=64, count=rows))
        return mapped / stream, in_order / stream

    begin = time.perf_counter()
    assert sum(1 for _ in grain.MapDataset.range(20_000).to_iter_dataset()) == 20_000
    print(f"Grain by itself: {(time.perf_counter() - begin) / 20_000 * 1e6:.0f} microseconds per element")
    measured = [shares() for _ in range(3)]
    for mapped, in_order in measured:
        print(f"share of the stream's rate: {mapped:.2f} by random access, {in_order:.2f} in order")
    assert max(share for share, _ in measured) > 0.25, measured
    assert max(share for _, share in measured) > 0.25, measured
