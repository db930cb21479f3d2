"""Runs a leaderboard, keeps its record, and puts a user's recipe beside the published arms.

A leaderboard is a study that takes hours, so it grows from session to session: what its record has is not run again,
and what is finished joins the record. A record lacks weights, so a run of which a stage is missing is trained again.
Its weights differ on another kind of processor, by the rounding of sums. Its new stages join the record nevertheless.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from iterand_study import config, data, document, evalsets, leaderboard, record, report, sweep, variants

Result = dict[str, Any]


def read_known(file: Path) -> Result:
    """The record of a leaderboard, empty if there is no file yet. Errors: ValueError if it is something else."""
    return record.read(file) if file.exists() else {"runs": [], "finetuning": [], "baselines": {}}


def collect(study: config.Study, out: Path, known: Result) -> Result:
    """The record of all arms of a study that are finished: those of the folder `out` and those that are known.

    A stage of a run that was trained again has `trained_again`, the hardware of that. Errors: ValueError if the two
    have runs of different settings under one name.
    """
    names = list(variants.expand(study))
    parts = {"the record": known}
    if any(out.glob("**/pretrain.json")):
        found = record.from_folder(out)
        here = [name for name in record.by_variant(found) if name in names]
        found, known = _join_trained_again(record.select_variants(found, here), known)
        # First: its runs may be evaluated on more.
        parts = {str(out): found, "the record": known}
    merged = record.with_comparisons(record.merge(parts))
    seconds = {(run["variant"], run["seed"]): run.get("generation_seconds") for run in known["runs"]}
    place = {name: number for number, name in enumerate((*names, "scratch"))}
    for run in merged["runs"]:
        run.setdefault("generation_seconds", seconds.get((run["variant"], run["seed"])))
    for part in ("runs", "finetuning"):
        merged[part].sort(key=lambda entry: (place.get(entry["variant"], len(place)), entry["seed"]))
    return merged


def _join_trained_again(found: Result, known: Result) -> tuple[Result, Result]:
    """Two records without conflicts between runs of equal settings whose weights differ. Of such a pair the known run
    stays, and the stages that it lacks come from the other, unless the other is evaluated on more: then that stays."""
    before = {(run["variant"], run["seed"]): run for run in known["runs"]}
    replaced = set()  # of the known runs
    again = {}  # runs that were trained again -> their hardware
    runs = []
    for run in found["runs"]:
        key = (run["variant"], run["seed"])
        first = before.get(key)
        if first is None or first["curve"] == run["curve"] or not record.same_training(first, run):
            runs.append(run)
        elif first["windows"] == run["windows"] and record.measured(run) <= record.measured(first):
            runs.append(first)
            again[key] = run["hardware"]
        else:
            runs.append(run)
            replaced.add(key)

    def start(entry: Result) -> tuple[Any, ...]:
        return tuple(entry[part] for part in ("variant", "seed", "stage", "start"))

    finished = {start(entry) for entry in known["finetuning"]}
    finetuning = []
    for entry in found["finetuning"]:
        hardware = again.get((entry["variant"], entry["seed"]))
        if hardware is None:
            finetuning.append(entry)
        elif start(entry) not in finished:
            finetuning.append({**entry, "trained_again": hardware})
    kept = {
        part: [entry for entry in known[part] if (entry["variant"], entry["seed"]) not in replaced]
        for part in ("runs", "finetuning")
    }
    return {**found, "runs": runs, "finetuning": finetuning}, {**known, **kept}


def measure_generators(study: config.Study, found: Result) -> None:
    """Adds to one run of each arm the core-seconds of its stream, `generation_seconds`, where none has them."""
    arms = variants.expand(study)
    for name, runs in record.by_variant(found).items():
        if name in arms and all(run.get("generation_seconds") is None for run in runs):
            seconds = data.generation_seconds(sweep.with_seed(arms[name], name, runs[0]["seed"], Path()))
            runs[0]["generation_seconds"] = None if seconds is None else float(f"{seconds:.3g}")


def page(study: config.Study, name: str, found: Result) -> str:
    """The tables that compare a leaderboard's arms, as a page of docs/results. name: that of its configuration."""
    made = f"`iterand-study leaderboard {name} --no-run --tables FILE`, in `clients/study/configs`, writes this page."
    front = leaderboard.parts(found, leaderboard.Stages.of(study))
    return document.markdown(report.tables(found, study.name, [made, *front]))


def with_recipe(study: config.Study, recipe: Path, known: Result) -> config.Study:
    """A leaderboard's study with a user's recipe as its only arm, by the name of its file.

    known: the published record. Errors: ConfigError if that has an arm of this name, or was run on other texts.
    """
    name = recipe.stem
    published = record.by_variant(known)
    if name in (*published, *study.variants):
        raise config.ConfigError(f"--add {recipe}: {name!r} is the name of an arm already; rename the file")
    for stage in study.finetune:
        text = evalsets.text_sha256(study.evaluation.texts[stage.text])
        for entry in known["finetuning"]:
            there = (entry.get("settings") or {}).get("text")
            if entry["stage"] == (stage.name or stage.text) and there != text:
                raise config.ConfigError(
                    f"evaluation.texts.{stage.text} has the SHA-256 {text}, and the published arms were finetuned on "
                    f"{there}: take that text, or run the arms on yours with a --record of its own"
                )
    changes = {"pretrain": {"recipe": str(recipe.resolve())}}
    return dataclasses.replace(study, variants={name: changes}, first=[])
