"""The program `iterand` that Python tests run. Their configurations have this folder in `pythonpath`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def binary() -> str:
    path = Path(os.environ.get("ITERAND_BINARY", REPOSITORY / "build/release/clients/cli/iterand"))
    if not path.is_file():
        pytest.exit(f"{path} does not exist: build the target `iterand`, or name its binary by ITERAND_BINARY", 2)
    return str(path)
