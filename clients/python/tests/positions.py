"""All ranks and workers of a stream together: the order of the global batches, and where a state resumes.

    python clients/python/tests/positions.py presets | orders | resumes

prints a table: presets made here and by a server; world sizes and workers, a hash for each order; states that were
saved in one way of reading and resumed in another. Needs the package with torch, and the program of this build.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import iterand

RECIPE, SEED, LENGTH = "up", 3, 32
GLOBAL_BATCH = 96  # rows, for every world size of WORLD_SIZES
WORLD_SIZES = (1, 2, 3, 6, 12, 24, 48, 96)
WORKERS = (0, 1, 2, 3)
STREAM: dict[str, Any] = {"recipe": RECIPE, "seed": SEED, "length": LENGTH}


@dataclass(frozen=True)
class Way:
    """One way to read a stream: all ranks of a world size, in the same way."""

    kind: str  # "Stream", "StreamDataset", "StreamLoader" or "IndexDataset"
    remote: bool
    world_size: int = 1
    batch_size: int = 4
    workers: int = 0

    def __str__(self) -> str:
        workers = f", {self.workers} workers" if self.kind == "StreamLoader" else ""
        place = "server" if self.remote else "here"
        return f"{self.kind}, {place}, {self.world_size} x {self.batch_size}{workers}"

    def read(self, address: str, state: dict[str, Any] | None, batches: int) -> tuple[np.ndarray, dict[str, Any]]:
        """The rows of the next global batches in order, batches * world_size * batch_size x LENGTH, and the new state.

        state: where to begin; None: at index 0. It passes through JSON, as in a checkpoint. Errors: AssertionError
        unless all ranks have the same state.
        """
        given = None if state is None else json.loads(json.dumps(state))
        server = address if self.remote else False
        ranks = [self._read_rank(rank, server, given, batches) for rank in range(self.world_size)]
        states = [json.dumps(state, sort_keys=True) for _, state in ranks]
        assert len(set(states)) == 1, states
        # batches x batch_size x world_size x LENGTH: row r of a rank's batch is row r * world_size + rank of the global
        # one.
        rows = np.stack([tokens.reshape(batches, self.batch_size, LENGTH) for tokens, _ in ranks], axis=2)
        return rows.reshape(-1, LENGTH), json.loads(states[0])

    def _read_rank(
        self, rank: int, server: str | bool, state: dict[str, Any] | None, batches: int
    ) -> tuple[np.ndarray, dict[str, Any]]:
        if self.kind == "IndexDataset":
            return self._read_indices(rank, server, state, batches)
        reader = self.reader(rank, server)
        if state is not None:
            reader.load_state_dict(state)
        found = [
            np.asarray(item["tokens"] if isinstance(item, dict) else item).copy()
            for item in itertools.islice(iter(reader), batches)
        ]
        after = reader.state_dict()
        if self.kind == "Stream":
            reader.close()
        return np.concatenate([np.empty((0, LENGTH), found[0].dtype if found else np.uint8), *found]), after

    def reader(self, rank: int = 0, server: Any = False, **options: Any) -> Any:
        """A Stream, StreamDataset or StreamLoader. `options` replace parts of STREAM."""
        options = {**STREAM, "rank": rank, "world_size": self.world_size, "batch_size": self.batch_size, **options}
        if self.kind == "Stream":
            return iterand.stream(server=server, **options)
        from iterand.torch import StreamDataset, StreamLoader

        dataset = StreamDataset(server=server, **options)
        return dataset if self.kind == "StreamDataset" else StreamLoader(dataset, num_workers=self.workers)

    def _read_indices(
        self, rank: int, server: Any, state: dict[str, Any] | None, batches: int
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """An IndexDataset has no state: its position is a range, which the caller keeps."""
        begin = 0 if state is None else state["next_index"]
        size = batches * self.world_size * self.batch_size
        fingerprint = None if state is None or state["fingerprint"] is None else bytes.fromhex(state["fingerprint"])
        dataset = iterand.IndexDataset(
            **STREAM, start=begin, count=size, server=server, expected_fingerprint=fingerprint
        )
        tokens = dataset.batch(range(rank, size, self.world_size))["tokens"]
        dataset.close()
        with iterand.stream(**STREAM, start=begin + size, server=False) as stream:
            return tokens, stream.state_dict()


def hash_of(rows: np.ndarray) -> str:
    """16 digits of the SHA-256 of the tokens as int64."""
    return hashlib.sha256(np.ascontiguousarray(rows, np.int64).tobytes()).hexdigest()[:16]


# Ways to save in and to resume in: both places, world sizes that divide the lanes and others, batch sizes, workers.
RESUMES = (
    Way("Stream", False, 1, 7),
    Way("Stream", True, 2, 5),
    Way("Stream", True, 3, 4),
    Way("StreamDataset", False, 3, 2),
    Way("StreamDataset", True, 6, 1),
    Way("StreamLoader", False, 1, 4, 0),
    Way("StreamLoader", False, 2, 3, 2),
    Way("StreamLoader", True, 3, 2, 1),
    Way("StreamLoader", True, 1, 6, 3),
    Way("IndexDataset", False, 1, 5),
    Way("IndexDataset", True, 2, 4),
)


def resumes(address: str, expected: np.ndarray, saved: Way) -> list[bool]:
    """Whether each of RESUMES continues exactly where `saved` stopped. expected: the stream's first rows."""
    taken, state = saved.read(address, None, 3)
    done = len(taken)
    assert state["next_index"] == done
    np.testing.assert_array_equal(taken, expected[:done])
    found = []
    for resumed in RESUMES:
        more, after = resumed.read(address, state, 3)
        found.append(
            after["next_index"] == done + len(more) and np.array_equal(more, expected[done : done + len(more)])
        )
    return found


def order(address: str, remote: bool, world_size: int, workers: int) -> str:
    """The hash of six global batches, as StreamLoaders of all ranks give them."""
    way = Way("StreamLoader", remote, world_size, GLOBAL_BATCH // world_size, workers)
    return hash_of(way.read(address, None, 6)[0])


def _presets(address: str) -> Iterator[list[str]]:
    yield ["preset", "here", "from a server", "equal"]
    for name in iterand.describe(server=False).presets:
        options: dict[str, Any] = {"batch_size": 64, "count": 128, "length": 64, "seed": SEED}
        hashes = []
        for server in (False, address):
            with iterand.stream(name, server=server, **options) as stream:
                hashes.append(hash_of(np.concatenate(list(stream))))
        yield [f"`{name}`", *hashes, "yes" if hashes[0] == hashes[1] else "NO"]


def _orders(address: str) -> Iterator[list[str]]:
    yield ["ranks x batch size", *(f"{place}, {n} workers" for place in ("here", "server") for n in WORKERS)]
    for world_size in WORLD_SIZES:
        cells = [order(address, remote, world_size, workers) for remote in (False, True) for workers in WORKERS]
        yield [f"{world_size} x {GLOBAL_BATCH // world_size}", *cells]


def _resumes(address: str) -> Iterator[list[str]]:
    expected = iterand.read(RECIPE, range(200), seed=SEED, length=LENGTH, server=False)
    yield ["saved in, resumed in", *(f"({number})" for number in range(1, len(RESUMES) + 1))]
    for number, saved in enumerate(RESUMES, start=1):
        found = resumes(address, expected, saved)
        yield [f"({number}) {saved}", *("exact" if exact else "NOT" for exact in found)]


def main() -> None:
    from server_program import binary

    from iterand._server import ServerProcess

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = {"presets": _presets, "orders": _orders, "resumes": _resumes}
    parser.add_argument("table", choices=tables)
    table = tables[parser.parse_args().table]
    with ServerProcess(binary(), "--log-level", "error") as server:
        for number, cells in enumerate(table(server.address)):
            print(f"| {' | '.join(cells)} |", flush=True)
            if number == 0:
                print(f"| {' | '.join('---' for _ in cells)} |")


if __name__ == "__main__":
    sys.path.insert(0, "tests/support")
    main()
