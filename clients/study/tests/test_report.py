"""Records, reports and plots of studies."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_helpers import dump, small, study, with_text

from iterand_study import cli, comparison, config, intervals, labels, plots, pretrain, record, report, sweep

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
RECORDS = Path(__file__).resolve().parents[1] / "records"


def test_tokens_to_reach() -> None:
    curve = [{"tokens": float(at), "bits": bits} for at, bits in ((0, 8.0), (10, 4.0), (20, 4.5), (30, 3.0))]
    assert comparison.tokens_to_reach(curve, 8.0) == 0
    assert comparison.tokens_to_reach(curve, 6.0) == 5
    assert comparison.tokens_to_reach(curve, 3.5) == 25
    assert comparison.tokens_to_reach(curve, 2.0) is None


def test_tokens_at_which_a_tracked_curve_comes_up_to_a_level() -> None:
    points = [{"tokens": 10.0 * at, "english": s} for at, s in ((1, -0.1), (2, 0.3), (3, 0.2), (4, 0.6))]
    assert report.tokens_to_level(points, "english", 0.1) == pytest.approx(15)
    assert report.tokens_to_level(points, "english", 0.3) == 20
    assert report.tokens_to_level(points, "english", 0.5) == pytest.approx(37.5)
    assert report.tokens_to_level(points, "english", 0.7) is None
    assert report.tokens_to_level([{"tokens": 10.0, "english": 0.5}], "english", 0.25) == 5


def test_comparison() -> None:
    scratch = [{"tokens": 100.0 * at, "bits": 8 - at} for at in range(5)]
    better = [{"tokens": 50.0 * at, "bits": 8 - at} for at in range(5)]
    found = comparison.compare(scratch, better, 1e9)
    assert found["levels"][-1]["saved_share"] == pytest.approx(0.5)
    assert found["levels"][-1]["exchange_flops_per_token"] == pytest.approx(1e9 / 200)
    worse = [{"tokens": 100.0 * at, "bits": 8 - at / 2} for at in range(5)]
    never = comparison.compare(scratch, worse, 1e9)
    assert never["levels"][-1]["tokens"] is None
    assert never["scratch_reaches_its_final_loss_at"] == pytest.approx(200)


def test_mean_and_interval() -> None:
    assert math.isnan(intervals.mean_and_interval([1.0])[1])
    mean, width = intervals.mean_and_interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert width == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    values = [float(at) for at in range(16)]
    assert intervals.mean_and_interval(values)[1] == pytest.approx(2.1314 * np.std(values, ddof=1) / 4, rel=1e-4)


def test_quantiles_of_student() -> None:
    published = {1: 12.706, 9: 2.262, 10: 2.228, 11: 2.201, 12: 2.179, 20: 2.086, 30: 2.042, 120: 1.980}
    for freedom, quantile in published.items():
        assert intervals.student(freedom) == pytest.approx(quantile, abs=6e-4), freedom


def test_exchange_rate_is_of_all_seeds() -> None:
    saves: dict[str, Any] = {"exchange_flops_per_token": 2e6}
    assert report.exchange([saves, {"exchange_flops_per_token": 4e6}]) == "3e+06"
    assert report.exchange([saves, {"exchange_flops_per_token": None}]) == "never"  # costs more real tokens
    assert report.exchange([saves, {}]) == "never"  # does not reach the loss


def finetuned(
    variant: str, seed: int = 0, stage: dict[str, Any] | None = None, text: str = "0" * 64, **model: Any
) -> dict[str, Any]:
    """A record with as much of a variant's finetuning as its labels need."""
    each = config.Study(seed=seed, model=small(**model))
    options = config.to_dict(config.Finetune(text="own", **(stage or {})))
    settings = labels.scratch_settings({"config": config.to_dict(each), "stage": options, "text_sha256": text})
    shared = {"seed": seed, "stage": "own", "settings": settings, "curve": [[0.0, 8.0 - seed]], "elsewhere": {}}
    entries = [
        {"variant": "scratch" if start == "scratch" else variant, "start": start, **shared}
        for start in ("scratch", "pretrained")
    ]
    run = {"variant": variant, "seed": seed, "model": config.to_dict(each.model), "curve": []}
    return {"runs": [run], "finetuning": entries, "baselines": {}}


def test_scratch_runs_that_differ_are_told_apart() -> None:
    """By architecture, stage and text; what only pretrained starts depend on makes no difference."""
    found = [
        finetuned("plain", 0),
        finetuned("plain", 1),
        finetuned("plain again", 0, {"shrink": 0.5}),
        finetuned("plain again", 2),
        finetuned("copies", tied=True, smear=True),
        finetuned("long", length=64),
        finetuned("slow", 0, {"learning_rates": [1e-4, 2e-4]}),
        finetuned("other text", text="1" * 64),
    ]
    arms = labels.stage_arms(record.merge({str(number): each for number, each in enumerate(found)}), "own")
    alone = {arm.name: [entry["seed"] for entry in arm.entries] for arm in arms if arm.kind == "scratch"}
    usual, zeros = "learning_rates 0.001 0.002", "text 00000000"
    assert alone == {
        f"scratch, 32 x 1, length 32, {usual}, {zeros}": [0, 1, 2],
        f"scratch, 32 x 1, tied, smear, length 32, {usual}, {zeros}": [0],
        f"scratch, 32 x 1, length 64, {usual}, {zeros}": [0],
        f"scratch, 32 x 1, length 32, learning_rates 0.0001 0.0002, {zeros}": [0],
        f"scratch, 32 x 1, length 32, {usual}, text 11111111": [0],
    }
    beside = {arm.name: arm.scratch for arm in arms if arm.kind != "scratch"}
    assert beside["plain, pretrained"] == beside["plain again, pretrained"] == next(iter(alone))
    assert beside["copies, pretrained"] == f"scratch, 32 x 1, tied, smear, length 32, {usual}, {zeros}"
    assert len(beside) == 6
    assert labels.stage_arms(finetuned("plain"), "own")[0].name == "scratch, 32 x 1"
    assert labels.stage_arms(finetuned("mixed", convolution=4), "own")[0].name == "scratch, 32 x 1, convolution 4"


def rows_of(page: str) -> list[list[str]]:
    """The cells of all tables of a page."""
    return [row.strip("| ").split(" | ") for row in page.splitlines() if row.startswith("|")]


def table(page: str, first: str) -> dict[str, list[str]]:
    """The rows of the table whose header begins with `first`, by their first cell."""
    lines = page.split(f"| {first}", 1)[1].splitlines()
    end = next((at for at, line in enumerate(lines) if not line.startswith("|") and at), len(lines))
    return {name: cells for name, *cells in rows_of("\n".join(lines[2:end]))}


def without_plots(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], out: Path) -> str:
    monkeypatch.setattr(plots, "draw", lambda out, record: [])
    return report.write(found, out, "study").read_text()


def test_report_of_a_record_is_that_of_its_folder(address: str, tmp_path: Path) -> None:
    """Texts and pictures are the same; and a report is never written over what it is made from."""
    pretrain.run(study(address), address, tmp_path / "alone")
    assert cli.main(["report", str(tmp_path / "alone"), "--title", "T"]) == 0
    page = (tmp_path / "alone" / "report.md").read_text()
    assert "| alone | up |" in page
    numbers = tmp_path / "alone" / "results.json"
    assert cli.main(["report", str(numbers), "--out", str(tmp_path / "again"), "--title", "T"]) == 0
    assert (tmp_path / "again" / "report.md").read_text() == page
    assert (tmp_path / "again" / "results.json").read_bytes() == numbers.read_bytes()
    for name in ("pretraining.png", "zero-shot.png"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert {run["variant"] for run in record.from_folder(tmp_path)["runs"]} == {"alone"}  # each folder is a variant
    assert cli.main(["report", str(numbers), "--out", str(tmp_path / "alone")]) == 1
    assert cli.main(["report", str(numbers)]) == 1


def test_report_of_committed_records(tmp_path: Path) -> None:
    """With what records of older versions lack; a choice of variants of two files; pictures have plain names."""
    files = [str(RECORDS / name) for name in ("widths.json", "architecture.json")]
    chosen = [part for name in ("width 64", "width 256", "both") for part in ("--variant", name)]
    assert cli.main(["report", *files, "--out", str(tmp_path), *chosen]) == 0
    page = (tmp_path / "report.md").read_text()
    assert table(page, " |")["engine version"] == ["-"]
    runs = table(page, "variant | recipe")
    assert list(runs) == ["width 64", "width 256", "both"]
    assert {cells[9] for cells in runs.values()} == {"integer work"}
    assert {file.name for file in tmp_path.glob("*.png")} >= {
        "width.png",
        "size.png",
        "finetune-english-a-higher-rate.png",
    }
    assert "scratch, 128 x 2, tied, smear, after" in page
    assert "scratch, 128 x 2, smear" not in page  # of variants that were not chosen


def test_the_plot_against_size_leaves_out_texts_and_streams_of_one_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = record.read(RECORDS / "leaderboard-factors.json")
    found["finetuning"] = [
        each
        for each in found["finetuning"]
        if (each["stage"] == "linux, 1 MB" and each["variant"] != "up, 0.46 M parameters, 3 M tokens")
        or (each["stage"] == "english, 1 MB" and "2.5 M" in each["variant"])
    ]
    drawn: list[tuple[str, list[str]]] = []
    legend = plots._legend

    def watch(figure: Any, axes: Any) -> None:
        if axes.get_xlabel() == "parameters":
            drawn.extend((each.get_title(), each.get_legend_handles_labels()[1]) for each in figure.axes)
        legend(figure, axes)

    monkeypatch.setattr(plots, "_legend", watch)
    plots.draw(tmp_path, found)
    assert drawn == [("linux, 1 MB", ["up-statistics, 3 M tokens"])]


def test_records_that_differ_under_one_name_are_not_merged() -> None:
    one, other = finetuned("up"), finetuned("up")
    assert record.merge({"a": one, "b": other}) == one
    other["finetuning"][1]["curve"] = [[0.0, 7.0]]
    with pytest.raises(ValueError, match=r"a and b both have a run 'up, own, pretrained, seed 0'"):
        record.merge({"a": one, "b": other})
    with pytest.raises(ValueError, match="no variant 'down'; there are 'up'"):
        record.select_variants(one, ["down"])


def test_differences_are_paired_by_seed_and_seeds_that_never_reach_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = record.read(RECORDS / "presets-128.json")
    final = {
        (each["variant"], each["seed"]): each["final_bits"] for each in found["finetuning"] if each["stage"] == "linux"
    }
    page = without_plots(monkeypatch, found, tmp_path).split("### Finetuning on linux")[1]
    seeds = [seed for variant, seed in final if variant == "up-statistics"]
    mean, width = intervals.mean_and_interval([final["up-statistics", seed] - final["scratch", seed] for seed in seeds])
    compared = table(page, "start | seeds | against scratch")
    never = " / ".join(["never"] * len(seeds))
    assert compared["up-statistics, pretrained"][1:] == [f"{mean:+.3f} ± {width:.3f} ({len(seeds)})", "-", never]
    both = [seed for variant, seed in final if variant == "up-statistics, relabelled"]
    assert len(seeds) > len(both) > 1
    mean, width = intervals.mean_and_interval(
        [final["up-statistics, relabelled", seed] - final["up-statistics", seed] for seed in both]
    )
    assert compared["up-statistics, relabelled, pretrained"][2] == f"{mean:+.3f} ± {width:.3f} ({len(both)})"
    assert "499 712 real tokens" in page
    assert intervals.shown_shares([0.25, None, 0.5]) == "25 % / never / 50 %"
    assert intervals.shown_shares([0.25, 0.25]) == "25 ± 0 %"
    assert intervals.shown_shares([]) == "-"


def test_what_is_kept_elsewhere_stands_before_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = record.read(RECORDS / "widths.json")
    page = without_plots(monkeypatch, found, tmp_path).split("### Finetuning on english")[1].split("###")[0]
    kept = table(page, "model | german")
    assert list(kept)[:2] == ["scratch, 256 x 2, after", "scratch, 64 x 2, after"]
    (run,) = (run for run in found["runs"] if run["variant"] == "width 64")
    (after,) = (each for each in found["finetuning"] if each["variant"] == "width 64" and each["stage"] == "english")
    for name, sets in (
        ("width 64, before", run["evaluations"][-1]["sets"]),
        ("width 64, pretrained, after", after["elsewhere"]["sets"]),
    ):
        assert kept[name][0] == f"{sets['german']['s_half']:.2f}"
    assert len(found["runs"][0]["evaluations"]) == 1


def test_curves_of_all_runs_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the first tracked none, or others."""
    found = record.read(RECORDS / "widths.json")
    first, second = found["runs"]
    first["track"] = []
    second["track"] = [{"tokens": 10, "rep-10": 0.7, "copy": 0.6}]
    assert record.tracked_names(found) == ["rep-10", "copy"]
    page = without_plots(monkeypatch, found, tmp_path)
    assert "| variant | rep-10 0.31 | rep-10 0.6 | rep-10 0.73 | copy 0.5 | copy 0.95 |" in page


def test_sweep_and_report(address: str, tmp_path: Path) -> None:
    file, out = str(EXAMPLES / "smoke.json"), tmp_path / "out"
    assert cli.main(["sweep", file, "--out", str(out), "--server", address, "--jobs", "2"]) == 0
    page = (out / "report.md").read_text()
    expected = (
        "| noise |",
        "track.png",
        "dyck 0.31",
        "copy 0.95",
        "| up, fresh |",
        "best context-Markov",
        "ppm",
        "Finetuning on python",
        "5 120 real tokens; learning rates tried: 0.01; sequences per batch: 16; validation windows: 20.",
        "| learning rate of pretraining | 0.01 |",
        "| engine version | ",
        "±",
        "| wide, before |",
    )
    assert [text for text in expected if text not in page] == []
    assert "data:image/png" in (out / "report.html").read_text()
    result = json.loads((out / "up" / "seed-1" / "finetune-python.json").read_text())
    assert set(result["starts"]) == {"scratch", "pretrained", "fresh"}
    assert result["starts"]["scratch"]["final_bits"] < 6
    other = json.loads((out / "noise" / "seed-1" / "finetune-python.json").read_text())
    assert other["starts"]["scratch"] == result["starts"]["scratch"]
    numbers = json.loads((out / "results.json").read_text())
    assert {(run["variant"], run["seed"]) for run in numbers["runs"]} == {
        (variant, seed) for variant in ("up", "noise", "wide") for seed in (0, 1)
    }
    assert sum(entry["variant"] == "scratch" for entry in numbers["finetuning"]) == 4  # two widths, two seeds
    assert str(tmp_path) not in json.dumps(numbers)
    model = str(out / "up" / "seed-0" / "model.pt")
    assert cli.main(["zero-shot", file, "--model", model, "--out", str(tmp_path / "zero.json")]) == 0
    evaluated = json.loads((tmp_path / "zero.json").read_text())
    first = json.loads((out / "up" / "seed-0" / "pretrain.json").read_text())["evaluations"][-1]
    assert evaluated["sets"]["dyck"]["bits_half"] == pytest.approx(first["sets"]["dyck"]["bits_half"], abs=1e-5)


def test_report_of_dumps_and_of_variants_that_differ(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a dump cost is left open, scratch of each architecture has a row, and so has each variant's own set."""
    file = tmp_path / "text"
    file.write_bytes(b"ababab " * 1000)
    dump(tmp_path / "dump")
    integers = {"recipe": "up-statistics"}  # families without floating-point work
    variants = {
        "served": {"pretrain": integers},
        "dumped": {"pretrain": {"dump": str(tmp_path / "dump")}, "model": {"tied": True}},
        "other": {"pretrain": integers, "evaluation": {"sets": ["rep-5"], "tasks": ["sum"]}},
    }
    each = with_text(address, file, variants=variants)
    sweep.run(each, address, tmp_path / "out")
    page = without_plots(monkeypatch, record.from_folder(tmp_path / "out"), tmp_path)
    rows = rows_of(page)
    assert rows[0][10] == "generation FLOPs"
    assert [(row[0], row[10]) for row in rows[2:5]] == [
        ("dumped", "-"),
        ("other", "integer work"),
        ("served", "integer work"),
    ]
    assert "not known (-) where a dump was read" in page
    assert next(row[-1] for row in rows if row[0] == "dumped, pretrained") == "-"  # the exchange rate
    alone = [row[0] for row in rows if row[0].startswith("scratch") and not row[0].endswith("after")]
    assert alone == ["scratch, 32 x 1, tied", "scratch, 32 x 1"]
    assert "| variant | own | dyck | rep-3 | rep-5 |" in page
    assert "| variant | copy | sum |" in page


def test_recipe_files_are_named_without_their_folder(tmp_path: Path) -> None:
    assert labels.recipe_name(str(tmp_path / "own.json")) == "own"
    assert labels.recipe_name("folder/mine") == "mine"
    assert labels.recipe_name("uniform") == "uniform"
    assert labels.recipe_name({"families": []}) == labels.recipe_name('{"families": []}') == "own recipe"
