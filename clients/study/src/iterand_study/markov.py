"""Context-Markov baselines: n-gram models that are counted inside the window, as an in-context learner must.

The model of order n that predicts token t of a window is counted over the tokens 0 .. t-1 of that window alone:

    p(x | c) = (count(c x) + k) / (count(c) + k |A|)        c: the n tokens before t, A: the distinct tokens of the set

where count(c) includes the occurrence right before t, which has no successor yet (that is how the published figures
were counted: without it dyck and ndfa would come out 0.05 lower). The smoothing k is, per order, the one of SMOOTHING
with the least mean loss; the baseline is the best order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ORDERS = tuple(range(6))
SMOOTHING = (1.0, 0.1, 0.01, 1e-4, 1e-6)


@dataclass(frozen=True)
class Baseline:
    """Mean bits per token of each order with its best smoothing."""

    bits: dict[int, float]
    smoothing: dict[int, float]

    @property
    def best_order(self) -> int:
        return min(self.bits, key=lambda order: self.bits[order])

    @property
    def best(self) -> float:
        return self.bits[self.best_order]


def context_counts(
    rows: npt.NDArray[np.uint8], position: int, orders: Sequence[int] = ORDERS
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """How often each row's context occurred before `position`, and how often followed by the token at `position`.

    rows: windows x length. Returns count(c) and count(c x), each orders x windows.
    """
    followed = rows[:, :position] == rows[:, position : position + 1]  # where the predicted token is
    context = np.ones_like(followed)  # where the context ends just before
    totals = np.zeros((len(orders), len(rows)), np.int32)
    hits = np.zeros_like(totals)
    for order in range(max(orders) + 1):
        if order > position:
            break
        if order > 0:
            # Place i has the context if the token `order` before it equals the one `order` before `position`.
            context[:, order:] &= rows[:, : position - order] == rows[:, position - order : position - order + 1]
            context[:, :order] = False
        if order in orders:
            place = orders.index(order)
            totals[place] = np.count_nonzero(context, axis=1) + (1 if order else 0)
            hits[place] = np.count_nonzero(context & followed, axis=1)
    return totals, hits


def baseline(
    rows: npt.NDArray[np.uint8],
    positions: Sequence[int] | None = None,
    orders: Sequence[int] = ORDERS,
    alphabet: int | None = None,
) -> Baseline:
    """The baseline on windows (windows x length) at the given positions; without, at the last one.

    alphabet: |A|; without, the number of distinct tokens in `rows`.
    """
    symbols = len(np.unique(rows)) if alphabet is None else alphabet
    counts = [context_counts(rows, position, orders) for position in (positions or (rows.shape[1] - 1,))]
    totals = np.concatenate([total for total, _ in counts], axis=1)
    hits = np.concatenate([hit for _, hit in counts], axis=1)
    bits: dict[int, float] = {}
    smoothing: dict[int, float] = {}
    for place, order in enumerate(orders):
        losses = [float(np.mean(np.log2(totals[place] + k * symbols) - np.log2(hits[place] + k))) for k in SMOOTHING]
        bits[order] = min(losses)
        smoothing[order] = SMOOTHING[losses.index(min(losses))]
    return Baseline(bits, smoothing)
