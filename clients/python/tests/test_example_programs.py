"""Every program in examples/ runs as it is, prints what it promises, and is short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from server_program import REPOSITORY

from framework_programs import run_file

pytestmark = pytest.mark.integrations

FOLDER = REPOSITORY / "clients/python/examples"
TENS = {processes: 10 * 16 * processes for processes in (1, 2)}  # rows of ten steps

# Package, processes of each run, and what the runs must print. A run continues from the checkpoint of the one before.
EXAMPLES = {
    "accelerate_loop": ("accelerate", (2, 1), (rf"next index {TENS[2]}\n", rf"next index {TENS[2] + TENS[1]}\n")),
    "datasets_stream": ("datasets", (1,), (r"[0-9a-f]{40}\n\[10, 10\]\n",)),
    "grain_jax": ("grain", (1,), (r"loss after 20 steps: \d\.\d+\nresumed exactly: True\n",)),
    "lightning_module": ("lightning", (1,), (r"max_steps=4` reached[\s\S]*max_steps=10` reached",)),
    "mix_noise_and_text": ("numpy", (1,), (r"step 0: 100% noise\n[\s\S]*step 40: 0% noise\nresumed exactly: True\n",)),
    "ray_train": ("ray", (1,), (r"1000 sequences in Parquet[\s\S]*worker \d: 6144 sequences[\s\S]*: 6144 sequences",)),
    "torch_loop": ("torch", (1, 2), (rf"next index {TENS[1]}\n", rf"next index {TENS[1] + TENS[2]}\n")),
    "torchdata_loader": ("torchdata", (1,), ("resumed after 3 batches\n",)),
    "transformers_trainer": ("transformers", (1,), (r"'train_runtime'",)),
}


def test_all_examples_are_run() -> None:
    """Except pretrain.py, which test_programs.py runs."""
    assert sorted([*EXAMPLES, "pretrain"]) == sorted(file.stem for file in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(tmp_path: Path, name: str) -> None:
    """`pytest -m integrations -rP -k example_runs` prints what they print."""
    package, runs, promised = EXAMPLES[name]
    pytest.importorskip(package)
    file = FOLDER / f"{name}.py"
    assert len(file.read_text().splitlines()) <= 40
    for processes, pattern in zip(runs, promised, strict=True):
        out = run_file(file, tmp_path, processes=processes)
        print(f"--- {name} on {processes} processes\n{out}")
        assert re.search(pattern, out), out
