"""Index arithmetic of a shard whose batches are dealt out to workers. Pure functions of numbers.

K workers deal out a shard in rounds. A round has K * batch_size successive rows of the shard. Place p of the round
makes one batch of the rows p, p + K, p + 2K, ... of the round. The loader takes the batches by place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from iterand import errors
from iterand._requests import check_range


@dataclass(frozen=True)
class Position:
    """How much of a shard has been read: `origin` rows, and then `batches` batches dealt out by `workers` workers."""

    origin: int = 0
    batches: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        check_range("position's origin", self.origin, 0, 2**64)
        check_range("position's batches", self.batches, 0, 2**64)
        check_range("position's workers", self.workers, 1, 2**32)

    def after_whole_rounds(self, batch_size: int) -> Position:
        """The same position with fewer than `workers` batches: whole rounds are rows without gaps."""
        rounds = self.batches // self.workers
        return Position(self.origin + rounds * self.workers * batch_size, self.batches % self.workers, self.workers)


@dataclass(frozen=True)
class Place:
    """The place of one iteration.

    In a worker of a DataLoader, it has given `given` batches since `position`; the other workers' share is not known.
    Everywhere else `worker` is None, `given` is 0, and `position` counts all batches.
    """

    position: Position = Position()
    worker: int | None = None
    given: int = 0

    def __post_init__(self) -> None:
        if self.worker is not None:
            check_range("worker's id", self.worker, 0, self.position.workers - 1)
        check_range("worker's given", self.given, 0, 2**64)

    def taken_up(self, worker: int | None, workers: int, batch_size: int) -> Place:
        """The same place for `worker` of `workers`; worker None stands for the process that sees all batches.

        Errors: InvalidArgument if the place is another worker's, or lies within a round of another number of workers.
        """
        begin = self.position.after_whole_rounds(batch_size)
        if self.worker is not None and (self.worker, begin.workers) != (worker or 0, workers):
            taker = "the loader itself" if worker is None and workers > 1 else f"worker {worker or 0} of {workers}"
            raise errors.InvalidArgument(f"state of worker {self.worker} of {begin.workers} was given to {taker}")
        if begin.workers != workers:
            if begin.batches:
                raise errors.InvalidArgument(
                    f"state lies {begin.batches} batches into a round of {begin.workers} workers; "
                    f"{workers} workers can only continue from the end of a round"
                )
            begin = Position(begin.origin, 0, workers)
        if worker is not None:
            return Place(begin, worker, self.given)
        if self.given:
            if workers > 1:
                raise errors.InvalidArgument(f"state is of one of {workers} workers; it must be of the whole loader")
            begin = Position(begin.origin, begin.batches + self.given, workers).after_whole_rounds(batch_size)
        return Place(begin)

    def after_batch(self) -> Place:
        """The place after one batch more of this iteration."""
        if self.worker is not None:
            return Place(self.position, self.worker, self.given + 1)
        return Place(Position(self.position.origin, self.position.batches + 1, self.position.workers))

    def next_row(self, worker: int, batch_size: int) -> int:
        """Row of the shard at which the next batch of `worker` begins. Its other rows follow at steps of `workers`."""
        position = self.position.after_whole_rounds(batch_size)
        # A loader asks its worker 0 first. So worker 0 takes the place whose turn it is.
        place = (worker + position.batches) % position.workers
        batches = self.given + (place < position.batches)
        return position.origin + place + position.workers * batch_size * batches

    def to_state(self, batch_size: int) -> dict[str, Any]:
        """The parts "position" and "worker" of a state: plain data."""
        state: dict[str, Any] = {"position": asdict(self.position.after_whole_rounds(batch_size))}
        if self.worker is not None:
            state["worker"] = {"id": self.worker, "given": self.given}
        return state

    @staticmethod
    def from_state(state: Mapping[str, Any], batch_size: int) -> Place:
        """The reverse of `to_state`. Errors: those of reading a mapping that is something else, or InvalidArgument."""
        given = state["position"]
        if set(given) != {"origin", "batches", "workers"}:
            raise KeyError(f"position has the parts {sorted(given)}")
        position = Position(given["origin"], given["batches"], given["workers"]).after_whole_rounds(batch_size)
        if state.get("worker") is None:
            return Place(position)
        return Place(position, state["worker"]["id"], state["worker"]["given"])
