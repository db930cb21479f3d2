"""Noise and real data interleaved in one loader with one state.

Order. Batch t has floor(share * batch_size + u_t) rows of noise, where `share` is the noise's share at step t and
u_t = u_0 + t * phi modulo 1, with phi the golden ratio and u_0 from the seed. So every batch has its share to within a
row, and so has any number of them together. The places of the rows are a random permutation, drawn from (seed, t).
Nothing depends on what came before. All ranks have the same order, so they use their sources in equal steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from iterand import errors
from iterand._index_dataset import integer_dtype, refuse_wide
from iterand._mix_sources import Rows, refuse_lengths, source_of
from iterand._requests import check_bool, check_range

MixedBatch = dict[str, npt.NDArray[Any]]
WeightLike: TypeAlias = "float | Sequence[Mapping[str, float]]"

_VERSION = 1
_SOURCES = ("noise", "real")
_MOST_WEIGHT = 1e6
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 times the golden ratio, less 1


class Mix(Iterator[MixedBatch]):
    """Interleaves sequences of noise and of real data. Iterates over batches, dicts of arrays with a row per sequence,

        tokens     batch_size x length
        loss_mask  batch_size x length: true where a token is to be predicted; all true for a source without loss masks
        source     batch_size, of uint8: 0 for noise, 1 for real

    The last batch may have fewer rows. An error of a source leaves the mix where it was: the next call tries that batch
    again. One thread at a time.

    noise: an `iterand.stream`, or what `real` may be. The mix takes it over: read nothing else from it.
    real: a data set with `len` and `[]`, or an iterable with `state_dict` and `load_state_dict` (or whose iterator has
        them, or Grain's get_state and set_state). Items are sequences of tokens, or mappings with the column "tokens"
        or "input_ids", all of the length of the noise. A token must mean the same to both: see `vocab_size` of recipes.
    weights: of noise and real. Each is a number, or a schedule: a list of points such as
        [{"at": 0, "weight": 1}, {"at": 1000, "weight": 0}], between which it is linear in the batch's number. It is
        constant before the first point and after the last one; two points at one batch make a step.
    batch_size: rows of a batch, of this reader.
    dtype: of the tokens.
    repeat: data sets begin again at their end. If not, the mix ends with the first source that does.
    rank, world_size: of W readers, reader r takes the items r, r + W, ... of a data set. A stream must be of the same
        reader. An iterable has to be that reader's share.
    Errors: InvalidArgument.

    >>> real = np.zeros((100, 128), np.uint8)  # a data set of 100 sequences
    >>> fade = [{"at": 0, "weight": 3}, {"at": 1000, "weight": 1}]
    >>> loader = iterand.mix(iterand.stream("up", length=128), real, weights=(fade, 1), batch_size=8)
    >>> batch = next(loader)
    >>> batch["tokens"].shape, int((batch["source"] == 0).sum()), loader.step
    ((8, 128), 6, 1)
    >>> state = loader.state_dict()  # and load_state_dict(state) of a new mix of the same sources
    """

    def __init__(
        self,
        noise: Any,
        real: Any,
        weights: tuple[WeightLike, WeightLike] = (1, 1),
        *,
        batch_size: int = 64,
        seed: int = 0,
        dtype: npt.DTypeLike = "int64",
        repeat: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_range("batch_size", batch_size, 1, 2**31 - 1)
        check_range("seed", seed, 0, 2**64 - 1)
        check_range("world_size", world_size, 1, 2**32 - 1)
        check_range("rank", rank, 0, world_size - 1)
        check_bool("repeat", repeat)
        self._dtype = integer_dtype(dtype)
        self._batch_size = int(batch_size)
        self._seed = int(seed)
        self._schedules = _schedules(weights)
        self._sources = [
            source_of(name, data, bool(repeat), int(rank), int(world_size))
            for name, data in zip(_SOURCES, (noise, real), strict=True)
        ]
        self._step = 0
        self._begun = False
        self._ended = False
        self._length: tuple[int, str] | None = None

    @property
    def step(self) -> int:
        """The number of the next batch."""
        return self._step

    def __iter__(self) -> Mix:
        return self

    def __next__(self) -> MixedBatch:
        if self._ended:
            raise StopIteration
        order = self._order()
        found = [source.peek(int((order == number).sum())) for number, source in enumerate(self._sources)]
        order = order[: _rows_before_an_end(order, [0 if rows is None else len(rows.tokens) for rows in found])]
        batch = self._batch(order, found)
        # Nothing fails from here on.
        self._begun = True
        self._ended = len(order) < self._batch_size
        if len(order) == 0:
            raise StopIteration
        for number, source in enumerate(self._sources):
            source.advance(int((order == number).sum()))
        self._step += 1
        return batch

    def _order(self) -> npt.NDArray[np.uint8]:
        """The source of each row of the next batch."""
        noise, real = (_at(points, self._step) for points in self._schedules)
        first = int(np.random.Philox(key=[self._seed, 0]).random_raw())
        offset = ((first + self._step * _GOLDEN) % 2**64) / 2**64
        rows = min(self._batch_size, math.floor(noise / (noise + real) * self._batch_size + offset))
        draws = np.random.Philox(key=[self._seed, 1], counter=[0, self._step, 0, 0]).random_raw(self._batch_size)
        order = np.ones(self._batch_size, np.uint8)
        order[np.argsort(draws, kind="stable")[:rows]] = 0
        return order

    def _batch(self, order: npt.NDArray[np.uint8], found: list[Rows | None]) -> MixedBatch:
        for rows in found:
            if rows is not None and self._length is None:
                self._length = (rows.tokens.shape[1], rows.place)
            if rows is not None and self._length is not None and rows.tokens.shape[1] != self._length[0]:
                refuse_lengths(rows.place, rows.tokens.shape[1], self._length[1], self._length[0])
        shape = (len(order), 0 if self._length is None else self._length[0])
        tokens, masks = np.empty(shape, self._dtype), np.ones(shape, np.bool_)
        for number, rows in enumerate(found):
            places = np.flatnonzero(order == number)
            if rows is None or len(places) == 0:
                continue
            try:
                refuse_wide(rows.tokens, self._dtype)
            except errors.InvalidArgument as error:
                raise errors.InvalidArgument(f"{rows.place} and the rows after it: {error}") from None
            tokens[places] = rows.tokens[: len(places)]
            if rows.loss_mask is not None:
                masks[places] = rows.loss_mask[: len(places)]
        return {"tokens": tokens, "loss_mask": masks, "source": order}

    def state_dict(self) -> dict[str, Any]:
        """What the batches so far have used, as plain data, if the states of both sources are such."""
        return {"version": _VERSION, **self._settings(), "step": self._step} | {
            name: source.state() for name, source in zip(_SOURCES, self._sources, strict=True)
        }

    def _settings(self) -> dict[str, Any]:
        weights = [[{"at": at, "weight": weight} for at, weight in points] for points in self._schedules]
        return {"seed": self._seed, "batch_size": self._batch_size, "weights": weights}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Continues from a state of a mix of the same sources: with any world size, unless a source is an iterable.

        strict: refuse a state with another seed, other weights or another batch size. False: continue with those of
            this mix; no sequence is lost or repeated by that.
        Errors: InvalidArgument if it is not a state or iteration has begun, or by a source; FingerprintMismatch if the
        noise is of another recipe, seed or engine version.
        """
        if self._begun:
            raise errors.InvalidArgument("load_state_dict was called after iteration had begun; call it on a new mix")
        try:
            version, step = state["version"], state["step"]
            settings = {name: state[name] for name in self._settings()}
            check_range("step", step, 0, 2**63)
            if version != _VERSION:
                raise ValueError(f"it has version {version}; this package reads version {_VERSION}")
            for name, value in self._settings().items():
                if strict and settings[name] != value:
                    raise errors.InvalidArgument(
                        f"state is of a mix with {name} {settings[name]!r}, not {value!r}: make the mix with what the "
                        "state says, or load it with strict=False"
                    )
            for name, source in zip(_SOURCES, self._sources, strict=True):
                source.load(state[name])
        except errors.Error:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise errors.InvalidArgument(f"state is not what state_dict gave: {error!r}") from error
        self._step = int(step)

    def __repr__(self) -> str:
        return f"<Mix of noise and real data, at step {self._step}>"


mix = Mix


def _rows_before_an_end(order: npt.NDArray[np.uint8], rows: list[int]) -> int:
    """How many rows of a batch exist if source i has only rows[i] of those that the order asks for."""
    least = len(order)
    for number, there in enumerate(rows):
        places = np.flatnonzero(order == number)
        if len(places) > there:
            least = min(least, int(places[there]))
    return least


Points = list[tuple[int, float]]


def _schedules(weights: Any) -> tuple[Points, Points]:
    """Errors: InvalidArgument that names the weight."""
    if isinstance(weights, str | Mapping) or not isinstance(weights, Sequence) or len(weights) != 2:
        raise errors.InvalidArgument(
            f"weights is {weights!r}; it must be a pair of the noise's weight and the real data's, such as (1, 3)"
        )
    noise, real = (_points(f"weights[{number}]", weight) for number, weight in enumerate(weights))
    # Between these steps both weights are linear, so that their sum is least at one of them.
    turns = {0} | {max(0, at - before) for at, _ in noise + real for before in (0, 1)}
    for step in sorted(turns):
        if _at(noise, step) + _at(real, step) <= 0:
            raise errors.InvalidArgument(f"weights: both are 0 at step {step}; one must be above 0")
    return noise, real


def _points(path: str, weight: Any) -> Points:
    if isinstance(weight, str | Mapping) or not isinstance(weight, Sequence):
        return [(0, _checked_weight(path, weight))]
    points: Points = []
    for number, point in enumerate(weight):
        if not isinstance(point, Mapping) or set(point) != {"at", "weight"}:
            raise errors.InvalidArgument(
                f'{path}[{number}] is {point!r}; it must be a point such as {{"at": 1000, "weight": 0.5}}'
            )
        at = point["at"]
        check_range(f"{path}[{number}].at", at, 0, 2**62)
        if points and at < points[-1][0]:
            raise errors.InvalidArgument(
                f"{path}[{number}].at: is {at}, must be at least {points[-1][0]}, that of the point before"
            )
        points.append((int(at), _checked_weight(f"{path}[{number}].weight", point["weight"])))
    if not points:
        raise errors.InvalidArgument(f"{path} has no points; it must be a number or a list of points")
    return points


def _checked_weight(path: str, weight: Any) -> float:
    if isinstance(weight, bool) or not isinstance(weight, int | float | np.integer | np.floating):
        raise errors.InvalidArgument(f"{path} is {weight!r}; it must be a number or a list of points")
    if not 0 <= weight <= _MOST_WEIGHT:
        raise errors.InvalidArgument(f"{path}: is {weight}, must be in [0, {_MOST_WEIGHT:g}]")
    return float(weight)


def _at(points: Points, step: int) -> float:
    """The weight at a step."""
    last = None
    for at, weight in points:
        if step < at:
            if last is None:
                return weight
            return last[1] + (weight - last[1]) * (step - last[0]) / (at - last[0])
        last = (at, weight)
    return points[-1][1]
