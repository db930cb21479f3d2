"""How much structure a model finds in a stream, and servers that a study starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from server_program import binary
from study_helpers import study

from iterand_study import cli, config, data, structure


def test_structure_tells_structure_from_noise(address: str) -> None:
    size = structure.Size(tokens=30 * 16 * 32, width=32, depth=1, length=32, batch_size=16, learning_rate=0.01)
    found = {
        recipe: structure.run(address, recipe, size=size)["structure_bits_per_token"] for recipe in ("lstm", "uniform")
    }
    assert found["lstm"] > 0.1
    assert abs(found["uniform"]) < 0.05


def test_structure_of_several_recipes_in_one_file(address: str, tmp_path: Path) -> None:
    file = tmp_path / "structure.json"
    recipes = ["--recipe", "up", "--recipe", "uniform"]
    assert cli.main(["structure", *recipes, "--tokens", "17e3", "--server", address, "--out", str(file)]) == 0
    found = json.loads(file.read_text())
    assert [(each["recipe"], each["tokens"]) for each in found] == [("up", 16384), ("uniform", 16384)]
    assert len({each["stream"]["fingerprint"] for each in found}) == 2


def test_a_study_that_is_stopped_takes_its_server_along() -> None:
    command = [sys.executable, "-m", "iterand_study.cli", "structure", "--recipe", "up", "--binary", binary()]
    with subprocess.Popen([*command, "--tokens", "1000000000"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "serving on" in process.stderr.readline()
        servers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.terminate()
        assert "interrupted" in process.stderr.read()
        assert process.wait() == 130
    assert not Path(f"/proc/{servers[0]}").exists()


def test_study_starts_a_server_of_its_own(tmp_path: Path) -> None:
    lstm = config.Pretrain(recipe="lstm", batch_size=16)
    with (
        data.server(config.Study(binary=binary())) as address,
        data.stream(study(address, pretrain=lstm), address, 0, 2) as stream,
    ):
        assert len(list(stream)) == 2
        assert stream.info["flops_per_token"] > 0
