"""Runs programs of frameworks in processes of their own, for the tests of integrations."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path


def run_program(folder: Path, text: str, *arguments: object, processes: int = 1) -> None:
    """Runs a program by torchrun. It ends within a minute or two."""
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
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def global_batches(seen: list[list[list[int]]]) -> list[int]:
    """The indices in the order of the stream. seen[rank][step] are the rows of one rank in one step."""
    return [row for step in zip(*seen, strict=True) for rows in zip(*step, strict=True) for row in rows]
