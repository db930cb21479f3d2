"""Streams in Ray Data, on a local cluster: every sequence once, also when a worker is killed."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import iterand
import ray_cluster
from framework_programs import Compared

ray = pytest.importorskip("ray", reason="the package ray is absent: pip install 'iterand[ray]'")
import pyarrow.parquet  # noqa: E402

import iterand.ray  # noqa: E402

pytestmark = pytest.mark.integrations

OPTIONS: dict[str, Any] = {"recipe": "up-statistics", "length": 64, "seed": 5}
STRIPE = 32 * 48  # sequences of one segment of each lane


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Four workers on this machine."""
    ray_cluster.start(num_cpus=4, object_store_memory=512 << 20)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def hash_of(index: np.ndarray, tokens: np.ndarray) -> str:
    """Of (index, tokens) in the order of the indices."""
    order = np.argsort(index)
    digest = hashlib.sha256(np.ascontiguousarray(index[order], np.int64))
    digest.update(np.ascontiguousarray(tokens[order]))
    return digest.hexdigest()


def hash_of_stream(start: int, count: int) -> str:
    with iterand.stream(**OPTIONS, start=start, count=count, batch_size=4096, server=False) as stream:
        tokens = np.concatenate(list(stream))
    return hash_of(np.arange(start, start + count), tokens)


def rows_of(dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    batches = list(dataset.iter_batches(batch_size=1000))
    return tuple(np.concatenate([batch[name] for batch in batches]) for name in ("index", "tokens"))  # type: ignore[return-value]


@pytest.mark.parametrize("blocks", [None, 1, 3, 200])
@pytest.mark.parametrize(("start", "count"), [(0, 20_000), (1000, 12_345), (STRIPE, STRIPE), (7, 1)])
def test_every_sequence_comes_once(
    start: int, count: int, blocks: int | None, compared: Callable[..., Compared]
) -> None:
    dataset = iterand.ray.read(**OPTIONS, start=start, count=count, override_num_blocks=blocks)
    index, tokens = rows_of(dataset)
    assert tokens.dtype == np.uint8
    assert sorted(index.tolist()) == list(range(start, start + count))
    assert hash_of(index, tokens) == hash_of_stream(start, count)
    assert dataset.count() == count
    compared("ray", workers=4).sequences += count


def test_tasks_share_no_segment() -> None:
    source = iterand.ray.StreamDatasource(**OPTIONS, start=1000, count=20_000)
    for parallelism in (1, 2, 3, 5, 14, 100):
        tasks = source.get_read_tasks(parallelism)
        ranges = list(source._ranges(parallelism))
        assert len(tasks) == len(ranges) == min(parallelism, 14)
        assert [low for low, _ in ranges] == [1000, *(high for _, high in ranges[:-1])]
        assert ranges[-1][1] == 21_000
        assert all(low % STRIPE == 0 for low, _ in ranges[1:])
        sizes = [high - low for low, high in ranges]
        assert [task.metadata.num_rows for task in tasks] == sizes
    assert source.estimate_inmemory_data_size() == 20_000 * (64 + 8)
    tables = [table for task in source.get_read_tasks(3) for table in task()]
    assert sum(table.num_rows for table in tables) == 20_000
    assert all(table.schema == task.schema for table, task in zip(tables, source.get_read_tasks(3), strict=False))
    assert len(iterand.ray.StreamDatasource("up-paper", length=64, count=5000).get_read_tasks(8)) == 1
    assert iterand.ray.StreamDatasource(**OPTIONS, count=0).get_read_tasks(8) == []
    assert source.get_name() == "Iterand"
    iterand.set_threads()  # the tasks that ran in this process set it


def test_blocks_are_bounded_and_limits_are_kept() -> None:
    class Context:
        target_max_block_size = 100_000

    source = iterand.ray.StreamDatasource(**OPTIONS, count=20_000)
    (task,) = source.get_read_tasks(1, data_context=Context())
    tables = list(task())
    assert all(table.nbytes <= 110_000 for table in tables)
    assert sum(table.num_rows for table in tables) == 20_000
    (limited,) = source.get_read_tasks(1, per_task_row_limit=10, data_context=Context())
    assert sum(table.num_rows for table in limited()) == 10


def test_nothing_is_made_before_it_is_asked_for() -> None:
    begin = time.monotonic()
    dataset = iterand.ray.read(**OPTIONS, count=10**9)
    assert dataset.schema().names == ["index", "tokens"]
    assert len(dataset.take(5)) == 5
    assert time.monotonic() - begin < 60


def test_rows_may_keep_their_order() -> None:
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    try:
        index, _ = rows_of(iterand.ray.read(**OPTIONS, count=20_000, override_num_blocks=7))
    finally:
        context.execution_options.preserve_order = False
    assert index.tolist() == list(range(20_000))


def test_parquet_has_what_the_stream_has(tmp_path: Path) -> None:
    iterand.ray.read(**OPTIONS, start=3, count=20_000, override_num_blocks=4).write_parquet(str(tmp_path))
    index, tokens = rows_of(ray.data.read_parquet(str(tmp_path)))
    assert hash_of(index, tokens) == hash_of_stream(3, 20_000)
    table = pyarrow.parquet.read_table(tmp_path)
    storage = pyarrow.concat_arrays([chunk.storage for chunk in table["tokens"].chunks])
    plain = np.stack(storage.to_numpy(zero_copy_only=False))
    assert hash_of(table["index"].to_numpy(), plain) == hash_of_stream(3, 20_000)


def test_loss_masks_are_a_column() -> None:
    with iterand.stream("tasks", length=64, loss_mask=True, batch_size=500, server=False) as stream:
        expected = stream.next_batch()
    dataset = iterand.ray.read("tasks", length=64, loss_mask=True, count=500)
    (batch,) = dataset.iter_batches(batch_size=500)
    order = np.argsort(batch["index"])
    assert np.array_equal(batch["tokens"][order], expected.tokens)
    assert np.array_equal(batch["loss_mask"][order].astype(bool), expected.loss_mask)


def test_tokens_keep_their_type() -> None:
    recipe = {"families": [{"uniform": {}}], "length": 32, "vocab_size": 50_000, "relabel": "sequence"}
    (batch,) = iterand.ray.read(recipe, count=100).iter_batches(batch_size=100)
    assert batch["tokens"].dtype == np.uint16
    assert np.array_equal(batch["tokens"][np.argsort(batch["index"])], iterand.read(recipe, range(100)))


def test_a_killed_worker_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compared: Callable[..., Compared]
) -> None:
    """A process gets SIGKILL in the middle of its read task; Ray repeats the task in another one."""
    count, pids, out = 200_000, tmp_path / "pids", tmp_path / "out"
    pids.mkdir()
    monkeypatch.setattr(ray.data.DataContext.get_current(), "target_max_block_size", 256 << 10)

    class Slow(iterand.ray.StreamDatasource):  # in this function, so that Ray sends it by value
        """Tasks of several tables, which leave the ids of their processes."""

        def get_read_tasks(self, *arguments: Any, **options: Any) -> Any:
            def slowed(task: Any) -> Any:
                def make() -> Any:
                    for table in task.read_fn():
                        (pids / f"{os.getpid()}").touch()
                        time.sleep(0.2)
                        yield table

                return ray.data.ReadTask(make, task.metadata, schema=task.schema)

            return [slowed(task) for task in super().get_read_tasks(*arguments, **options)]

    killed: list[int] = []

    def kill() -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end and not killed:
            seen = [int(path.name) for path in pids.iterdir()]
            if len(seen) >= 2:
                time.sleep(0.5)  # a task has seven tables
                os.kill(seen[0], signal.SIGKILL)
                killed.append(seen[0])
            time.sleep(0.01)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        ray.data.read_datasource(Slow(**OPTIONS, count=count), override_num_blocks=8).write_parquet(str(out))
    finally:
        thread.join()
    used = sorted(int(path.name) for path in pids.iterdir())
    index, tokens = rows_of(ray.data.read_parquet(str(out)))
    found, expected = hash_of(index, tokens), hash_of_stream(0, count)
    print(f"\nSIGKILL to process {killed[0]} of {used}: {len(index)} rows, {len(set(index.tolist()))} indices")
    print(f"(index, tokens) by Ray:          {found}\n(index, tokens) read directly:   {expected}")
    assert len(killed) == 1
    assert len(used) >= 3
    assert sorted(index.tolist()) == list(range(count))
    assert found == expected
    record = compared("ray", workers="4, 1 killed")
    record.sequences, record.resumed = count, len(killed)


def test_errors_of_tasks_come_to_the_caller() -> None:
    starving = {"families": [{"constant": {}}], "length": 64, "lanes": 2, "segment_sequences": 8}
    starving |= {"band": {"low": 0.5, "high": 1}, "starvation_rounds": 5}
    with pytest.raises(Exception, match="no row survived"):
        iterand.ray.read(starving, count=10).take_all()
    source = iterand.ray.StreamDatasource(**OPTIONS, count=10)
    source._stream["expected_fingerprint"] = bytes(32)  # as from a driver of another engine version
    with pytest.raises(iterand.FingerprintMismatch):
        list(source.get_read_tasks(1))


def test_wrong_arguments_are_refused() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"count": -1}, "count is -1"),
        ({"count": 2, "start": 2**63 - 1}, "below 2\\^63"),
        ({"count": 2, "num_cpus": 0}, "num_cpus is 0"),
        ({"count": 2, "seed": -1}, "seed is -1"),
        ({"count": 2, "recipe": "no-such-preset"}, "no-such-preset"),
        ({"count": 2, "recipe": "up-noit", "loss_mask": True}, "loss_mask"),
        ({"count": 2, "expected_fingerprint": b"x"}, "expected_fingerprint"),
    ]
    for options, message in wrong:
        with pytest.raises(iterand.Error, match=message):
            iterand.ray.read(**options)
