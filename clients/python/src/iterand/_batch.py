"""Batches of sequences, made in this process or received from a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.unsignedinteger[Any]]
LossMask = npt.NDArray[np.bool_]
Parts = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Provenance:
    """Where a row came from: see Provenance in noise_service.proto."""

    lane: int
    segment: int
    round: int
    row: int
    family: str
    depth: int
    part: str = ""  # of a mixture; "OUTER/INNER" in a nested one


@dataclass(frozen=True)
class Batch:
    """`rows` sequences of the stream. Row i is the sequence with index first_index + i * stride."""

    tokens: Tokens  # rows x length
    first_index: int
    stride: int
    fingerprint: bytes
    provenance: tuple[Provenance, ...] = ()
    loss_mask: LossMask | None = None  # rows x length, true where a token is to be predicted; if the stream has masks
    # One number per row: the part of a mixture that made it, its place in `describe(...).stream.parts`. None if the
    # recipe is no mixture.
    parts: Parts | None = None

    @property
    def rows(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def next_index(self) -> int:
        """The index after the last row's, for the same shard."""
        return self.first_index + self.rows * self.stride
