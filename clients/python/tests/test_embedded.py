"""Streams of this process: the same bits as a server's, writable memory, bounded memory, any world size."""

from __future__ import annotations

import gc
import itertools
import json
import logging
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
from server_program import binary

import iterand
from conftest import Server, sample
from goldens import ROWS, Golden, goldens, hash_of

LENGTH = 128
FAST = "up-statistics"  # a preset whose sequences are there at once
RECIPE = {"families": [{"uniform": {}}], "length": 32, "lanes": 4, "segment_sequences": 8}


@pytest.mark.parametrize("golden", [g for g in goldens() if g.seed == 0], ids=lambda golden: golden.preset)
def test_every_preset_is_the_same_here_and_from_a_server(golden: Golden, server: Server) -> None:
    options: dict[str, Any] = {"seed": golden.seed, "length": golden.length}
    with iterand.stream(golden.preset, batch_size=ROWS, count=ROWS, server=False, **options) as here:
        (tokens,) = here
        assert hash_of(tokens) == golden.hash
    with iterand.stream(golden.preset, batch_size=ROWS, count=ROWS, server=server.address, **options) as there:
        (served,) = there
        assert hash_of(served) == golden.hash
        assert served.dtype == tokens.dtype
        assert there.fingerprint == here.fingerprint


@pytest.mark.parametrize("preset", ["up", "up-statistics", "lstm", "tasks"])
def test_batches_are_those_of_a_server_from_any_index(preset: str, address: str) -> None:
    options: dict[str, Any] = {"length": LENGTH, "batch_size": 7, "count": 100, "start": 1_000_003, "provenance": True}
    with (
        iterand.stream(preset, server=False, **options) as here,
        iterand.stream(preset, server=address, **options) as there,
    ):
        for mine, theirs in itertools.zip_longest(here.batches(), there.batches()):
            assert np.array_equal(mine.tokens, theirs.tokens)
            assert (mine.first_index, mine.stride, mine.provenance) == (
                theirs.first_index,
                theirs.stride,
                theirs.provenance,
            )
            assert mine.fingerprint == theirs.fingerprint
        assert here.next_index == there.next_index == 1_000_103


MIXTURE = {
    "length": LENGTH,
    "mixture": [
        {"name": "noise", "weight": [{"at": 0, "weight": 1}, {"at": 3072, "weight": 0}], "preset": "uniform"},
        {"name": "chains", "recipe": {"mixture": [{"preset": "markov"}, {"preset": "lstm"}]}},
    ],
}


def test_parts_of_a_mixture_are_those_of_a_server(address: str) -> None:
    options: dict[str, Any] = {"batch_size": 9, "count": 100, "start": 1500, "provenance": True}
    info = iterand.describe(MIXTURE, at=1536, server=False).stream
    assert info is not None
    assert [part.name for part in info.parts] == ["noise", "chains/markov", "chains/lstm"]
    served = iterand.describe(MIXTURE, at=1536, server=address).stream
    assert served is not None
    assert (info.parts, info.cost, info.fingerprint) == (served.parts, served.cost, served.fingerprint)
    seen: set[int] = set()
    with (
        iterand.stream(MIXTURE, server=False, **options) as here,
        iterand.stream(MIXTURE, server=address, **options) as there,
    ):
        for mine, theirs in itertools.zip_longest(here.batches(), there.batches()):
            assert mine.parts is not None
            assert mine.parts.dtype == np.uint8
            assert np.array_equal(mine.parts, theirs.parts)
            assert mine.provenance == theirs.provenance
            assert [row.part for row in mine.provenance] == [info.parts[part].name for part in mine.parts]
            seen.update(mine.parts.tolist())
        assert seen == {0, 1, 2}
        indices = [1600, 3, 1600, 1536]
        assert np.array_equal(here.read_batch(indices).parts, there.read_batch(indices).parts)
    explained = iterand.explain(MIXTURE, 1600)
    assert explained.reproduced
    assert explained.part == iterand.stream(MIXTURE, provenance=True, server=False).read_batch(1600).provenance[0].part
    assert iterand.stream(FAST, server=False).read_batch(0).parts is None
    assert iterand.explain(FAST, 0).part == ""


def test_loss_masks_are_those_of_a_server(address: str) -> None:
    options: dict[str, Any] = {"length": 64, "batch_size": 9, "count": 40, "loss_mask": True}
    with (
        iterand.stream("tasks", server=False, **options) as here,
        iterand.stream("tasks", server=address, **options) as there,
    ):
        for mine, theirs in itertools.zip_longest(here.batches(), there.batches()):
            assert mine.loss_mask is not None
            assert mine.loss_mask.dtype == np.bool_
            assert mine.loss_mask.any()
            assert np.array_equal(mine.loss_mask, theirs.loss_mask)


@pytest.mark.parametrize("world_size", [1, 2, 3, 6, 12, 24, 32, 48, 96])
def test_readers_of_any_world_size_have_the_rows_of_the_global_batches(world_size: int) -> None:
    """Row i of global batch t has index t * G + i; reader r takes the rows r, r + W, ..."""
    batch, batches = 2, 3
    size = batch * world_size
    expected = iterand.read("uniform", range(batches * size), length=16)
    for rank in {0, world_size // 2, world_size - 1}:
        with iterand.stream(
            "uniform", length=16, batch_size=batch, rank=rank, world_size=world_size, count=batch * batches
        ) as stream:
            for number, found in enumerate(stream.batches()):
                rows = expected[number * size : (number + 1) * size]
                assert np.array_equal(found.tokens, rows[rank::world_size])
                assert (found.first_index, found.stride) == (number * size + rank, world_size)
                assert stream.next_index == (number + 1) * size


def test_arrays_are_writable_and_nobody_else_sees_what_is_written() -> None:
    """Also not another stream of the same recipe, nor random access to the same segment."""
    expected = sample(4096, length=LENGTH, recipe=FAST)
    first, second = (iterand.stream(FAST, length=LENGTH, batch_size=64) for _ in range(2))
    for at in range(0, 4096, 64):
        mine, theirs = next(first), next(second)
        assert mine.flags.writeable
        assert np.array_equal(mine, expected[at : at + 64])
        assert np.array_equal(theirs, expected[at : at + 64])
        mine[:] = 7
        theirs += 1
        read = first.read(range(at, at + 128))
        assert np.array_equal(read, expected[at : at + 128][:128]) or at + 128 > 4096
        read[:] = 9


def test_arrays_are_handed_over_without_a_copy() -> None:
    """Successive batches are successive pieces of one stripe; one that spans two stripes is a copy."""
    with iterand.stream(FAST, length=LENGTH, batch_size=64) as stream:
        batches = [next(stream) for _ in range(8)]
    addresses = [batch.__array_interface__["data"][0] for batch in batches]
    assert np.diff(addresses).tolist() == [64 * LENGTH] * 7
    for shift in (3, 61):
        with iterand.stream(FAST, length=LENGTH, batch_size=64, start=shift) as stream:
            tokens = np.concatenate(list(itertools.islice(stream, 40)))
        assert np.array_equal(tokens, sample(40 * 64, length=LENGTH, recipe=FAST, start=shift))


def test_arrays_outlive_their_stream() -> None:
    expected = sample(640, length=LENGTH, recipe=FAST)
    stream = iterand.stream(FAST, length=LENGTH, batch_size=64)
    batches = [next(stream) for _ in range(10)]
    stream.close()
    del stream
    gc.collect()
    with iterand.stream(FAST, seed=1, length=LENGTH, batch_size=64) as other:
        for _ in range(200):
            next(other)
    assert np.array_equal(np.concatenate(batches), expected)


def test_random_access_gives_any_indices_in_their_order() -> None:
    expected = sample(500, length=LENGTH, recipe=FAST)
    with iterand.stream(FAST, length=LENGTH) as stream:
        for indices in ([3, 499, 0, 3], range(7, 400, 13), np.array([5, 4, 3]), range(20, 10, -3), 42, np.int64(17)):
            rows = stream.read(indices)  # type: ignore[arg-type]
            assert np.array_equal(rows, np.atleast_2d(expected[np.asarray(indices)]))
        assert stream.read([]).shape == (0, LENGTH)
        assert stream.next_index == 0
        far = stream.read([2**64 - 1, 10**12])
    assert np.array_equal(far[1:], sample(1, length=LENGTH, recipe=FAST, start=10**12))
    batch = iterand.stream(FAST, length=LENGTH, provenance=True).read_batch([33, 1])
    assert [row.lane for row in batch.provenance] == [1, 1]


@pytest.mark.parametrize("wrong", [-1, 2**64, [0, -1], [2**64], range(-1, 4), 1.5, [0.5], "3", None])
def test_indices_that_are_none_are_refused(wrong: Any) -> None:
    with pytest.raises(iterand.InvalidArgument, match="indices"):
        iterand.read("uniform", wrong)


def test_descriptions_are_those_of_a_server(address: str) -> None:
    assert iterand.describe() == iterand.describe(server=address)
    mine = iterand.describe("up", seed=3, length=LENGTH)
    theirs = iterand.describe("up", seed=3, length=LENGTH, server=address)
    assert mine.stream is not None
    assert theirs.stream is not None
    assert mine.stream.fingerprint == theirs.stream.fingerprint
    assert mine.stream.recipe == theirs.stream.recipe
    assert mine.stream.cost == theirs.stream.cost


def test_programs_run_as_on_a_server(address: str) -> None:
    programs = ["+++.", ",[.,]", "+[.+]"] * 50
    here = list(iterand.execute(programs, 5, max_steps=1000, max_output=30))
    assert here == list(iterand.execute(programs, 5, max_steps=1000, max_output=30, server=address))
    with pytest.raises(iterand.InvalidArgument, match=r"programs\[0\].*position 1"):
        list(iterand.execute("+]"))


def test_an_explanation_is_that_of_the_command_line() -> None:
    found = iterand.explain("mix", 12345, seed=2)
    command = [binary(), "explain", "--recipe", "mix", "--index", "12345", "--seed", "2", "--json"]
    printed = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert found.reproduced
    assert (found.index, found.lane, found.segment, found.offset) == (
        12345,
        printed["lane"],
        printed["segment"],
        printed["offset"],
    )
    assert [vars(step) for step in found.steps] == printed["steps"]
    assert len(found.steps) == found.depth


def test_complexity_tells_constants_from_noise() -> None:
    noise = iterand.read("uniform", range(8))
    rows = np.concatenate([np.zeros_like(noise[:1]), noise])
    measured = iterand.complexity(rows)
    assert measured.shape == (9,)
    assert measured[0] < 0.05
    assert (measured[1:] > 0.9).all()
    assert iterand.complexity(noise[0]).tolist() == measured[1:2].tolist()
    assert iterand.complexity(noise.astype(np.int64) * 200, alphabet_size=60000).shape == (8,)
    for wrong, size in (([[0, 256]], 256), ([[-1, 0]], 256), ([[0.5]], 256), (5, 256), ([[0]], 1), ([[0]], 70000)):
        with pytest.raises(iterand.InvalidArgument):
            iterand.complexity(wrong, size)


def test_errors_are_those_of_a_server(address: str) -> None:
    calls: list[dict[str, Any]] = [
        {"recipe": "no-such-preset"},
        {"recipe": {"families": [{"uniform": {}}], "length": 3}},
        {"recipe": {"nonsense": 1}},
        {"recipe": "{broken"},
        {"recipe": "up", "length": 10**9},
        {"recipe": "up", "expected_fingerprint": bytes(32)},
        {"recipe": "up-noit", "loss_mask": True},
    ]
    for call in calls:
        with pytest.raises(iterand.Error) as here:
            iterand.stream(**call)
        with pytest.raises(iterand.Error) as there, iterand.stream(server=address, **call) as stream:
            next(stream)
        assert type(here.value) is type(there.value), call
        assert here.value.message == there.value.message
        assert here.value.code is None


def test_an_error_comes_from_the_iteration_and_ends_it() -> None:
    starving = {
        "families": [{"constant": {}}],
        "length": 64,
        "lanes": 2,
        "segment_sequences": 8,
        "band": {"low": 0.5, "high": 1},
        "starvation_rounds": 5,
    }
    with iterand.stream(starving) as stream:
        with pytest.raises(iterand.Starved, match="no row survived"):
            next(stream)
        with pytest.raises(StopIteration):
            next(stream)
    with pytest.raises(iterand.Starved):
        iterand.read(starving, 3)


def test_the_environment_names_servers(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("ITERAND_SERVER", f"127.0.0.1:1, {address}")
    with iterand.stream("uniform", length=32) as there:
        assert next(there).shape == (64, 32)
        assert address in repr(there)
    with iterand.stream("uniform", length=32, server=False) as here:
        assert "this process" in repr(here)
    monkeypatch.setenv("ITERAND_SERVER", " ,")
    with iterand.stream("uniform", length=32) as here:
        assert "this process" in repr(here)


def test_what_only_a_server_takes_is_refused_without_one() -> None:
    with pytest.raises(iterand.InvalidArgument, match="token is given, but no server"):
        iterand.stream("up", token="open sesame")
    with pytest.raises(iterand.InvalidArgument, match="timeout is given, but no server"):
        iterand.read("up", 0, timeout=1)
    with pytest.raises(iterand.InvalidArgument, match=r"address: it is now given as server='localhost:50051'"):
        iterand.stream("localhost:50051")


def test_a_stream_tells_where_it_stands_and_ends_at_the_last_index() -> None:
    with iterand.stream(RECIPE, batch_size=3, rank=1, world_size=2, count=7) as stream:
        assert repr(stream) == "<Stream of own recipe, seed 0, reader 1 of 2, at index 0, from this process>"
        assert [len(batch) for batch in stream] == [3, 3, 1]
        assert stream.next_index == 14
        assert repr(stream).endswith("at index 14, from this process, ended>")
    last = 2**64 - 1
    with iterand.stream(RECIPE, batch_size=3, start=last - 3) as stream:
        assert [len(batch) for batch in stream] == [3, 1]
        assert stream.next_index == 2**64
    with pytest.raises(iterand.OutOfRange):
        iterand.stream(RECIPE, start=last, rank=1, world_size=2)


def test_seeking_moves_to_any_position_and_count_ends_where_it_did() -> None:
    expected = sample(400, length=LENGTH, recipe=FAST)
    with iterand.stream(FAST, length=LENGTH, batch_size=10, count=300) as stream:
        for at in (200, 0, 123, 290, 7):
            stream.seek(at)
            batches = list(itertools.islice(stream, 3))
            found = np.concatenate(batches)
            assert np.array_equal(found, expected[at : min(at + 30, 300)])
            assert stream.next_index == min(at + 30, 300)
        stream.seek(350)
        assert list(stream) == []


def test_memory_stays_bounded_while_nobody_takes_and_while_batches_pass() -> None:
    """A child process, so that other tests' memory does not count."""
    code = """
import time
import iterand
def rss():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
stream = iterand.stream("uniform", length=512, batch_size=64)
for _ in range(2000):
    next(stream)
time.sleep(0.3)
before = rss()
time.sleep(0.5)   # nothing is made beyond the bound while nobody takes
idle = rss()
for _ in range(20000):
    next(stream)
after = rss()
print(before, idle, after)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, idle, after = map(int, done.stdout.split())
    assert idle - before < 2 << 20
    assert after - before < 4 << 20
    assert after < 200 << 20


def test_the_gil_is_free_while_a_batch_is_waited_for() -> None:
    """A slow preset keeps this thread waiting for half a second or more; another one counts meanwhile."""
    counted = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal counted
        while not stop.is_set():
            counted += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    with iterand.stream("up-paper", length=512, batch_size=64) as stream:
        begin = time.perf_counter()
        seconds = 0.0
        while seconds < 0.5:
            next(stream)
            seconds = time.perf_counter() - begin
    stop.set()
    thread.join()
    assert counted > 100 * seconds  # every millisecond or so


def test_generation_runs_ahead_of_the_loop() -> None:
    with iterand.stream("lstm", length=256, batch_size=64) as stream:
        for _ in range(20):
            next(stream)
        waited = stream.waited
        time.sleep(2)
        begin = time.thread_time()
        for _ in range(20):
            next(stream)
        assert time.thread_time() - begin < 0.05
        assert stream.waited - waited < 0.05


def test_threads_can_be_limited() -> None:
    code = (
        "import iterand, os\n"
        "iterand.set_threads(3)\n"
        "next(iterand.stream('uniform'))\n"
        "print(len(os.listdir('/proc/self/task')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 1 + 3 + 1  # with the clock
    for wrong in (0, -1, 5000, 1.5):
        with pytest.raises(iterand.InvalidArgument, match="threads"):
            iterand.set_threads(wrong)  # type: ignore[arg-type]


def test_several_streams_share_the_threads() -> None:
    streams = [iterand.stream(FAST, seed=seed, length=LENGTH, batch_size=8) for seed in range(6)]
    found = [[next(stream).copy() for stream in streams] for _ in range(5)]
    for seed, stream in enumerate(streams):
        expected = sample(40, length=LENGTH, recipe=FAST, seed=seed)
        assert np.array_equal(np.concatenate([row[seed] for row in found]), expected)
        stream.close()


def test_only_one_thread_at_a_time_may_iterate() -> None:
    with iterand.stream("up-paper", length=512, batch_size=256) as stream:
        errors: list[BaseException] = []

        def take() -> None:
            try:
                next(stream)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=take) for _ in range(4)]
        threads[0].start()
        time.sleep(0.2)  # its batch takes seconds
        for thread in threads[1:]:
            thread.start()
        for thread in threads[1:]:
            thread.join()
        assert len(errors) == 3
        threads[0].join()  # and one has its batch
        assert len(errors) == 3
        assert all(isinstance(error, iterand.ConcurrentUse) for error in errors), errors
        assert stream.next_index == 256
        next(stream)


def test_a_long_replay_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="iterand")
    with iterand.stream("up-noit", length=256, start=1000, batch_size=1) as stream:  # seconds of replay
        next(stream)
    assert any("replaying lane 0 of an endless pool" in record.getMessage() for record in caplog.records)
