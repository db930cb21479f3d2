"""Properties under random input: states against plain index arithmetic, and the batch decoder against protobuf."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

import iterand
from conftest import sample
from iterand import ProtocolError
from iterand._progress import Place, Worker
from iterand._wire import Batch, decode_batch
from iterand.torch import StreamDataset, StreamLoader
from iterand.v1 import noise_service_pb2 as service

# The same examples at every run, so that a failure can be repeated; `--hypothesis-seed` does not matter then.
FAST = settings(max_examples=150, deadline=None, derandomize=True, database=None)


# --- states ---


RECIPE, LENGTH, ROWS = "uniform", 16, 4000


@pytest.fixture(scope="module")
def index_of(address: str) -> Callable[[dict[str, torch.Tensor]], list[int]]:
    """Gives the indices of the rows of a batch."""
    known = {bytes(row): index for index, row in enumerate(sample(ROWS, recipe=RECIPE, length=LENGTH))}
    assert len(known) == ROWS
    return lambda item: [known[bytes(row.numpy())] for row in item["tokens"]]


def definition(shard: tuple[int, int], start: int, count: int | None, rows: int) -> list[int]:
    """The indices of a shard, from the definition: start + rank, start + rank + world, ..., the first `count`."""
    rank, world = shard
    return list(itertools.islice(itertools.count(start + rank, world), rows if count is None else min(count, rows)))


def split(indices: list[int], batch_size: int) -> list[list[int]]:
    return [indices[begin : begin + batch_size] for begin in range(0, len(indices), batch_size)]


shards = st.sampled_from([1, 2, 3, 4, 6]).flatmap(lambda world: st.tuples(st.integers(0, world - 1), st.just(world)))
sizes = st.integers(1, 7)
breaks = st.lists(st.integers(0, 5), min_size=1, max_size=4)
streams = {"batch_size": sizes, "shard": shards, "start": st.integers(0, 40), "count": st.none() | st.integers(0, 60)}


@FAST
@given(
    batch_size=sizes,
    worlds=st.lists(st.sampled_from([1, 2, 3, 6]), min_size=1, max_size=3),
    workers=st.lists(st.integers(1, 4), min_size=3, max_size=3),
    breaks=breaks,
)
def test_positions_of_workers(batch_size: int, worlds: list[int], workers: list[int], breaks: list[int]) -> None:
    """Readers of any world sizes and numbers of workers, one after the other, take each index once and in order."""
    place = Place(0)
    seen: list[int] = []
    for world_size, number, taken in zip(worlds, workers, breaks, strict=False):
        size = batch_size * world_size
        places = [place.for_worker(Worker(each, number, size) if number > 1 else None) for each in range(number)]
        for batch in range(taken):
            first = places[batch % number].next_index
            seen += [first + row * world_size + rank for row in range(batch_size) for rank in range(world_size)]
            places[batch % number] = Place(first + number * size, places[batch % number].worker)
        place = Place(place.next_index + taken * size)
    assert seen == list(range(place.next_index))


def test_a_workers_place_is_its_own() -> None:
    place = Place(8).for_worker(Worker(1, 2, 4))
    assert place == Place(12, Worker(1, 2, 4))
    assert place.for_worker(Worker(1, 2, 4)) == place
    for other in (None, Worker(0, 2, 4), Worker(1, 3, 4), Worker(1, 2, 8)):
        with pytest.raises(
            iterand.InvalidArgument, match="state is of worker 1 of 2 with global batches of 4 rows, but"
        ):
            place.for_worker(other)


@settings(FAST, max_examples=40)
@given(**streams, breaks=breaks, kind=st.sampled_from(["loader", "dataset", "iterator"]))
def test_resumed_iterations_continue(
    address: str,
    index_of: Callable[[dict[str, torch.Tensor]], list[int]],
    batch_size: int,
    shard: tuple[int, int],
    start: int,
    count: int | None,
    breaks: list[int],
    kind: str,
) -> None:
    def new() -> Any:
        data = StreamDataset(
            RECIPE,
            length=LENGTH,
            dtype=torch.uint8,
            batch_size=batch_size,
            rank=shard[0],
            world_size=shard[1],
            start=start,
            count=count,
            server=address,
        )
        return StreamLoader(data) if kind == "loader" else data

    expected = split(definition(shard, start, count, 300), batch_size)
    state, done = None, 0
    for taken in breaks:
        loader = new()
        if state is not None:
            loader.load_state_dict(state)
            assert loader.state_dict() == state
        iterator, other = iter(loader), None
        found = [index_of(batch) for batch in itertools.islice(iterator, taken)]
        assert found == expected[done : done + taken]
        done += len(found)
        if kind == "iterator":
            other = iter(loader)  # of which this iterator's state says nothing
            assert [index_of(batch) for batch in itertools.islice(other, 1)] in (expected[:1], expected[done:][:1])
        state = json.loads(json.dumps((iterator if kind == "iterator" else loader).state_dict()))


STATE_KEYS = ("version", "recipe", "seed", "length", "loss_mask", "fingerprint", "next_index", "worker")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@FAST
@given(
    path=st.sampled_from(
        [(), ("worker", "id"), ("worker", "workers"), ("worker", "global_batch_size")]
        + [(name,) for name in STATE_KEYS]
    ),
    value=json_values,
)
@example(("worker",), {})
@example(("next_index",), 2**64)
@example(("fingerprint",), "00")
@example(("worker", "id"), float("nan"))
def test_states_that_are_none_are_refused(path: tuple[str, ...], value: Any) -> None:
    good = StreamDataset(batch_size=4, server="localhost:1").state_dict()
    good |= {"worker": {"id": 0, "workers": 2, "global_batch_size": 4}}
    state: Any = value
    if path:
        state = part = copy.deepcopy(good)
        for name in path[:-1]:
            part = part[name]
        part[path[-1]] = value
    for make in (lambda data: data, StreamLoader):
        loader = make(StreamDataset(batch_size=4, server="localhost:1"))
        before = loader.state_dict()
        try:
            loader.load_state_dict(state)
        except (iterand.InvalidArgument, iterand.FingerprintMismatch):
            assert loader.state_dict() == before
        else:
            loaded = json.loads(json.dumps(loader.state_dict()))
            make(StreamDataset(batch_size=4, server="localhost:1")).load_state_dict(loaded)
            iter(loader)


# --- the decoder ---

fields = {
    "first_index": st.integers(0, 2**64 - 1),
    "stride": st.integers(1, 2**64 - 1),
    "fingerprint": st.binary(min_size=32, max_size=32),
}
provenances = st.builds(
    service.Provenance,
    lane=st.integers(0, 2**32 - 1),
    segment=st.integers(0, 2**64 - 1),
    family=st.text(st.characters(codec="utf-8"), max_size=5),
    depth=st.integers(0, 2**32 - 1),
)


@st.composite
def messages(draw: st.DrawFn) -> service.Batch:
    number = draw(st.sampled_from([1, 2, 3]))
    rows, length = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    size = rows * length
    message = service.Batch(
        **{name: draw(values) for name, values in fields.items()},
        rows=rows,
        length=length,
        dtype=number,
        tokens=draw(st.binary(min_size=size * 2 ** (number - 1), max_size=size * 2 ** (number - 1))),
    )
    if draw(st.booleans()):
        message.loss_mask = bytes(draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)))
    if draw(st.booleans()):
        message.provenance.extend(draw(st.lists(provenances, min_size=rows, max_size=rows)))
    return message


def agrees(batch: Batch, message: service.Batch) -> None:
    kind = {1: "u1", 2: "<u2", 3: "<u4"}[message.dtype]
    assert batch.tokens.dtype == np.dtype(kind)
    assert batch.tokens.shape == (message.rows, message.length)
    assert batch.tokens.tobytes() == message.tokens
    assert (batch.first_index, batch.stride, batch.fingerprint) == (
        message.first_index,
        message.stride or 1,
        message.fingerprint,
    )
    assert (b"" if batch.loss_mask is None else batch.loss_mask.tobytes()) == message.loss_mask
    assert [(row.lane, row.segment, row.family, row.depth) for row in batch.provenance] == [
        (row.lane, row.segment, row.family, row.depth) for row in message.provenance
    ]


@FAST
@given(message=messages())
def test_valid_batches_round_trip(message: service.Batch) -> None:
    agrees(decode_batch(message.SerializeToString()), message)


def decodes(data: bytes) -> None:
    """The decoder says ProtocolError, or agrees with protobuf."""
    try:
        batch = decode_batch(data)
    except ProtocolError:
        return
    try:
        message = service.Batch.FromString(data)
    except DecodeError as error:
        raise AssertionError(f"protobuf refuses what was decoded: {data!r}") from error
    agrees(batch, message)


@settings(FAST, max_examples=500)
@given(data=st.binary(max_size=60))
@example(b"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x28\x01")  # 0 x 2^64 - 1 tokens
@example(b"\x28\x01\xa1\x01")  # a fixed field that is cut off
@example(b"\x28\x01\x3a\x01\x08")  # a provenance that is cut off
@example(b"\x28\x01\x00")  # field number 0
@example(b"\x28" + b"\x81" * 40 + b"\x01")  # a number without end
def test_arbitrary_bytes(data: bytes) -> None:
    decodes(data)


@settings(FAST, max_examples=500)
@given(message=messages(), edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(-1, 256)), max_size=4))
def test_mutated_batches(message: service.Batch, edits: list[tuple[int, int]]) -> None:
    data = bytearray(message.SerializeToString())
    for where, what in edits:
        if not data:
            break
        at = where % len(data)
        if what < 0:
            del data[at]
        elif what == 256:
            del data[at:]
        else:
            data[at] = what
    decodes(bytes(data))


def test_tokens_may_be_written_to() -> None:
    data = service.Batch(rows=1, length=2, dtype=1, tokens=b"ab").SerializeToString()
    tokens = decode_batch(data).tokens
    assert torch.from_numpy(tokens).tolist() == [[97, 98]]
    tokens[0, 0] = 0
    assert decode_batch(data).tokens.tolist() == [[97, 98]]
