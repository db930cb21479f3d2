"""Small studies for tests, and ways to disturb them. Needs torch."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from server_program import binary

from iterand_study import config, evalsets, zeroshot
from iterand_study.training import Trainer


def small(**changes: Any) -> config.Model:
    return dataclasses.replace(config.Model(width=32, depth=1, head_width=16, length=32, base_width=32), **changes)


def study(address: str, **changes: object) -> config.Study:
    whole = config.Study(
        server=address,
        device="cpu",
        threads=1,
        model=small(),
        pretrain=config.Pretrain(tokens=20 * 16 * 32, batch_size=16, log_every=5, evaluations=2, checkpoints=4),
        evaluation=config.Evaluation(sets=["dyck", "rep-3"], windows=20, tasks=["copy"]),
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def trains(*_: object) -> None:
        raise AssertionError("trains what is finished")

    monkeypatch.setattr(Trainer, "step", trains)


def interrupt(monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> None:
    """`run`, stopped before its 13th step."""
    step = Trainer.step

    def breaks(trainer: Trainer, *batch: torch.Tensor | None) -> float:
        if trainer.done == 12:
            raise KeyboardInterrupt
        return step(trainer, *batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", breaks)
        run()


def dump(folder: Path, seed: int = 0, recipe: str = "up") -> None:
    """A dump of the 320 sequences that `study` reads, in place of the present content."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [binary(), "dump", "--recipe", recipe, "--seed", str(seed), "--count", "320", "--length", "32"]
    subprocess.run([*command, "--format", "bin", "--out", str(folder)], check=True, capture_output=True)


def with_text(address: str, file: Path, **changes: Any) -> config.Study:
    """A study of one small text, finetuned on."""
    evaluation = dataclasses.replace(study(address).evaluation, texts={"own": str(file)})
    stage = config.Finetune(
        text="own", tokens=8 * 16 * 32, batch_size=16, learning_rates=[0.01], evaluations=2, validation_windows=10
    )
    return study(address, evaluation=evaluation, finetune=[stage], **changes)


def forget_texts() -> None:
    """As in another process."""
    evalsets.read_text.cache_clear()
    evalsets.text_sha256.cache_clear()
    zeroshot._windows.cache_clear()
    zeroshot.baselines.cache_clear()
