"""Pictures of sequences, in the colours of the server's page: a line is a sequence, a pixel is a token.

The colour is the token's rank by frequency within its own sequence, since labels have no meaning. Lightness alone
distinguishes ranks, so the colours work for colour-blind people and in grey.
"""

from __future__ import annotations

import base64
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iterand import errors
from iterand._batch import Batch, Tokens

# Magma, whose lightness rises steadily; as in server/page/pixels.js.
_STOPS = (
    (0, 0, 4),
    (20, 14, 54),
    (59, 15, 112),
    (100, 26, 128),
    (140, 41, 129),
    (183, 55, 121),
    (222, 73, 104),
    (247, 112, 92),
    (254, 159, 109),
    (254, 207, 146),
    (252, 253, 191),
)
LAST_RANK = 255  # rarer tokens have the same colour
_LINE, _GAP = 5, 1  # pixels of a sequence, and between two
_WIDEST = 1024  # pixels on a notebook's page


def ranks(sequence: Tokens) -> Tokens:
    """Each token's place in the sequence's order of frequency; ties go to the token that comes first."""
    values, first, inverse, counts = np.unique(sequence, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -counts))
    rank = np.empty(len(values), np.uint32)
    rank[order] = np.arange(len(values), dtype=np.uint32)
    ranked: Tokens = rank[inverse]
    return ranked


def lightness(rank: int, light: bool) -> float:
    """Where in the colours a rank is, from 0, the darkest, to 1. The commonest is nearest to the ground."""
    share: float = (math.log1p(min(rank, LAST_RANK)) / math.log(LAST_RANK + 2)) ** 0.6
    return 1 - 0.94 * share if light else 0.08 + 0.92 * share


def rank_colour(rank: int, light: bool) -> tuple[int, int, int]:
    """Red, green and blue of a rank."""
    at = lightness(rank, light) * (len(_STOPS) - 1)
    low = min(int(at), len(_STOPS) - 2)
    red, green, blue = (
        math.floor(first + (at - low) * (second - first) + 0.5)
        for first, second in zip(_STOPS[low], _STOPS[low + 1], strict=True)
    )
    return red, green, blue


def picture(tokens: npt.ArrayLike | Batch, *, max_rows: int = 64, max_tokens: int = 1024) -> Picture:
    """A picture of sequences, for a notebook or a file: a line is a sequence, a pixel is a token.

    tokens: rows x length whole numbers, or one row: an array, a tensor, or a Batch.
    max_rows, max_tokens: of more, the beginning is shown.
    Errors: InvalidArgument.

    >>> iterand.picture(iterand.read("up", range(8)))  # a notebook shows the picture itself
    <Picture of 8 sequences of 512 tokens>
    """
    for name, limit in (("max_rows", max_rows), ("max_tokens", max_tokens)):
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= 65536:
            raise errors.InvalidArgument(f"{name} is {limit!r}; it must be a whole number from 1 to 65536")
    given: Any = tokens.tokens if isinstance(tokens, Batch) else tokens
    if hasattr(given, "detach"):
        given = given.detach().cpu()  # a tensor of PyTorch, wherever it is
    rows = np.asarray(given)
    if rows.dtype.kind not in "ui" or rows.ndim not in (1, 2) or rows.size == 0:
        raise errors.InvalidArgument(
            f"tokens is an array of {rows.dtype} of shape {rows.shape}; it must be rows x length whole numbers"
        )
    rows = np.atleast_2d(rows)
    shown = [ranks(row)[:max_tokens] for row in rows[:max_rows]]
    return Picture(np.minimum(shown, LAST_RANK).astype(np.uint8), rows.shape)


class Picture:
    """What `picture` returns: Jupyter shows it, and `save` writes it to a file.

    >>> picture = iterand.picture(iterand.read("up", range(100)), max_rows=4)
    >>> picture
    <Picture of 4 sequences of 512 tokens, the beginning of 100 x 512>
    >>> picture.save("rows.png")
    >>> picture.png()[:4]
    b'\\x89PNG'
    """

    def __init__(self, shown: npt.NDArray[np.uint8], given: tuple[int, ...]) -> None:
        self._ranks = shown
        self._given = given

    def __repr__(self) -> str:
        return f"<Picture of {self._words()}>"

    def _words(self) -> str:
        (rows, length), (all_rows, whole_length) = self._ranks.shape, self._given
        words = f"{rows} sequence{'' if rows == 1 else 's'} of {length} token{'' if length == 1 else 's'}"
        if (rows, length) != (all_rows, whole_length):
            words += f", the beginning of {all_rows} x {whole_length}"
        return words

    def png(self) -> bytes:
        """The picture as a PNG file. A sequence is 5 pixels high, with a transparent line below it."""
        rows, length = self._ranks.shape
        lines = np.full((rows, _LINE + _GAP, length), LAST_RANK, np.uint8)
        # The last colour is that of the gaps. The two rarest ranks differ by nothing that an eye sees.
        lines[:, :_LINE] = np.minimum(self._ranks, LAST_RANK - 1)[:, None]
        lines = lines.reshape(-1, length)[:-_GAP]
        palette = bytes(part for rank in range(LAST_RANK + 1) for part in rank_colour(rank, light=True))
        filtered = np.zeros((len(lines), length + 1), np.uint8)  # each line begins with the number of its filter: none
        filtered[:, 1:] = lines
        return b"".join(
            (
                b"\x89PNG\r\n\x1a\n",
                _chunk(b"IHDR", struct.pack(">IIBBBBB", length, len(lines), 8, 3, 0, 0, 0)),
                _chunk(b"PLTE", palette),
                _chunk(b"tRNS", b"\xff" * LAST_RANK + b"\x00"),
                _chunk(b"IDAT", zlib.compress(filtered.tobytes(), 9)),
                _chunk(b"IEND", b""),
            )
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a PNG file. Errors: OSError."""
        Path(path).write_bytes(self.png())

    def _repr_html_(self) -> str:
        rows, length = self._ranks.shape
        width = length * max(1, min(8, _WIDEST // length))
        height = rows * (_LINE + _GAP) - _GAP
        data = base64.b64encode(self.png()).decode()
        return (
            f'<img src="data:image/png;base64,{data}" alt="{self._words()}" width="{width}" height="{height}" '
            f'style="width:{width}px;max-width:100%;height:{height}px;image-rendering:pixelated">'
        )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
