"""The native module: streams made in this process. See native/module.cc."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

ENGINE_VERSION: int

# lane, segment, round, row, family, depth, part
_Provenance = tuple[int, int, int, int, str, int, str]

# Tokens, loss mask, provenance, parts, index of the first row. The arrays are writable, and no other reader sees them.
_Rows = tuple[
    npt.NDArray[np.unsignedinteger[Any]],
    npt.NDArray[np.bool_] | None,
    list[_Provenance] | None,
    npt.NDArray[np.uint8] | None,
    int,
]

class Reader:
    def next(self) -> _Rows | None:
        """The next batch; None at the end. One thread at a time. Errors: any `iterand.Error`, KeyboardInterrupt."""

    def close(self) -> None:
        """Stops generation; a thread in `next` gets the end."""

class Stream:
    def __init__(
        self,
        preset: str | None,
        recipe_json: str | None,
        seed: int,
        length: int | None,
        loss_mask: bool | None,
        expected_fingerprint: bytes | None,
    ) -> None: ...
    @property
    def fingerprint(self) -> bytes: ...
    @property
    def length(self) -> int: ...
    @property
    def lanes(self) -> int: ...
    @property
    def has_loss_mask(self) -> bool: ...
    def reader(self, first: int, stride: int, count: int | None, batch_size: int, provenance: bool) -> Reader: ...
    def read(self, indices: npt.NDArray[np.uint64], provenance: bool) -> _Rows: ...
    def explain(self, index: int, most_seconds: float | None) -> dict[str, Any]: ...
    def describe(self, at: int) -> bytes:
        """A serialised DescribeResponse."""

class Programs:
    def __init__(self, request: bytes) -> None: ...
    def next(self) -> bytes | None:
        """A serialised ExecuteResponse; None after the last."""

def describe() -> bytes: ...
def complexity(symbols: npt.NDArray[np.uint16], alphabet: int) -> list[float]: ...
def set_threads(threads: int) -> None: ...
def threads() -> int: ...

_stop: Callable[[], None]
