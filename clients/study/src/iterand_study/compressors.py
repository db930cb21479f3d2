"""Compressors as references: bits per byte of a window's second half, given its first half.

deflate, xz, zstd: size of the compressed window minus that of its first half, without container overhead. ppm:
prediction by partial matching, method C with exclusion, order 5, with its ideal code length. pitman_yor: likewise the
predictive distribution of a hierarchical Pitman-Yor process, of which the noise of family pitman_yor is. Nothing learnt
elsewhere goes in, as with the context-Markov baselines.
"""

from __future__ import annotations

import lzma
import math
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import zstandard


def _deflate(data: bytes) -> int:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return len(compressor.compress(data) + compressor.flush())


def _xz(data: bytes) -> int:
    return len(
        lzma.compress(data, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}])
    )


def _sizes() -> dict[str, Callable[[bytes], int]]:
    sizes: dict[str, Callable[[bytes], int]] = {"deflate": _deflate, "xz": _xz}
    parameters = zstandard.ZstdCompressionParameters.from_level(
        19, write_content_size=0, write_checksum=0, write_dict_id=0, format=zstandard.FORMAT_ZSTD1_MAGICLESS
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    sizes["zstd"] = lambda data: len(compressor.compress(data))
    return sizes


def ppm_bits(data: bytes, order: int = 5) -> list[float]:
    """Ideal code length of each byte, in bits, by PPM method C with exclusion (Moffat 1990)."""
    contexts: dict[bytes, dict[int, int]] = {}
    costs = []
    for place, symbol in enumerate(data):
        bits = 0.0
        excluded: set[int] = set()
        for size in range(min(order, place), -1, -1):
            counts = contexts.get(data[place - size : place])
            if counts is None:
                continue
            open_counts = {seen: count for seen, count in counts.items() if seen not in excluded}
            if not open_counts:
                continue
            total = sum(open_counts.values()) + len(open_counts)  # method C: an escape for each distinct symbol
            if symbol in open_counts:
                bits += math.log2(total / open_counts[symbol])
                break
            bits += math.log2(total / len(open_counts))
            excluded.update(open_counts)
        else:
            bits += math.log2(256 - len(excluded))
        costs.append(bits)
        for size in range(min(order, place) + 1):
            counts = contexts.setdefault(data[place - size : place], {})
            counts[symbol] = counts.get(symbol, 0) + 1
    return costs


# Of the empty context, of contexts of one symbol, of two, ...
DISCOUNTS = (0.5, 0.7, 0.8, 0.8, 0.9, 0.9)
STRENGTH = 0.5


def pitman_yor_bits(data: bytes, discounts: tuple[float, ...] = DISCOUNTS, strength: float = STRENGTH) -> list[float]:
    """Ideal code length of each byte, in bits, by a hierarchical Pitman-Yor process over contexts of 0, 1, ... symbols.

    With one table for each symbol of a context, that is interpolated Kneser-Ney smoothing (Teh 2006, section 5).
    """
    contexts: dict[bytes, dict[int, int]] = {}
    costs = []
    for place, symbol in enumerate(data):
        longest = min(len(discounts) - 1, place)
        probability = 1 / 256
        for size in range(longest + 1):
            counts = contexts.get(data[place - size : place])
            if counts is None:
                break  # and so are all longer ones
            share = strength + discounts[size] * len(counts)  # of what the next shorter context says
            own = counts[symbol] - discounts[size] if symbol in counts else 0.0
            probability = (own + share * probability) / (strength + sum(counts.values()))
        costs.append(-math.log2(probability))
        for size in range(longest, -1, -1):
            counts = contexts.setdefault(data[place - size : place], {})
            counts[symbol] = counts.get(symbol, 0) + 1
            if counts[symbol] > 1:
                break  # the shorter contexts have counted it
    return costs


def references(rows: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Bits per byte of the windows' second halves, by compressor."""
    half = rows.shape[1] // 2
    windows = [row.tobytes() for row in rows]
    result = {
        name: float(np.mean([size(window) - size(window[:half]) for window in windows])) * 8 / (rows.shape[1] - half)
        for name, size in _sizes().items()
    }
    for name, bits in (("ppm", ppm_bits), ("pitman_yor", pitman_yor_bits)):
        result[name] = float(np.mean([np.mean(bits(window)[half:]) for window in windows]))
    return result
