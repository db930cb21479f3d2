"""Streams made in this process: the native module as where a stream comes from.

Generation runs on threads of the native module, which are this process's own: after a fork the child starts others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from iterand import _requests, errors
from iterand._batch import Batch, Provenance
from iterand._explanation import Explanation, Step
from iterand._native import core
from iterand._requests import RecipeLike

if TYPE_CHECKING:
    from iterand import _core
    from iterand._description import StreamInfo


def open_stream(
    recipe: RecipeLike,
    seed: int,
    length: int | None,
    loss_mask: bool,
    expected_fingerprint: bytes | None,
) -> core.Stream:
    """Errors: InvalidRecipe, UnknownPreset, FingerprintMismatch."""
    _requests.check_spec(seed, length, expected_fingerprint, loss_mask)
    preset, text = _requests.recipe_text(recipe)
    return core.Stream(
        preset,
        text,
        int(seed),
        None if length is None else int(length),
        True if loss_mask else None,  # if not, the recipe decides
        expected_fingerprint,
    )


def explanation(stream: core.Stream, index: int, most_seconds: float | None = None) -> Explanation:
    """Where a sequence came from. Errors: as `iterand.explain`; Cancelled after `most_seconds` of core time."""
    found = stream.explain(index, most_seconds)
    return Explanation(**{**found, "steps": tuple(Step(**step) for step in found["steps"])})


class EmbeddedRoad:
    """This process as where a stream comes from."""

    place = "this process"

    def __init__(self, stream: core.Stream, provenance: bool) -> None:
        self._stream = stream
        self._provenance = provenance
        self.fingerprint: bytes = stream.fingerprint

    def expect(self, fingerprint: bytes) -> None:
        """Nothing to do: a state's fingerprint was compared with this one."""

    def resolve(self) -> tuple[bytes, int]:
        return self.fingerprint, core.ENGINE_VERSION

    def open(self, first: int, stride: int, count: int | None, batch_size: int, every: int) -> EmbeddedSource:
        """Errors: InvalidArgument unless `every` is 1: each of `every` readers would make all sequences."""
        if every != 1:
            raise errors.InvalidArgument(
                f"{every} workers read a stream without a server: each would make all of its sequences. Use "
                "num_workers=0, whose sequences are made ahead on threads; or a StreamLoader, whose workers share a "
                "server; or server=iterand.Server()"
            )
        return EmbeddedSource(
            self._stream.reader(first, stride, count, batch_size, self._provenance), stride, self.fingerprint
        )

    def read(self, indices: Sequence[int]) -> Batch:
        array = np.fromiter(indices, np.uint64, len(indices))
        return batch_of(self._stream.read(array, self._provenance), 0, self.fingerprint)

    def describe(self, at: int) -> StreamInfo:
        """What the stream is; the cost of a mixture is that at index `at`."""
        from iterand._description import description
        from iterand.v1 import noise_service_pb2 as service

        info = description(service.DescribeResponse.FromString(self._stream.describe(at))).stream
        assert info is not None
        return info

    def check_process(self) -> None:
        """A forked process makes its own threads."""

    def close(self) -> None:
        """What the stream holds is freed with it."""


class EmbeddedSource:
    """Batches in order."""

    def __init__(self, reader: core.Reader, stride: int, fingerprint: bytes) -> None:
        self._reader = reader
        self._stride = stride
        self._fingerprint = fingerprint

    def next(self) -> Batch | None:
        rows = self._reader.next()
        return None if rows is None else batch_of(rows, self._stride, self._fingerprint)

    def close(self) -> None:
        self._reader.close()


def batch_of(rows: _core._Rows, stride: int, fingerprint: bytes) -> Batch:
    tokens, loss_mask, provenance, parts, first_index = rows
    origins = () if provenance is None else tuple(Provenance(*row) for row in provenance)
    return Batch(tokens, first_index, stride, fingerprint, origins, loss_mask, parts)
