"""For the tests of integrations: programs of frameworks in processes of their own, and counts of what is compared."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import iterand

LENGTH, BATCH, STEPS = 16, 4, 20


@functools.cache
def _known() -> dict[bytes, int]:
    rows = iterand.read("uniform", range(4000), length=LENGTH, server=False)
    known = {bytes(row): index for index, row in enumerate(rows)}
    assert len(known) == len(rows)
    return known


class Compared:
    """Counts the sequences of a framework's loader that a test compared, and from how many states it resumed."""

    def __init__(self, package: str, processes: int, workers: str) -> None:
        self.package, self.processes, self.workers = package, processes, workers
        self.sequences = self.resumed = 0

    def indices(self, rows: Iterable[Any]) -> list[int]:
        """The indices of sequences of "uniform" with LENGTH tokens."""
        found = [_known()[bytes(np.asarray(row).astype(np.uint8))] for row in rows]
        self.sequences += len(found)
        return found

    def global_batches(self, folder: Path, name: str, ranks: int) -> list[int]:
        """The indices that all ranks read, in the order of the stream; FOLDER/NAME-RANK.json has the batches of one."""
        seen = [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(ranks)]
        indices = [[self.indices(batch) for batch in batches] for batches in seen]
        return [row for step in zip(*indices, strict=True) for rows in zip(*step, strict=True) for row in rows]


def summary(all_compared: list[Compared]) -> list[str]:
    """A table with a line per package and way to read."""
    lines = [f"{'package':20} {'version':24} {'processes':>9} {'workers':>10} {'sequences':>10} {'resumes':>8}"]
    sums: dict[tuple[str, int, str], list[int]] = {}
    for each in all_compared:
        found = sums.setdefault((each.package, each.processes, each.workers), [0, 0])
        found[0] += each.sequences
        found[1] += each.resumed
    for (package, processes, workers), (sequences, resumed) in sorted(sums.items()):
        version = importlib.metadata.version(package)
        lines.append(f"{package:20} {version:24} {processes:>9} {workers:>10} {sequences:>10} {resumed:>8}")
    return lines


def run_program(folder: Path, text: str, *arguments: object, processes: int = 1) -> None:
    """Runs a program, by torchrun where it has several processes. It ends within a minute or two."""
    file = folder / "program.py"
    file.write_text(textwrap.dedent(text))
    run_file(file, folder, *arguments, processes=processes)


def run_file(file: Path, folder: Path, *arguments: object, processes: int = 1) -> str:
    command = [sys.executable, "-W", "ignore"]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(file), *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout + done.stderr
