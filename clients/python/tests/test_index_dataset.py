"""Ranges of streams as map-style data sets: any order of reads, the same sequences, at a bounded cost."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

import iterand
from conftest import Server

FAST: dict[str, Any] = {"recipe": "up-statistics", "length": 64}
RECIPE = {"families": [{"uniform": {}}], "length": 32, "lanes": 4, "segment_sequences": 8}


def tokens_of(dataset: iterand.IndexDataset, indices: Any) -> np.ndarray:
    return np.stack([dataset[index]["tokens"] for index in indices])


@pytest.mark.parametrize("cache_bytes", [0, 64 << 20])
def test_items_are_the_sequences_of_their_index_in_any_order(cache_bytes: int) -> None:
    expected = iterand.read(indices=range(5, 4005), **FAST)
    dataset = iterand.IndexDataset(**FAST, start=5, count=4000, cache_bytes=cache_bytes)
    assert len(dataset) == 4000
    order = np.random.default_rng(0).permutation(4000)[:300]
    for indices in (range(4000), order, range(3999, 3900, -1), range(0, 4000, 7), [3, 3, 1600, 2, -1, -4000]):
        assert np.array_equal(tokens_of(dataset, indices), expected[np.asarray(indices)])
        items = dataset.__getitems__(list(indices))
        assert np.array_equal(np.stack([item["tokens"] for item in items]), expected[np.asarray(indices)])
        assert np.array_equal(dataset.batch(indices)["tokens"], expected[np.asarray(indices)])
        assert np.array_equal(dataset[list(indices)]["tokens"], expected[np.asarray(indices)])
    assert sum(1 for _ in dataset) == 4000


def test_items_may_be_written_to() -> None:
    dataset = iterand.IndexDataset(**FAST, count=2000)
    for index in (0, 1, 2, 1999):
        before = dataset[index]["tokens"].copy()
        dataset[index]["tokens"][:] = 7
        dataset.batch([index, index])["tokens"][:] = 7
        assert np.array_equal(dataset[index]["tokens"], before)


def test_a_stripe_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads in order come from one stream; reads in random order make one segment each, and keep it."""
    opened: list[dict[str, Any]] = []
    stream, read = iterand.api.stream, iterand.Stream.read_batch
    monkeypatch.setattr(iterand.api, "stream", lambda **options: opened.append(options) or stream(**options))
    reads: list[int] = []
    monkeypatch.setattr(
        iterand.Stream, "read_batch", lambda self, indices: reads.append(len(indices)) or read(self, indices)
    )
    in_order = iterand.IndexDataset(**FAST, count=20_000)
    opened.clear()
    for index in range(20_000):
        in_order[index]
    assert [options["count"] for options in opened] == [0, 20_000]
    assert reads == [48]  # the first item of all
    reads.clear()
    at_random = iterand.IndexDataset(**FAST, count=2**40)
    opened.clear()
    for index in range(0, 2**40, 2**36):
        at_random[index]
        at_random[index + 1536 - 32 if index % 1536 == 0 else index]
    assert [options["count"] for options in opened] == [0]
    assert reads == [48] * 16


def test_loss_masks_and_dtypes() -> None:
    with iterand.stream("tasks", length=64, loss_mask=True, count=100, batch_size=100) as stream:
        batch = stream.next_batch()
    dataset = iterand.IndexDataset("tasks", length=64, loss_mask=True, count=100, dtype="int32")
    for index in (0, 1, 50, 99):
        item = dataset[index]
        assert item["tokens"].dtype == np.int32
        assert np.array_equal(item["tokens"], batch.tokens[index])
        assert batch.loss_mask is not None
        assert np.array_equal(item["loss_mask"], batch.loss_mask[index])
    assert dataset.batch([])["loss_mask"].shape == (0, 64)
    assert dataset.batch([])["tokens"].shape == (0, 64)
    assert [set(item) for item in dataset.__getitems__([1, 2])] == [{"tokens", "loss_mask"}] * 2
    wide = iterand.IndexDataset({**RECIPE, "vocab_size": 50_000, "relabel": "sequence"}, count=100, dtype=np.uint8)
    with pytest.raises(iterand.InvalidArgument, match="dtype is uint8, which holds numbers from 0 to 255"):
        wide[0]


def test_the_last_index_of_all() -> None:
    dataset = iterand.IndexDataset(RECIPE, start=2**64 - 10, count=10)
    expected = iterand.read(RECIPE, range(2**64 - 10, 2**64))
    assert np.array_equal(tokens_of(dataset, range(10)), expected)
    assert np.array_equal(tokens_of(dataset, [9]), expected[9:])


def test_an_endless_pool_is_read_in_order() -> None:
    expected = iterand.read("up-paper", range(300), length=64)
    dataset = iterand.IndexDataset("up-paper", length=64, count=300)
    assert np.array_equal(tokens_of(dataset, range(300)), expected)
    assert np.array_equal(tokens_of(dataset, [200, 7]), expected[[200, 7]])


def test_copies_name_the_same_sequences() -> None:
    dataset = iterand.IndexDataset(**FAST, seed=3, count=2000)
    first = dataset[0]["tokens"]
    copy = pickle.loads(pickle.dumps(dataset))
    assert repr(copy) == repr(dataset)
    assert len(pickle.dumps(dataset)) < 2000
    assert np.array_equal(copy[0]["tokens"], first)
    others = (
        iterand.IndexDataset(**FAST, seed=4, count=2000),
        iterand.IndexDataset(**FAST, seed=3, count=2001),
        iterand.IndexDataset(**FAST, seed=3, count=2000, start=1),
        iterand.IndexDataset("lstm", length=64, seed=3, count=2000),
        iterand.IndexDataset({**RECIPE, "lanes": 8}, count=2000),
        iterand.IndexDataset(RECIPE, count=2000),
    )
    assert len({repr(other) for other in (dataset, *others)}) == 7
    dataset.close()
    assert np.array_equal(dataset[0]["tokens"], first)


def _read_in_child(dataset: iterand.IndexDataset, indices: list[int], queue: Any) -> None:
    queue.put(tokens_of(dataset, indices))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_that_inherit_a_data_set_make_their_own(method: str) -> None:
    dataset = iterand.IndexDataset(**FAST, count=10_000)
    expected = iterand.read(indices=range(10_000), **FAST)
    for index in range(2000):
        dataset[index]
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    indices = [*range(1990, 3200), 9000, 5]
    process = context.Process(target=_read_in_child, args=(dataset, indices, queue))
    process.start()
    assert np.array_equal(queue.get(timeout=60), expected[indices])
    process.join(60)
    assert process.exitcode == 0
    assert np.array_equal(tokens_of(dataset, range(1990, 3200)), expected[1990:3200])


def test_threads_share_a_data_set() -> None:
    expected = iterand.read(indices=range(6000), **FAST)
    dataset = iterand.IndexDataset(**FAST, count=6000, cache_bytes=200_000)
    failures: list[int] = []

    def read(thread: int) -> None:
        order = range(thread, 6000, 8) if thread % 2 else np.random.default_rng(thread).permutation(6000)[:750]
        failures.extend(index for index in order if not np.array_equal(dataset[index]["tokens"], expected[index]))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures


def test_a_server_gives_the_same(server: Server) -> None:
    here = iterand.IndexDataset(**FAST, count=3000)
    there = iterand.IndexDataset(**FAST, count=3000, server=server.address)
    for indices in (range(3000), [2999, 5, 1500]):
        assert np.array_equal(tokens_of(here, indices), tokens_of(there, indices))
    there.close()


def test_wrong_arguments_are_refused() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"count": -1}, "count is -1"),
        ({"count": 1.5}, "count is 1.5"),
        ({"count": 1, "start": -1}, "start is -1"),
        ({"count": 2, "start": 2**64 - 1}, "the last index would be"),
        ({"count": 1, "seed": -1}, "seed is -1"),
        ({"count": 1, "dtype": "float32"}, "dtype is float32; it must be one of whole numbers"),
        ({"count": 1, "dtype": "nonsense"}, "dtype is 'nonsense'"),
        ({"count": 1, "cache_bytes": -1}, "cache_bytes is -1"),
        ({"count": 1, "token": "secret"}, "token is given, but no server"),
        ({"count": 1, "recipe": "no-such-preset"}, "no-such-preset"),
        ({"count": 1, "expected_fingerprint": bytes(32)}, "fingerprint"),
    ]
    for options, message in wrong:
        with pytest.raises(iterand.Error, match=message):
            iterand.IndexDataset(**options)
    dataset = iterand.IndexDataset("uniform", count=10)
    for index in (10, -11, 2**70):
        with pytest.raises(IndexError, match=f"index is {index}; the data set has 10 sequences"):
            dataset[index]
    for indices in ([1, 10], [-11]):
        with pytest.raises(iterand.OutOfRange):
            dataset.batch(indices)
    with pytest.raises(iterand.InvalidArgument, match="index is '1', a str"):
        dataset["1"]  # type: ignore[index]
    assert len(iterand.IndexDataset("uniform", count=0)) == 0


def test_an_error_of_the_stream_leaves_the_data_set_usable() -> None:
    starving = {"families": [{"constant": {}}], "length": 64, "lanes": 2, "segment_sequences": 8}
    starving |= {"band": {"low": 0.5, "high": 1}, "starvation_rounds": 5}
    dataset = iterand.IndexDataset(starving, count=100)
    for index in (0, 1, 2, 50):
        with pytest.raises(iterand.Starved):
            dataset[index]


def test_a_program_may_end_in_the_middle() -> None:
    code = (
        "import sys, iterand\n"
        "dataset = iterand.IndexDataset('up', length=512, count=10**6)\n"
        "mix = iterand.mix(iterand.stream('up', length=512), dataset)\n"
        "dataset[0], dataset[1], next(mix)\n"
        "sys.exit(3)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 3


@pytest.mark.slow
def test_reads_in_order_reach_half_of_the_rate_of_a_stream() -> None:
    """Measured again if a busy machine slows one of the two."""

    def rate(rows: int, read: Any) -> float:
        begin = time.perf_counter()
        read(rows)
        return rows / (time.perf_counter() - begin)

    def stream(rows: int) -> None:
        with iterand.stream("up-statistics", length=512, count=rows, batch_size=64) as batches:
            for _ in batches:
                pass

    def items(rows: int) -> None:
        dataset = iterand.IndexDataset("up-statistics", length=512, count=rows)
        for first in range(0, rows, 64):
            dataset.__getitems__(range(first, first + 64))

    shares = [rate(96_000, items) / rate(96_000, stream) for _ in range(3)]
    assert max(shares) > 0.5, shares
