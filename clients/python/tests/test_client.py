"""Streams, random access and descriptions from a real server."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import iterand
from client_helpers import LENGTH, collect, threads, wait_for_threads
from conftest import Server, sample

RECIPE = {"families": [{"uniform": {}}], "length": 64}


@pytest.fixture(scope="module")
def reference(server: Server) -> np.ndarray:
    """The first 1200 sequences of `up`, generated without a server."""
    return sample(1200, length=LENGTH)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_stream_equals_the_command_line(address: str, reference: np.ndarray, batch_size: int) -> None:
    rows = collect(address, batch_size=batch_size, count=200)
    assert rows.dtype == np.uint8
    np.testing.assert_array_equal(rows, reference[:200])


def test_served_sample_equals_in_process(address: str, reference: np.ndarray) -> None:
    np.testing.assert_array_equal(sample(100, length=LENGTH, server=address), reference[:100])


def test_resume_at_1000(address: str, reference: np.ndarray) -> None:
    np.testing.assert_array_equal(collect(address, start=1000, count=100), reference[1000:1100])
    np.testing.assert_array_equal(sample(100, length=LENGTH, start=1000), reference[1000:1100])


@pytest.mark.parametrize("world", [2, 4])
def test_shards_are_every_nth_sequence(address: str, reference: np.ndarray, world: int) -> None:
    for rank in range(world):
        rows = collect(address, rank=rank, world_size=world, count=50, batch_size=16)
        np.testing.assert_array_equal(rows, reference[rank::world][:50])


def test_start_inside_a_shard(address: str, reference: np.ndarray) -> None:
    with iterand.stream(
        "up", length=LENGTH, rank=1, world_size=4, start=10, count=5, batch_size=2, server=address
    ) as stream:
        assert stream.next_index == 10
        rows = np.concatenate(list(stream))
        assert stream.next_index == 10 + 5 * 4
    np.testing.assert_array_equal(rows, reference[11:31:4])


def test_seed_and_recipe_change_the_stream(address: str, reference: np.ndarray) -> None:
    assert not np.array_equal(collect(address, seed=1, count=64), reference[:64])
    assert not np.array_equal(collect(address, recipe="uniform", count=64), reference[:64])


def test_read_is_random_access(address: str, reference: np.ndarray) -> None:
    rows = iterand.read("up", range(5, 5 + 10 * 7, 7), length=LENGTH, server=address)
    np.testing.assert_array_equal(rows, reference[5:75:7])
    far = iterand.read("up", range(10**9, 10**9 + 2), length=LENGTH, server=address)
    np.testing.assert_array_equal(far, collect(address, start=10**9, count=2))


def test_recipe_as_dict_text_and_file(address: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(RECIPE))
    forms = [RECIPE, json.dumps(RECIPE), file, str(file)]
    rows = [collect(address, recipe=form, length=None, count=3) for form in forms]
    assert rows[0].shape == (3, 64)
    for other in rows[1:]:
        np.testing.assert_array_equal(other, rows[0])
    numpys = {**RECIPE, "length": np.int64(RECIPE["length"])}
    np.testing.assert_array_equal(collect(address, recipe=numpys, length=None, count=3), rows[0])
    unnamed = tmp_path / "recipe"  # a path, since it has a / in it
    unnamed.write_text(json.dumps(RECIPE))
    np.testing.assert_array_equal(collect(address, recipe=str(unnamed), length=None, count=3), rows[0])


def test_wide_tokens(address: str) -> None:
    for vocab_size, dtype in ((5000, np.uint16), (100_000, np.uint32)):
        recipe = {
            "families": [{"uniform": {}}],
            "length": 33,
            "vocab_size": vocab_size,
            "alphabet_size": 300,
            "relabel": "RELABEL_SEQUENCE",
        }
        with iterand.stream(recipe, count=20, batch_size=5, server=address) as stream:
            batches = list(stream)
        assert all(batch.dtype == dtype and batch.flags.aligned for batch in batches)
        rows = np.concatenate(batches)
        assert rows.shape == (20, 33)
        assert rows.max() < vocab_size
        assert rows.max() >= 300


def test_arrays_may_be_written_to(address: str) -> None:
    with iterand.stream("up", length=LENGTH, count=1, batch_size=1, server=address) as stream:
        tokens = next(stream)
    tokens[:] = 0
    assert not tokens.any()


def test_provenance(address: str) -> None:
    with iterand.stream("up", length=LENGTH, count=40, batch_size=40, provenance=True, server=address) as stream:
        batch = stream.next_batch()
    assert len(batch.provenance) == batch.rows == 40
    assert [row.lane for row in batch.provenance] == [index % 32 for index in range(40)]
    assert all(row.family for row in batch.provenance)


MIXTURE = {
    "length": LENGTH,
    "mixture": [
        {"name": "noise", "weight": [{"at": 0, "weight": 1}, {"at": 3072, "weight": 0}], "preset": "uniform"},
        {
            "name": "sources",
            "weight": {"points": [{"at": 0, "weight": 0}, {"at": 3072, "weight": 1}]},
            "recipe": {"mixture": [{"preset": "markov", "weight": 3}, {"preset": "repeat"}]},
        },
    ],
}


def test_parts_of_a_mixture(address: str) -> None:
    """A batch says which part made each row; describe names the parts and their shares at an index."""
    with iterand.Client(address) as client:
        info = client.describe(MIXTURE, at=1536).stream
        assert info is not None
        assert [part.name for part in info.parts] == ["noise", "sources/markov", "sources/repeat"]
        assert [part.share for part in info.parts] == [0.5, 0.375, 0.125]
        start = client.describe(MIXTURE).stream
        assert start is not None
        assert [part.share for part in start.parts] == [1, 0, 0]
        with client.stream(MIXTURE, start=1536, count=32, batch_size=32, provenance=True) as stream:
            batch = stream.next_batch()
        assert batch.parts is not None
        assert np.bincount(batch.parts, minlength=3).tolist() == [16, 12, 4]  # 32 lanes, in the shares at index 1536
        assert [row.part for row in batch.provenance] == [info.parts[part].name for part in batch.parts]
        read = client.read_batch(MIXTURE, range(1536, 1568))
        assert read.parts is not None
        assert read.parts.tolist() == batch.parts.tolist()
        pieces = client.read_batch(MIXTURE, [1540, 1536, 1537])  # two calls to the server
        assert pieces.parts is not None
        assert pieces.parts.tolist() == batch.parts[[4, 0, 1]].tolist()
        renamed = {**MIXTURE, "mixture": [{**part, "name": f"my {part['name']}"} for part in MIXTURE["mixture"]]}
        mine = client.describe(renamed).stream
        assert mine is not None
        assert mine.fingerprint == info.fingerprint
        with client.stream(renamed, start=1536, count=1, provenance=True) as stream:
            assert stream.next_batch().provenance[0].part == f"my {batch.provenance[0].part}"


def test_describe(address: str) -> None:
    bare = iterand.describe(server=address)
    assert bare.stream is None
    assert {"up", "uniform"} <= set(bare.presets)
    assert "lstm" in {family.name for family in bare.families}
    info = iterand.describe("up", seed=3, length=LENGTH, server=address).stream
    assert info is not None
    assert (info.seed, info.length, info.vocab_size, info.dtype, len(info.fingerprint)) == (3, 128, 256, "uint8", 32)
    with iterand.stream("up", seed=3, length=LENGTH, count=1, server=address) as stream:
        next(stream)
        assert stream.fingerprint == info.fingerprint
    rows = info.max_batch_size
    with iterand.stream(length=LENGTH, count=rows, batch_size=rows, provenance=True, server=address) as stream:
        assert next(stream).shape == (rows, LENGTH)


@pytest.mark.parametrize("count", [None, 10])
def test_a_stream_ends_with_the_last_index(address: str, count: int | None) -> None:
    whole = collect(address, start=2**64 - 10, batch_size=4, count=count)
    assert whole.shape == (10, LENGTH)
    odd = collect(address, start=2**64 - 10, batch_size=4, rank=1, world_size=2, count=count and 5)
    np.testing.assert_array_equal(odd, whole[1::2])


def test_a_shard_without_an_index_left_is_out_of_range(address: str) -> None:
    with (
        pytest.raises(iterand.OutOfRange, match="reader 1 of 2 has no index"),
        iterand.stream("up", start=2**64 - 1, rank=1, world_size=2, server=address) as stream,
    ):
        next(iter(stream))


def test_nothing_is_left_behind(address: str) -> None:
    wait_for_threads(0)
    stream = iterand.stream("up", length=LENGTH, server=address)
    next(stream)
    assert threads() == 1
    stream.close()
    stream.close()
    wait_for_threads(0)
    dropped = iterand.stream("up", length=LENGTH, server=address)
    next(dropped)
    del dropped
    gc.collect()
    wait_for_threads(0)


def test_memory_stays_flat_while_batches_pass(address: str) -> None:
    """The server runs ahead of the reader by 4 MiB at most.

    The reader is a child process, so that other tests' memory does not count. What malloc keeps of the read-ahead, in
    the arenas of gRPC's threads, is a small multiple of it.
    """
    code = """
import sys
import iterand
def memory():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("Pss_Anon", "Pss_Shmem")))
before = 0
for _ in range(3):
    stream = iterand.stream("uniform", length=512, batch_size=64, server=sys.argv[1])
    for number in range(10000):
        next(stream)
        if number == 200:
            before = before or memory()
print(before, memory())
"""
    done = subprocess.run([sys.executable, "-c", code, address], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    print(f"{before >> 20} MiB after 200 batches, {after >> 20} MiB after 30 000")
    assert after - before < 40 << 20


def test_one_client_many_streams(address: str, reference: np.ndarray) -> None:
    with iterand.Client(address) as client:
        streams = [client.stream("up", length=LENGTH, rank=rank, world_size=2, count=20) for rank in range(2)]
        for rank, stream in enumerate(streams):
            np.testing.assert_array_equal(np.concatenate(list(stream)), reference[rank:40:2])
        assert client.describe().engine_version >= 1
