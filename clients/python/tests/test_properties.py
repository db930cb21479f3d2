"""Properties under random input: states against plain index arithmetic, and the batch decoder against protobuf."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterator
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
from iterand._position import Place, Position
from iterand._wire import Batch, decode_batch
from iterand.torch import StreamDataset, StreamLoader
from iterand.v1 import noise_service_pb2 as service

# The same examples at every run, so that a failure can be repeated; `--hypothesis-seed` does not matter then.
FAST = settings(max_examples=150, deadline=None, derandomize=True, database=None)


# --- states ---


RECIPE, LENGTH, ROWS = "uniform", 16, 4000


@pytest.fixture(scope="module")
def index_of(address: str) -> Callable[[torch.Tensor], list[int]]:
    """Gives the indices of the rows of a batch."""
    known = {bytes(row): index for index, row in enumerate(sample(ROWS, recipe=RECIPE, length=LENGTH))}
    assert len(known) == ROWS
    return lambda batch: [known[bytes(row.numpy())] for row in batch]


def definition(shard: tuple[int, int], start: int, count: int | None, rows: int) -> list[int]:
    """The indices of a shard, from the definition: start + rank, start + rank + world, ..., the first `count`."""
    rank, world = shard
    return list(itertools.islice(itertools.count(start + rank, world), rows if count is None else min(count, rows)))


def dealt(indices: list[int], workers: int, batch_size: int) -> list[list[int]]:
    """The batches: rounds of workers * batch_size rows, of which worker k gets every workers-th from row k on."""
    size = workers * batch_size
    rounds = [indices[begin : begin + size] for begin in range(0, len(indices), size)]
    return [hand for each in rounds for worker in range(workers) if (hand := each[worker::workers])]


def taken_in_turn(places: list[Place], rows: int, batch_size: int) -> Iterator[list[int]]:
    """The batches of workers at `places`, as a DataLoader takes them, as rows of a shard of `rows` rows."""
    live = list(range(len(places)))
    while live:
        for worker in list(live):
            first = places[worker].next_row(worker, batch_size)
            hand = list(range(first, min(rows, first + batch_size * len(places)), len(places)))
            if hand:
                places[worker] = places[worker].after_batch()
                yield hand
            else:
                live.remove(worker)


shards = st.sampled_from([1, 2, 4, 8]).flatmap(lambda world: st.tuples(st.integers(0, world - 1), st.just(world)))
sizes = st.integers(1, 7)
breaks = st.lists(st.integers(0, 5), min_size=1, max_size=4)
streams = {"batch_size": sizes, "shard": shards, "start": st.integers(0, 40), "count": st.none() | st.integers(0, 60)}


@FAST
@given(batch_size=sizes, workers=st.integers(1, 6), rows=st.integers(0, 90), breaks=breaks, by_worker=st.booleans())
def test_positions_with_workers(batch_size: int, workers: int, rows: int, breaks: list[int], by_worker: bool) -> None:
    """The position of the loader, taken up by the same number of workers again and again, and each worker's own."""
    expected = dealt(list(range(rows)), workers, batch_size)
    place, done = Place(Position(workers=workers)), 0
    places = [place.taken_up(worker, workers, batch_size) for worker in range(workers)]
    for taken in breaks:
        taken = taken * workers if by_worker else taken  # torchdata's loader continues with the next worker
        found = list(itertools.islice(taken_in_turn(places, rows, batch_size), taken))
        assert found == expected[done : done + taken]
        done += len(found)
        for _ in found:
            place = place.after_batch()
        if by_worker:
            states = [json.loads(json.dumps(each.to_state(batch_size))) for each in places]
            loaded = [Place.from_state(state, batch_size) for state in states]
        else:
            place = Place.from_state(json.loads(json.dumps(place.to_state(batch_size))), batch_size)
            loaded = [place] * workers
        places = [each.taken_up(worker, workers, batch_size) for worker, each in enumerate(loaded)]


@FAST
@given(
    batch_size=sizes,
    workers=st.integers(1, 6),
    later=st.integers(1, 6),
    size=sizes,
    rows=st.integers(0, 90),
    data=st.data(),
)
def test_positions_for_another_number_of_workers(
    batch_size: int, workers: int, later: int, size: int, rows: int, data: st.DataObject
) -> None:
    expected = dealt(list(range(rows)), workers, batch_size)
    taken = data.draw(st.integers(0, len(expected)))
    place = Place.from_state(Place(Position(0, taken, workers)).to_state(batch_size), batch_size)
    if taken % workers == 0:
        places = [place.taken_up(worker, later, size) for worker in range(later)]
        begin = taken * batch_size
        assert list(taken_in_turn(places, rows, size)) == dealt(list(range(begin, rows)), later, size)
    elif later != workers:
        with pytest.raises(iterand.InvalidArgument, match="round"):
            place.taken_up(0, later, size)
    with pytest.raises(iterand.InvalidArgument):
        Place(Position(workers=workers), workers - 1, 1).taken_up(workers, workers + 1, batch_size)


@settings(FAST, max_examples=40)
@given(**streams, breaks=breaks, kind=st.sampled_from(["loader", "dataset", "iterator"]))
def test_resumed_iterations_continue(
    address: str,
    index_of: Callable[[torch.Tensor], list[int]],
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

    expected = dealt(definition(shard, start, count, 300), 1, batch_size)
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


STATE_KEYS = ("recipe", "seed", "batch_size", "rank", "world_size", "start", "loss_mask", "fingerprint")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@FAST
@given(
    path=st.sampled_from(
        [(), ("stream",), ("position",), ("worker",), ("worker", "id"), ("worker", "given")]
        + [("position", name) for name in ("origin", "batches", "workers")]
        + [("stream", name) for name in STATE_KEYS]
    ),
    value=json_values,
)
@example(("position",), {})
@example(("position", "batches"), 2**64 - 1)
@example(("stream", "batch_size"), 0)
@example(("stream", "fingerprint"), "00")
@example(("worker", "given"), float("nan"))
def test_states_that_are_none_are_refused(path: tuple[str, ...], value: Any) -> None:
    good = StreamDataset(batch_size=4, server="localhost:1").state_dict() | {"worker": {"id": 0, "given": 3}}
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
        except iterand.InvalidArgument:
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
