"""Configurations of studies, and what the command says of wrong ones."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from iterand_study import cli, config, config_file, data, record, report, sweep, variants

STUDY = Path(__file__).resolve().parents[1]


def stage(**changes: Any) -> dict[str, Any]:
    """A configuration with one finetuning stage."""
    return {"evaluation": {"texts": {"a": "a"}}, "finetune": [{"text": "a", **changes}]}


def test_configuration_errors_name_the_key(tmp_path: Path) -> None:
    file = tmp_path / "study.json"
    for wrong, text in (
        ({"modell": {}}, "modell"),
        ({"structure": {}}, "structure is unknown"),
        ({"model": {"width": "wide"}}, r"model\.width"),
        ({"pretrain": {"tokens": 1.5}}, r"pretrain\.tokens"),
        ({"precision": "float8"}, "precision"),
        ({"evaluation": {"sets": ["dyke"]}}, r"evaluation\.sets.*dyke"),
        ({"evaluation": {"sets": ["rep-0"]}}, r"evaluation\.sets.*rep-0"),
        ({"evaluation": {"tasks": ["copi"]}}, r"evaluation\.tasks.*copi"),
        ({"evaluation": {"track": ["english"]}}, r"evaluation\.track.*english"),
        ({"finetune": [{"text": "latin"}]}, r"finetune\[0\]\.text.*latin"),
        ({"finetune": [{"text": "a", "starts": ["scrath"]}], "evaluation": {"texts": {"a": "a"}}}, "starts.*scrath"),
        ({"finetune": [{"text": "a", "learning_rates": []}], "evaluation": {"texts": {"a": "a"}}}, "learning_rates"),
        ({"variants": {"a": {"pretrain": {"token": 1}}}}, r"variants\.a: pretrain\.token"),
        ({"variants": {"a": {"evaluation": {"tasks": ["copi"]}}}}, r"variants\.a: evaluation\.tasks.*copi"),
        ({"variants": {"a": 5}}, r"variants\.a: 5"),
        ({"device": "gpu"}, "device is 'gpu'; known are auto, cpu, cuda"),
        ({"name": ""}, "name has ''"),
        ({"seeds": []}, "seeds is empty"),
        ({"seeds": [1, 1]}, "seeds has 1 twice"),
        ({"variants": {"a": {}}, "first": ["b"]}, "first has 'b', which is not a variant; there are a"),
        ({"variants": {"a": {}}, "first": ["a", "a"]}, "first has 'a' twice"),
        ({"variants": {"a": {"first": ["a"]}}}, r"variants\.a: first is of the whole study"),
        ({"pretrain": {"tokens": -5}}, r"pretrain\.tokens is -5; it must be 8192 or more"),
        ({"pretrain": {"batch_size": 0}}, r"pretrain\.batch_size is 0; it must be at least 1"),
        ({"pretrain": {"log_every": 0}}, r"pretrain\.log_every is 0"),
        ({"pretrain": {"recipe": 5}}, r"pretrain\.recipe is 5"),
        (
            {"pretrain": {"optimizer": {"warmup_share": 2}}},
            r"optimizer\.warmup_share is 2\.0; it must be at most 1",
        ),
        (
            {"pretrain": {"optimizer": {"learning_rate": 0}}},
            r"learning_rate is 0\.0; it must be more than 0",
        ),
        ({"model": {"base_width": 0}}, r"model\.base_width is 0; it must be at least 1"),
        ({"model": {"depth": 0}}, r"model\.depth is 0"),
        ({"model": {"dropout": 1}}, r"model\.dropout is 1\.0; it must be less than 1"),
        ({"model": {"width": 100}}, r"model\.width 100 must be a multiple"),
        ({"model": {"vocab_size": 128}}, r"model\.vocab_size is 128; it must be 256 or more to evaluate 'rep-1'"),
        ({"evaluation": {"windows": 0}}, r"evaluation\.windows is 0"),
        ({"evaluation": {"texts": {"copy": "a"}}}, "evaluation.*has 'copy' twice"),
        ({"evaluation": {"sets": ["dyck"], "track": ["dyck", "rep-3"]}}, "track has 'rep-3', which is not evaluated"),
        ({"variants": {"a": {"evaluation": {"tasks": [], "track": ["copy"]}}}}, r"variants\.a: .*track has 'copy'"),
        ({"pretrain": {"start": "first"}}, r"pretrain\.start is 'first'; .*an earlier variant \(there are: none\)"),
        (
            {"variants": {"a": {"pretrain": {"start": "b"}}, "b": {}}},
            r"variants\.a: pretrain\.start is 'b'; .*\(there are: none\)",
        ),
        (
            {"variants": {"a": {}, "b": {"model": {"depth": 2}, "pretrain": {"start": "a"}}}},
            r"variants\.b: pretrain\.start is a, a model of another shape: model\.depth is 2, there 4",
        ),
        ({"variants": {"../../esc": {}}}, "variants has '../../esc'"),
        ({"variants": {"scratch": {}}}, "variants has 'scratch'"),
        ({"variants": {"a": {"seeds": [1]}}}, r"variants\.a: seeds is of the whole study"),
        (stage(name="a/b"), r"finetune\[0\]\.name has 'a/b'"),
        (stage(split=[0.8]), r"finetune\[0\]\.split is \[0\.8\]"),
        (stage(split=[0.8, 0.3]), r"finetune\[0\]\.split"),
        (stage(shrink=2), r"finetune\[0\]\.shrink is 2\.0; it must be at most 1"),
        (stage(evaluations=0), r"finetune\[0\]\.evaluations is 0"),
        (stage(validation_windows=0), r"finetune\[0\]\.validation_windows is 0"),
        (stage(learning_rates=[0.1, -0.1]), r"finetune\[0\]\.learning_rates has -0\.1"),
        (stage(starts=["scratch", "scratch"]), r"finetune\[0\]\.starts has 'scratch' twice"),
        ([], "table"),
    ):
        file.write_text(json.dumps(wrong))
        with pytest.raises(config.ConfigError, match=text):
            config_file.load(file)


def test_paths_are_relative_to_the_configuration(tmp_path: Path) -> None:
    """Those of variants too; a preset's name and a recipe written as JSON text are no paths."""
    file = tmp_path / "study.json"
    table: dict[str, Any] = {
        "pretrain": {"recipe": "recipes/own.json"},
        "evaluation": {"texts": {"english": "english.txt"}},
        "variants": {
            "same": {},
            "other": {"pretrain": {"recipe": "other.json"}, "evaluation": {"texts": {"german": "german.txt"}}},
            "dumped": {"pretrain": {"dump": "dumps/up", "start": "first/model.pt"}},
            "later": {"pretrain": {"start": "dumped"}},
            "preset": {"pretrain": {"recipe": "uniform"}},
            "bare": {"pretrain": {"recipe": "folder/mine"}},
            "text": {"pretrain": {"recipe": ' {"families": [{"uniform": {}}], "note": "a/b.json"}'}},
        },
    }
    file.write_text(json.dumps(table))
    arms = variants.expand(config_file.load(file))
    assert {name: arm.pretrain.recipe for name, arm in arms.items()} == {
        "same": str(tmp_path / "recipes/own.json"),
        "other": str(tmp_path / "other.json"),
        "dumped": str(tmp_path / "recipes/own.json"),
        "later": str(tmp_path / "recipes/own.json"),
        "preset": "uniform",
        "bare": str(tmp_path / "folder/mine"),
        "text": ' {"families": [{"uniform": {}}], "note": "a/b.json"}',
    }
    assert arms["same"].evaluation.texts == {"english": str(tmp_path / "english.txt")}
    assert arms["other"].evaluation.texts == {"german": str(tmp_path / "german.txt")}
    assert arms["dumped"].pretrain.dump == str(tmp_path / "dumps/up")
    assert arms["dumped"].pretrain.start == str(tmp_path / "first/model.pt")
    assert arms["later"].pretrain.start == "dumped"


def test_missing_files_are_told_before_anything_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Those of the second variant too, before a server is asked or the first trains."""
    file = tmp_path / "study.json"
    for key, changes in (
        ("evaluation.texts.english", {"evaluation": {"texts": {"english": "none.txt"}}}),
        ("pretrain.recipe", {"pretrain": {"recipe": "none.json"}}),
        ("pretrain.recipe", {"pretrain": {"recipe": "none/mine"}}),
        ("pretrain.dump", {"pretrain": {"dump": "none"}}),
        ("pretrain.start", {"pretrain": {"start": "none.pt"}}),
    ):
        file.write_text(json.dumps({"binary": "no-such-binary", "variants": {"first": {}, "second": changes}}))
        assert cli.main(["sweep", str(file), "--out", str(tmp_path / "out")]) == 1
        text = capsys.readouterr().err
        assert f"{key} is {tmp_path / 'none'}" in text


def test_texts_that_are_too_short_are_told_before_anything_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(bytes(1000))
    file = tmp_path / "study.json"
    model = {"width": 32, "head_width": 16, "length": 128}
    for changes, text in (
        ({"model": {**model, "length": 1024}}, "evaluation.texts.a has 1000 bytes; 1024 or more"),
        ({"model": model}, "finetune[0].split gives 100 bytes of 'a' for validation; 128 or more"),
        (
            {"model": {**model, "length": 64}, "finetune": [{"text": "a", "split": [0.1, 0.8]}]},
            "finetune[0].split gives 100 bytes of 'a' for training; 127 or more",
        ),
    ):
        file.write_text(json.dumps({**stage(), **changes, "binary": "no-such-binary"}))
        assert cli.main(["sweep", str(file), "--out", str(tmp_path / "out")]) == 1
        assert text in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    file = tmp_path / "study.json"
    file.write_text(json.dumps({"device": "cuda", "binary": "no-such-binary", "evaluation": {"sets": []}}))
    assert cli.main(["sweep", str(file), "--out", str(tmp_path / "out")]) == 1
    assert "device is 'cuda', and PyTorch finds no GPU" in capsys.readouterr().err


def test_a_sweep_of_dumps_alone_starts_no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And one with a variant that is served does, whatever the base says."""
    (tmp_path / "dump").mkdir()
    file = tmp_path / "study.json"
    asked: list[str | None] = []
    monkeypatch.setattr(data, "server", lambda study: contextlib.nullcontext("served"))
    monkeypatch.setattr(sweep, "run", lambda study, address, out, jobs: asked.append(address))
    monkeypatch.setattr(record, "from_folder", lambda out: None)
    monkeypatch.setattr(report, "write", lambda found, out, title: None)
    base, dumped, served = {}, {"pretrain": {"dump": "dump"}}, {"pretrain": {"dump": None}}
    for whole in ({**base, "variants": {"a": dumped}}, {**dumped, "variants": {"a": {}, "b": served}}):
        file.write_text(json.dumps(whole))
        assert cli.main(["sweep", str(file), "--out", str(tmp_path / "out")]) == 0
    assert asked == [None, "served"]


@pytest.mark.parametrize(
    "file",
    sorted(file for folder in ("examples", "configs", "archive") for file in STUDY.glob(f"{folder}/*.json")),
    ids=lambda file: file.stem,
)
def test_example_configurations_load(file: Path) -> None:
    config_file.load(file)


def test_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["report", str(tmp_path)]) == 1
    assert "pretrain.json" in capsys.readouterr().err
    assert cli.main(["structure", "--recipe", "up", "--binary", "no-such-binary"]) == 1
    assert "no-such-binary" in capsys.readouterr().err
    assert cli.main(["structure", "--recipe", "up", "--binary", shutil.which("false") or ""]) == 1
    assert "serve ended at once, with exit status 1" in capsys.readouterr().err
    assert cli.main(["markov", "--text", "english.txt"]) == 1
    assert "--text is 'english.txt'; it must be NAME=FILE" in capsys.readouterr().err
    assert cli.main(["markov", "--text", "english=nowhere.txt"]) == 1
    text = capsys.readouterr()
    assert text.out == ""
    assert "english=nowhere.txt: there is no such file" in text.err
    assert cli.main(["report", str(tmp_path / "nowhere")]) == 1
    assert "nowhere does not exist; it must be the folder of a sweep or a results.json" in capsys.readouterr().err
    file = tmp_path / "study.json"
    file.write_text(json.dumps({"evaluation": {"sets": ["dyck"]}}))
    for content in (b"{}", b""):
        other = tmp_path / "model.pt"
        other.write_bytes(content)
        assert cli.main(["zero-shot", str(file), "--model", str(other)]) == 1
        assert "model.pt is not a model of a study" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["structure", "--recipe", "up", "--tokens", "-5"])
    assert "-5 must be a whole number above 0" in capsys.readouterr().err


def test_markov_tells_how_far_the_published_figures_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["markov", "--windows", "50", "--text", f"this={__file__}"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["this"].split()[1] == lines["this"].split()[3] == "-"
    for name, published in (("toy", "1.97"), ("aut", "1.16"), ("dyck", "1.01")):
        _, text, best, apart, *_ = lines[name].split()
        assert text == published
        assert float(apart) == pytest.approx(float(best) - float(published), abs=1.5e-3)


def test_an_absent_package_is_named() -> None:
    program = "import sys\nsys.modules['torch'] = None\nfrom iterand_study import cli\n"
    program += "sys.exit(cli.main(['structure', '--recipe', 'up']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "iterand-study: the package torch cannot be imported (" in done.stderr
    assert "pip install iterand-study" in done.stderr
