"""Pretraining by two processes is that of one."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from study_helpers import dump, interrupt, study

from iterand_study import cli, config, data, parallel, pretrain


@pytest.mark.parametrize(("recipe", "loss_mask"), [("up", False), ("tasks", True)])
def test_two_processes_train_as_one(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, loss_mask: bool
) -> None:
    """They continue from the checkpoint of one. With masks they have different numbers of tokens that count."""
    each, file = study(address), tmp_path / "study.json"
    each = dataclasses.replace(each, pretrain=dataclasses.replace(each.pretrain, recipe=recipe, loss_mask=loss_mask))
    one = pretrain.run(each, address, tmp_path / "one")
    interrupt(monkeypatch, lambda: pretrain.run(each, address, tmp_path / "two"))
    file.write_text(json.dumps(config.to_dict(each)))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "-m", "iterand_study.cli", "pretrain", str(file), "--out", str(tmp_path / "two")]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("step 20 of 20") == 1  # one of them reports
    assert "step 10 " not in ran.stdout
    two = json.loads((tmp_path / "two" / "pretrain.json").read_text())
    assert two["processes"] == 2
    for first, second in zip(one["curve"], two["curve"], strict=True):
        assert second == {"tokens": first["tokens"], "bits": pytest.approx(first["bits"], abs=1e-3)}
    bits = [found["evaluations"][-1]["sets"]["dyck"]["bits_half"] for found in (one, two)]
    assert bits[1] == pytest.approx(bits[0], abs=1e-2)
    assert not (tmp_path / "two" / "checkpoint.pt").exists()


@pytest.mark.parametrize("source", ["server", "dump"])
def test_processes_share_each_batch(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Each has every fourth row, from whatever step on."""
    each = study(address)
    if source == "dump":
        dump(tmp_path / "dump")
        each = dataclasses.replace(each, pretrain=dataclasses.replace(each.pretrain, dump=str(tmp_path / "dump")))

    def batches() -> list[torch.Tensor]:
        with data.stream(each, address, 3, 6) as stream:
            return [tokens for tokens, _ in stream]

    whole = batches()
    assert len(whole) == 3
    monkeypatch.setattr(parallel, "world_size", lambda: 4)
    for rank in range(4):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        for batch, part in zip(whole, batches(), strict=True):
            assert torch.equal(part, batch[rank::4])
    monkeypatch.setattr(parallel, "world_size", lambda: 3)
    with pytest.raises(config.ConfigError, match=r"batch_size is 16; it must be a multiple of 3 processes"):
        batches()


def test_other_commands_run_in_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["sweep", str(tmp_path / "study.json"), "--out", str(tmp_path / "out")]) == 1
    assert "sweep runs in one process; torchrun is for `iterand-study pretrain`" in capsys.readouterr().err
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    (tmp_path / "study.json").write_text("{}")
    assert cli.main(["pretrain", str(tmp_path / "study.json"), "--out", str(tmp_path / "out")]) == 1
    assert "name it by --server" in capsys.readouterr().err
