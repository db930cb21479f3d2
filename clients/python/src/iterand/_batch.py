"""Batches of sequences, made in this process or received from a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.unsignedinteger[Any]]
"""Tokens, usually rows x length, of dtype uint8, uint16 or uint32: the smallest that the vocabulary fits.

>>> iterand.read("up", [0, 7], length=128).shape
(2, 128)
"""
LossMask = npt.NDArray[np.bool_]
"""An array of the tokens' shape, true where a token is to be predicted.

>>> batch = iterand.stream("tasks", loss_mask=True).next_batch()
>>> batch.loss_mask.shape == batch.tokens.shape
True
"""
Parts = npt.NDArray[np.uint8]
"""One number per row: the part of a mixture that made it, its place in `describe(...).stream.parts`.

>>> mixture = {"mixture": [{"preset": "markov"}, {"preset": "dyck"}]}
>>> parts = iterand.describe(mixture).stream.parts
>>> parts[iterand.stream(mixture).next_batch().parts[0]].name in ("markov", "dyck")
True
"""


@dataclass(frozen=True)
class Provenance:
    """Where a row came from.

    lane, segment: the segment of the stream that has the row.
    round: within the segment; within the lane if the recipe's pool is endless.
    row: within the round.
    family: of the program that wrote the row.
    depth: programs passed through since it was noise.
    part: of a mixture, by name; "OUTER/INNER" in a nested one. Empty if the recipe is not a mixture.

    >>> batch = iterand.stream("markov", provenance=True).next_batch()
    >>> batch.provenance[0].family
    'markov'
    """

    lane: int
    segment: int
    round: int
    row: int
    family: str
    depth: int
    part: str = ""


@dataclass(frozen=True, init=False)
class Batch:
    """`rows` sequences of the stream. Row i is the sequence with index first_index + i * stride.

    tokens: rows x length.
    stride: 0 if the rows were read by a list of indices.
    fingerprint: 32 bytes that name the stream.
    provenance: one per row, if it was asked for.
    loss_mask: rows x length, true where a token is to be predicted; None if the stream has no masks.
    parts: one number per row, the part of a mixture that made it; None if the recipe is not a mixture.

    >>> batch = iterand.stream("up", length=128, batch_size=4, start=8).next_batch()
    >>> batch.tokens.shape, batch.rows, batch.first_index, batch.next_index
    ((4, 128), 4, 8, 12)
    """

    tokens: Tokens
    first_index: int
    stride: int
    fingerprint: bytes
    provenance: tuple[Provenance, ...] = ()
    loss_mask: LossMask | None = None
    parts: Parts | None = None

    def __init__(
        self,
        tokens: Tokens,
        first_index: int,
        stride: int,
        fingerprint: bytes,
        provenance: tuple[Provenance, ...] = (),
        loss_mask: LossMask | None = None,
        parts: Parts | None = None,
    ) -> None:
        # A frozen dataclass's own constructor sets each field by a call, which is slower.
        self.__dict__.update(
            tokens=tokens,
            first_index=first_index,
            stride=stride,
            fingerprint=fingerprint,
            provenance=provenance,
            loss_mask=loss_mask,
            parts=parts,
        )

    @property
    def rows(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def next_index(self) -> int:
        """The index after the last row's, for the same shard."""
        return self.first_index + self.rows * self.stride

    def _repr_html_(self) -> str:
        from iterand import _notebook

        return _notebook.of_batch(self)
