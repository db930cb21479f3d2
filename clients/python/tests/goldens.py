"""The goldens of tests/goldens/goldens.txt, by preset."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from server_program import REPOSITORY

ROWS = 64


@dataclass(frozen=True)
class Golden:
    preset: str
    seed: int
    hash: str  # SHA-256 of the first ROWS sequences
    length: int | None  # None: the preset's own


def goldens() -> list[Golden]:
    found = []
    for line in (REPOSITORY / "tests/goldens/goldens.txt").read_text().splitlines():
        words = line.split()
        if words and not words[0].startswith("#") and words[0] != "engine_version":
            found.append(Golden(words[0], int(words[1]), words[2], int(words[3]) if len(words) > 3 else None))
    return found


def hash_of(tokens: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(tokens).tobytes()).hexdigest()
