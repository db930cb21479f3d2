"""The leaderboard: its arithmetic, its record, its plan and a user's recipe."""

from __future__ import annotations

import copy
import gzip
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from server_program import binary
from study_helpers import forbid_training

from iterand_study import (
    cli,
    comparison,
    config,
    document,
    factors,
    intervals,
    leaderboard,
    pretrain,
    record,
    texts,
)

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def entry(variant: str, seed: int, stage: str, final: float) -> dict[str, Any]:
    """A finetuning entry whose loss falls in a straight line from 8 bits to its final bits."""
    return {
        "variant": variant,
        "seed": seed,
        "stage": stage,
        "text": stage,
        "start": "scratch" if variant == "scratch" else "pretrained",
        "settings": {"width": 8, "depth": 1},
        "final_bits": final,
        "curve": [[0.0, 8.0], [1000.0, final]],
    }


def made_record(finals: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """The record of arms (and of scratch) with these final bits, for each seed by stage."""
    names = [name for name in finals if name != "scratch"]
    return {
        "runs": [
            {"variant": name, "seed": seed, "training_flops": 6e6, "generation_flops": 0, "model": {}}
            for name in names
            for seed in range(len(finals[name]))
        ],
        "finetuning": [
            entry(name, seed, stage, bits)
            for name, seeds in finals.items()
            for seed, stages in enumerate(seeds)
            for stage, bits in stages.items()
        ],
        "baselines": {},
    }


def test_gains_are_paired_with_scratch_of_the_same_seed_and_averaged_over_texts() -> None:
    finals = {
        "scratch": [{"english": 4.0, "linux": 4.0}, {"english": 5.0, "linux": 3.0}],
        "a": [{"english": 3.0, "linux": 4.0}, {"english": 4.0, "linux": 1.0}],
        "b": [{"english": 3.5}, {"english": 4.5, "linux": 3.0}],  # not finished
    }
    found = leaderboard.rows(made_record(finals))
    both = ["english", "linux"]
    assert found["a"].all_gains(both) == {0: 0.5, 1: 1.5}
    assert found["b"].all_gains(both) == {1: 0.25}
    assert found["b"].all_gains(["english"]) == {0: 0.5, 1: 0.5}
    assert leaderboard.ranking(found, both) == ["a", "b"]
    assert leaderboard.reference(found, both) == "a"
    assert leaderboard.Difference.of(found["b"], found["a"], both).values == [1.25]


def test_others_are_compared_with_up_or_the_best_arm_of_the_most_seeds() -> None:
    finals = {
        "scratch": [{"text": 4.0}, {"text": 4.0}],
        "a": [{"text": 3.0}, {"text": 3.0}],
        "b": [{"text": 1.0}],  # one seed so far
        "c": [{"text": 3.5}, {"text": 3.5}],
    }
    found = leaderboard.rows(made_record(finals))
    assert leaderboard.ranking(found, ["text"]) == ["b", "a", "c"]
    assert leaderboard.reference(found, ["text"]) == "a"
    assert leaderboard.reference(leaderboard.rows(made_record(finals | {"up": finals["b"]})), ["text"]) == "up"
    assert leaderboard.reference({}, ["text"]) is None


def test_data_saved_is_that_of_the_loss_that_scratch_has_there() -> None:
    found = leaderboard.rows(made_record({"scratch": [{"text": 4.0}], "a": [{"text": 0.0}], "b": [{"text": 6.0}]}))
    # Scratch loses 4 bits in 1 000 bytes, a loses 8, b 2: a needs half of the data, b never gets to scratch's end.
    assert found["a"].saved[0]["text"] == pytest.approx([0.5, 0.5, 0.5])
    assert found["b"].saved[0]["text"] == pytest.approx([-1.0, -1.0, None], abs=1e-9)
    assert found["a"].early[0]["text"] == pytest.approx([0.4, 1.2, 4.0])
    assert found["a"].flops[0]["text"] == pytest.approx(6e6 / 500)
    assert found["b"].flops[0]["text"] is None


def test_bits_between_points() -> None:
    curve = [{"tokens": 0.0, "bits": 8.0}, {"tokens": 10.0, "bits": 4.0}]
    assert comparison.bits_at(curve, 5) == 6
    assert comparison.bits_at(curve, 20) == 4


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([], "no seed in common"),
        ([0.5], "one seed"),
        ([0.1, 0.11, 0.12], "worse"),
        ([-0.1, -0.11, -0.12], "better"),
        ([0.01, -0.01, 0.0], "not worse"),
        ([0.2, -0.2, 0.0], "not distinguished"),
        ([0.05, 0.03, 0.04, -0.02, 0.06], "not distinguished"),  # the mean is above 0.03
    ],
)
def test_verdicts(values: list[float], verdict: str) -> None:
    assert leaderboard.Difference(values).verdict == verdict


def test_seeds_needed_is_the_smallest_number_whose_interval_leaves_out_zero() -> None:
    values = [0.02, 0.05, -0.01, 0.04, 0.03]
    count = leaderboard.seeds_needed(values)
    assert count is not None
    mean, deviation = 0.026, 0.02302  # of these values
    for seeds, apart in ((count, True), (count - 1, False)):
        width = intervals.student(seeds - 1) * deviation / math.sqrt(seeds)
        assert (mean > width) is apart
    assert leaderboard.seeds_needed([0.1]) is None
    assert leaderboard.seeds_needed([1.0, -1.0]) is None
    assert leaderboard.seeds_needed([0.1, 0.1]) == 2


def test_a_start_that_draws_weights_again_is_an_arm_of_its_own() -> None:
    made = made_record({"scratch": [{"text": 4.0}], "a": [{"text": 3.0}]})
    made["finetuning"].append({**made["finetuning"][-1], "start": "fresh", "final_bits": 3.5})
    found = leaderboard.rows(made)
    assert {name: row.gains for name, row in found.items()} == {"a": {0: {"text": 1.0}}, "a, fresh": {0: {"text": 0.5}}}
    assert found["a, fresh"].variant == "a"


def test_no_arm_no_leaderboard() -> None:
    stages = leaderboard.Stages(["english"], [])
    with pytest.raises(ValueError, match="no seed of any arm is finished on english"):
        leaderboard.parts({"runs": [], "finetuning": [], "baselines": {}}, stages)


def test_texts_that_few_runs_have_do_not_hide_the_others() -> None:
    finals = {
        "scratch": [{"one": 4.0, "two": 4.0}, {"one": 4.0, "two": 4.0}],
        "up": [{"one": 3.0}, {"one": 3.0}],
        "a": [{"one": 3.5, "two": 1.0}, {"one": 3.5}],
    }
    page = document.markdown(leaderboard.parts(made_record(finals), leaderboard.Stages(["one", "two", "three"], [])))
    assert "Most runs are not finished on two and three, so the means leave these texts out." in page
    assert "| up | 2 | 1.000 ± 0.000 |" in page
    assert "| a | 1 | " in page.split("### two")[1]  # its own table stays


def test_arms_that_lack_a_text_are_named() -> None:
    finals = {
        "scratch": [{"one": 4.0, "two": 4.0}],
        "up": [{"one": 3.0, "two": 3.0}],
        "a": [{"one": 3.5, "two": 1.0}],
        "b": [{"one": 3.5}],
    }
    both, words = leaderboard.Stages(["one", "two"], []), "no seed is finished on all of these texts yet"
    assert f"\nb: {words}.\n" in document.markdown(leaderboard.parts(made_record(finals), both))
    del finals["b"]
    assert words not in document.markdown(leaderboard.parts(made_record(finals), both))


def test_what_was_trained_again_is_listed_by_arm_and_seeds() -> None:
    made = made_record({"scratch": [{"one": 4.0, "two": 4.0}] * 2, "a": [{"one": 3.0, "two": 3.0}] * 2})
    for each in made["finetuning"]:
        if each["variant"] == "a":
            each["trained_again"] = "a processor"
    page = document.markdown(leaderboard.parts(made, leaderboard.Stages(["one", "two"], [])))
    assert "| a | one; two | 0, 1 |" in page


def test_what_the_gain_depends_on() -> None:
    """Gains of both streams: with the small model 0.5 and 0.4, with the large one 0.3 and 0.1, for seed 0."""
    finals = {
        "scratch": [{"english": 4.0, "linux": 3.0, "prose": 5.0}, {"english": 4.1, "linux": 3.3}],
        # A text that one arm alone has does not count.
        "up, small": [{"english": 3.4, "linux": 2.6, "prose": 1.0}, {"english": 3.4, "linux": 2.8}],
        "markov, small": [{"english": 3.6, "linux": 2.6}, {"english": 3.6, "linux": 2.8}],
        "up, large": [{"english": 3.7, "linux": 2.7}, {"english": 3.9, "linux": 3.1}],
        "markov, large": [{"english": 3.9, "linux": 2.9}, {"english": 4.1, "linux": 3.3}],
        "eca, small": [{"english": 3.9, "linux": 2.9}],
    }
    made = made_record(finals)
    for each in made["runs"]:
        recipe, _, size = each["variant"].partition(", ")
        each |= {"recipe": recipe, "parameters": {"small": 500_000, "large": 2_500_000}[size], "tokens": 1_499_136}
    for each in made["finetuning"]:
        each["settings"]["tokens"] = 1_000_000
    page = document.markdown(factors.parts(made))
    assert "gain of up | gain of markov | up over markov |" in page  # not `eca`, which is in one cell
    assert "| 0.5 M | 1.5 M | 1 M | +0.550 ± 0.635 (2) | +0.450 ± 0.635 (2) | +0.100 ± 0.000 (2) |" in page
    assert "| 2.5 M | 1.5 M | 1 M | +0.250 ± 0.635 (2) | +0.050 ± 0.635 (2) | +0.200 ± 0.000 (2) |" in page
    assert "| parameters: 0.5 M to 2.5 M | 1.5 M synthetic tokens, 1 M real tokens | -0.300 ± 1.271 (2) |" in page
    assert page.rstrip().endswith("| -0.400 ± 1.271 (2) | +0.100 ± 0.000 (2) |")

    # Arms of other architectures are not compared, and a stream of two arms in one cell is left out.
    large = [each for each in made["runs"] if each["variant"] == "up, large"]
    for each in large:
        each["model"] = {"tied": True}
    assert "gain of up " not in document.markdown(factors.parts(made))
    for each in large:
        each["model"] = {}
    for each in made["runs"]:
        each["recipe"] = "markov" if each["variant"] == "eca, small" else each["recipe"]
    assert "gain of markov" not in document.markdown(factors.parts(made))

    # Cells that differ in two factors are not compared.
    for each in made["runs"]:
        each["tokens"] *= 2 if "large" in each["variant"] else 1
    assert factors.parts(made) == []


def test_a_report_of_older_records_compares_their_arms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = [str(CONFIGS.parent / "records" / name) for name in ("presets-128.json", "recipes-128.json")]
    stages = ["--leaderboard", "english", "--leaderboard", "linux"]
    assert cli.main(["report", *sources, "--out", str(tmp_path), *stages]) == 0
    page = (tmp_path / "report.md").read_text()
    assert "| up-paper | 5 | 0.212 ± 0.073 | - | +0.037 ± 0.078 (5) | not distinguished | 14 | - |" in page
    assert "| networks and statistics | statistics, repetition, networks; noise |" in page  # not distinguished
    assert cli.main(["report", *sources, "--out", str(tmp_path), "--leaderboard", "french"]) == 1
    assert "--leaderboard french: the stages are english, english, fresh embedding, linux" in capsys.readouterr().err


STUDY = {
    "name": "small leaderboard",
    "device": "cpu",
    "threads": 1,
    "model": {"width": 32, "depth": 1, "head_width": 16, "length": 32, "base_width": 32},
    "pretrain": {"tokens": 6 * 8 * 32, "batch_size": 8, "evaluations": 1},
    "evaluation": {
        "texts": {"one": "../texts/one", "two": "../texts/two"},
        "sets": [],
        "tasks": ["copy"],
        "windows": 8,
    },
    "finetune": [
        {
            "text": text,
            "tokens": 6 * 8 * 32,
            "batch_size": 8,
            "learning_rates": [0.01],
            "starts": ["scratch", "pretrained"],
            "evaluations": 3,
            "validation_windows": 8,
            "held_out": text == "two",
        }
        for text in ("one", "two")
    ],
    "variants": {name: {"pretrain": {"recipe": name}} for name in ("up-statistics", "uniform", "up")},
    "first": ["up"],
    "seeds": [0, 1],
}


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """A leaderboard of three arms in a folder like that of the repository."""
    for folder in ("configs", "texts"):
        (tmp_path / folder).mkdir()
    for number, name in enumerate(("one", "two")):
        (tmp_path / "texts" / name).write_bytes(bytes((at * at + number) % 97 for at in range(4000)))
    file = tmp_path / "configs" / "small.json"
    file.write_text(json.dumps(STUDY))
    return file


def run(configuration: Path, *options: str) -> int:
    return cli.main(["leaderboard", str(configuration), "--binary", binary(), *options])


def test_a_leaderboard_runs_grows_and_takes_a_recipe(
    configuration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "records" / "small.json", tmp_path / "results" / "small"
    file.parent.mkdir()
    assert run(configuration, "--plan") == 0
    assert "| up | choosing |" in capfd.readouterr().out.split("| --- |")[-1].split("\n")[1]
    assert run(configuration, "--no-run") == 1
    assert "there is no leaderboard yet: no seed of any arm is finished on one\n" in capfd.readouterr().err
    assert not out.exists() and not file.exists()
    assert run(configuration, "--seeds", "1") == 0
    first = record.read(file)
    assert [run["variant"] for run in first["runs"]] == ["up-statistics", "uniform", "up"]
    assert all(run["generation_seconds"] > 0 for run in first["runs"])
    assert {entry["stage"] for entry in first["finetuning"]} == {"one", "two"}
    page = (out / "report.md").read_text()
    assert "## Leaderboard" in page and "worse than up by" in page

    # An interruption between two arms: what is finished is in the record.
    pretrain_run = pretrain.run

    def interrupted(study: config.Study, *rest: Any) -> dict[str, Any]:
        if study.name == "up-statistics/seed-1":
            raise KeyboardInterrupt
        return pretrain_run(study, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "run", interrupted)
        assert run(configuration) == 130
    assert [(run["variant"], run["seed"]) for run in record.read(file)["runs"]][2:] == [("up", 0), ("up", 1)]
    record.write(file, first)

    # Another session, which has only the record: seed 0 is not run again.
    out.rename(tmp_path / "elsewhere")
    capfd.readouterr()
    assert run(configuration, "--jobs", "2") == 0
    assert "seed-0" not in capfd.readouterr().out
    second = record.read(file)
    assert len(second["runs"]) == 6
    assert second["runs"][0] == first["runs"][0]
    assert all("comparison" in entry for entry in second["finetuning"] if entry["start"] != "scratch")
    assert "0 | 0 |" not in (out / "report.md").read_text()

    forbid_training(monkeypatch)
    assert run(configuration) == 0
    assert run(configuration, "--no-run", "--tables", str(tmp_path / "tables.md")) == 0
    assert record.read(file) == second
    tables = (tmp_path / "tables.md").read_text()
    assert "leaderboard small.json --no-run --tables FILE" in tables
    lines = [line for line in tables.splitlines() if line.startswith("|")]
    assert len(lines) > 20 and set(lines) <= set((out / "report.md").read_text().splitlines())
    monkeypatch.undo()

    recipe = tmp_path / "mine.json"
    recipe.write_text(json.dumps({"families": [{"markov": {}}], "chain": {"max_depth": {"fixed": 1}}}))
    capfd.readouterr()
    assert run(configuration, "--add", str(recipe)) == 0
    shown = capfd.readouterr().out
    assert "worse than mine by" in shown
    assert "| mine | 2 |" in shown
    assert "| up | 2 |" in shown
    assert "from scratch" not in shown  # those of the record are taken
    assert record.read(file) == second  # the published record stays as it is


def test_a_run_of_another_processor_is_finished_here(
    configuration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "records" / "small.json", tmp_path / "results" / "small"
    file.parent.mkdir()
    assert run(configuration, "--seeds", "1") == 0
    here = record.read(file)

    def elsewhere(changes: dict[str, Any]) -> dict[str, Any]:
        """The record of a processor on which the weights of `up` differ a little, without its stage two."""
        found: dict[str, Any] = copy.deepcopy(here)
        found["finetuning"] = [
            each for each in found["finetuning"] if (each["variant"], each["stage"]) != ("up", "two")
        ]
        for each in found["runs"] + found["finetuning"]:
            if each["variant"] == "up":
                each["curve"][-1][1] += 0.001
        next(each for each in found["runs"] if each["variant"] == "up").update(changes)
        record.write(file, found)
        return found

    def entries(found: dict[str, Any], variant: str) -> list[dict[str, Any]]:
        return [each for part in ("runs", "finetuning") for each in found[part] if each["variant"] == variant]

    # What is finished stays; the stage that is missing joins it.
    before = elsewhere({})
    shutil.rmtree(out)
    capsys.readouterr()
    assert run(configuration, "--seeds", "1") == 0
    shown = capsys.readouterr().out
    assert "up/seed-0: two from pretrained" in shown and "up/seed-0: one from pretrained" not in shown
    after = record.read(file)
    new = [each for each in entries(after, "up") if each not in entries(before, "up")]
    assert [(each["stage"], each["trained_again"]) for each in new] == [("two", here["runs"][0]["hardware"])]
    assert (
        new[0]["final_bits"] == next(each for each in entries(here, "up") if each.get("stage") == "two")["final_bits"]
    )
    assert [each for each in entries(after, "up") if each not in new] == entries(before, "up")
    assert entries(after, "scratch") == entries(here, "scratch")
    assert "| up | two | 0 |" in (out / "report.md").read_text()
    assert run(configuration, "--seeds", "1") == 0
    assert record.read(file) == after

    # A run that is measured on less is replaced, with its stages.
    elsewhere({"evaluations": []})
    assert run(configuration, "--seeds", "1") == 0
    replaced = record.read(file)
    assert [each["curve"] for each in entries(replaced, "up")] == [each["curve"] for each in entries(here, "up")]
    assert not any("trained_again" in each for each in entries(replaced, "up"))

    # Runs of other settings are not mixed.
    elsewhere({"batch_size": 4})
    assert run(configuration, "--seeds", "1", "--no-run") == 1
    assert "both have a run 'up, seed 0', which differs" in capsys.readouterr().err


def test_what_a_recipe_cannot_be_added_to(
    configuration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "up.json"
    recipe.write_text("{}")
    assert run(configuration, "--add", str(recipe)) == 1
    assert "'up' is the name of an arm already" in capsys.readouterr().err
    mine = recipe.rename(tmp_path / "mine.json")
    published = made_record({"scratch": [{"one": 4.0}], "up": [{"one": 3.0}]})
    for each in published["finetuning"]:
        each["settings"]["text"] = "0" * 64
    file = tmp_path / "published.json"
    record.write(file, published)
    assert run(configuration, "--add", str(mine), "--record", str(file)) == 1
    assert "the published arms were finetuned on 0000" in capsys.readouterr().err
    assert run(configuration, "--add", str(mine), "--plan") == 1
    assert "--add runs its recipe" in capsys.readouterr().err
    assert run(configuration, "--add", str(mine), "--tables", str(tmp_path / "tables.md")) == 1
    assert "it does not go with --tables" in capsys.readouterr().err


def test_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jargon = tmp_path / "jargon.txt.gz"
    jargon.write_bytes(gzip.compress("Jargon\n\n  File │ a  b\n".encode()))
    assert texts.prose(jargon) == b"Jargon File a b"
    with pytest.raises(ValueError, match="install the Debian package jargon-text"):
        texts.prose(tmp_path / "none.gz")
    with pytest.raises(ValueError, match=r"is not the jargon\.txt\.gz"):
        texts.prose(Path(__file__))
    out = tmp_path / "texts"
    assert cli.main(["texts", "--out", str(out), "--jargon", str(jargon)]) == 0
    shown = capsys.readouterr().out
    assert "prose.txt" in shown and "python.py" in shown
    library = (out / "python.py").read_bytes()
    assert 1_000_000 < len(library) <= texts.LARGEST
    assert library == texts.python()
    assert b"class TestCase" in library or b"import" in library
