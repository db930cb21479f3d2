"""The numbers of a sweep in one small file, results.json: the source of a report, without weights or paths.

    {"runs": [{"variant", "seed", "recipe", "fingerprint", "model", "hardware", "tokens", "seconds", ...,
               "start": null or {"sha256", "tokens", "training_flops", "generation_flops"} of the first weights,
               "curve": [[tokens, bits], ...], "evaluations": [{"tokens", "sets", "tasks"}, ...],
               "track": [{"tokens", set or task: s or share of right answers, ...}, ...]}, ...],
     "finetuning": [{"variant", "seed", "stage", "text", "start", "settings", "learning_rate", "tried", "curve",
                     "final_bits", "test_bits", "elsewhere", "comparison",
                     "trained_again": absent, or the hardware on which the weights were made again}, ...],
     "baselines": {set: {"markov_half", ...}}}

Bits are bits per token, tokens are tokens seen. Scratch runs, which all variants of a model share, have the variant
"scratch", once for each of their settings, stage and seed. The cost of generation is null if it is not known.

Records of older versions lack some keys: runs lack engine_version, precision, compile, threads, windows, masked and
start, finetuning lacks text and settings, and `elsewhere` includes the text itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from iterand._requests import is_recipe_file

from iterand_study import config, evalsets, labels
from iterand_study.comparison import Curve, compare

Result = dict[str, Any]


def _rounded(value: Any) -> Any:
    """Rounds to four decimals; very small numbers to four digits, large to whole numbers. More digits are noise."""
    if isinstance(value, float):
        if abs(value) < 0.01:
            return float(f"{value:.4g}")
        return round(value, 4) if abs(value) < 1000 else round(value)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


def including_start(run: Result, key: str) -> float | None:
    """A count of a run plus those of the runs that made its first weights; None if one of them is not known."""
    own: float | None = run.get(key)
    start = run.get("start")
    before: float | None = 0 if start is None else start[key]
    return None if own is None or before is None else own + before


def synthetic_flops(run: Result) -> float | None:
    """FLOPs paid for a run's weights: training and generation, including the runs before it. None if the cost of a
    stream is not known, as for a dump."""
    training, generation = including_start(run, "training_flops"), including_start(run, "generation_flops")
    return None if training is None or generation is None else training + generation


# What the weights of a run depend on.
_TRAINING = (
    "variant",
    "seed",
    "fingerprint",
    "masked",
    "start",
    "model",
    "optimizer",
    "batch_size",
    "tokens",
    "precision",
    "compile",
)


def has_run(record: Result, variant: str, study: config.Study, info: Result) -> bool:
    """Whether a record has the pretraining run of a study of one seed: the same stream, model and training, and at
    least its evaluations. info: the stream's description, as of data.describe. A run from given weights never counts,
    since a record lacks them.
    """
    options, evaluation = study.pretrain, study.evaluation
    step = options.batch_size * study.model.length
    wanted = {
        "variant": variant,
        "seed": study.seed,
        "fingerprint": info.get("fingerprint"),
        "masked": info.get("masked", False),
        "start": None,
        "model": _rounded(config.to_dict(study.model)),
        "optimizer": _rounded(config.to_dict(options.optimizer)),
        "batch_size": options.batch_size,
        "tokens": max(1, options.tokens // step) * step,
        "precision": study.precision,
        "compile": study.compile,
        "windows": evaluation.windows,
    }
    wanted_names = {*evaluation.texts, *evaluation.sets, *evaluation.tasks} if options.evaluations else set()
    for run in record["runs"]:
        if options.start is None and all(run.get(key) == value for key, value in wanted.items()):
            return wanted_names <= measured(run)
    return False


def measured(run: Result) -> set[str]:
    """The names of what the weights of a run are evaluated on."""
    last = run["evaluations"][-1] if run["evaluations"] else {"sets": {}, "tasks": {}}
    return {*last["sets"], *last["tasks"]}


def same_training(run: Result, other: Result) -> bool:
    """Whether two runs of a record have the same stream, model and training. Their weights may still differ by the
    rounding of sums, which depends on the processor."""
    return all(run.get(key) == other.get(key) for key in _TRAINING)


def apart_from_size(run: Result) -> list[Any]:
    """The settings of a run apart from its stream, its tokens, and the width and depth of its model."""
    model = {key: value for key, value in run["model"].items() if key not in ("width", "depth")}
    return [model, run.get("batch_size"), run.get("masked", False), run.get("optimizer")]


def has_start(record: Result, variant: str, study: config.Study, stage: config.Finetune, start: str) -> bool:
    """Whether a record has a start of a stage, finetuned as a study of one seed says. Of other starts than scratch it
    says nothing about the weights: has_run does. A stage that shrinks weights never counts, since a record does not
    tell by how much."""
    wanted = {
        "variant": "scratch" if start == "scratch" else variant,
        "seed": study.seed,
        "stage": stage.name or stage.text,
        "start": start,
        "settings": _rounded(
            labels.scratch_settings(
                {
                    "stage": config.to_dict(stage),
                    "config": config.to_dict(study),
                    "text_sha256": evalsets.text_sha256(study.evaluation.texts[stage.text]),
                }
            )
        ),
    }
    same = any(all(entry.get(key) == value for key, value in wanted.items()) for entry in record["finetuning"])
    return same and (start == "scratch" or stage.shrink == 1.0)


def with_comparisons(record: Result) -> Result:
    """The record, with the comparison of each start that lacks one and whose scratch run it has: the two may have been
    run apart."""
    runs = {(run["variant"], run["seed"]): run for run in record["runs"]}
    scratch = {_scratch_key(entry): entry for entry in record["finetuning"] if entry["start"] == "scratch"}
    for entry in record["finetuning"]:
        run, base = runs.get((entry["variant"], entry["seed"])), scratch.get(_scratch_key(entry))
        if entry["start"] != "scratch" and entry.get("comparison") is None and run is not None and base is not None:
            found = compare(points(base), points(entry), synthetic_flops(run))
            entry["comparison"] = _rounded(found)
    return record


def _scratch_key(entry: Result) -> tuple[str, int, str]:
    """What a start shares with the scratch run that it is compared with."""
    return entry["stage"], entry["seed"], json.dumps(entry.get("settings"), sort_keys=True)


def points(entry: Result) -> Curve:
    """The validation curve of a finetuning entry."""
    return [{"tokens": tokens, "bits": bits} for tokens, bits in entry["curve"]]


def _curve(points: list[Result]) -> list[list[float]]:
    return [[point["tokens"], point["bits"]] for point in points]


def _evaluation(found: Result) -> Result:
    kept = ("bits_last", "bits_half", "bits_half_error", "s_half")
    sets = {name: {key: values[key] for key in kept} for name, values in found["sets"].items()}
    return {"sets": sets, "tasks": found["tasks"]}


def _run(variant: str, run: Result) -> Result:
    study = run["config"]
    recipe = study["pretrain"]["recipe"]
    kept = ("tokens", "seconds", "waited_seconds", "parameters", "training_flops", "generation_flops")
    return {
        "variant": variant,
        "seed": study["seed"],
        "recipe": Path(recipe).name if is_recipe_file(recipe) else recipe,
        "fingerprint": run["stream"].get("fingerprint"),
        "engine_version": run["stream"].get("engine_version"),
        "start": run.get("start"),
        "model": study["model"],
        "optimizer": study["pretrain"]["optimizer"],
        "masked": run["stream"].get("masked", False),
        "batch_size": study["pretrain"]["batch_size"],
        "precision": study["precision"],
        "compile": study["compile"],
        "threads": study["threads"],
        "processes": run.get("processes", 1),
        "windows": study["evaluation"]["windows"],
        "hardware": run["hardware"],
        **{key: run[key] for key in kept},
        "curve": _curve(run["curve"]),
        "evaluations": [{"tokens": each["tokens"], **_evaluation(each)} for each in run["evaluations"]],
        "track": run.get("track", []),
    }


def _starts(variant: str, found: Result) -> Iterator[Result]:
    for kind, start in found["starts"].items():
        entry: Result = {
            "variant": "scratch" if kind == "scratch" else variant,
            "seed": found["config"]["seed"],
            "stage": found["name"],
            "text": found["text"],
            "start": kind,
            "settings": labels.scratch_settings(found),
            "learning_rate": start["learning_rate"],
            "tried": start["tried"],
            "curve": _curve(start["curve"]),
            "final_bits": start["final_bits"],
            "test_bits": start["test_bits"],
            "elsewhere": _evaluation(start["elsewhere"]),
        }
        if kind != "scratch":
            entry["comparison"] = found["comparisons"].get(kind)
        yield entry


def from_folder(out: Path) -> Result:
    """The record of a sweep's folder.

    The results of a variant are in VARIANT/seed-N. A folder of another name is a variant of its own; `out` itself may
    be a folder that `pretrain` wrote. Errors: ValueError if there are no results.
    """
    runs: list[Result] = []
    finetuning: list[Result] = []
    baselines: Result = {}
    for file in sorted(out.glob("**/pretrain.json")):
        folder = file.parent
        if folder != out and folder.name.startswith("seed-"):
            folder = folder.parent
        variant = str(folder.relative_to(out)) if folder != out else out.resolve().name
        found = json.loads(file.read_text())
        for each in found["evaluations"]:
            for name, values in each["sets"].items():
                baselines[name] = {key: values[key] for key in values if key.startswith(("markov", "compressors"))}
        runs.append(_run(variant, found))
        for stage in sorted(file.parent.glob("finetune-*.json")):
            finetuning += _starts(variant, json.loads(stage.read_text()))
    if not runs:
        raise ValueError(f"{out} has no results: no pretrain.json in any folder below it")
    record: Result = _rounded({"runs": runs, "finetuning": finetuning, "baselines": baselines})
    return merge({str(out): record})


def read(path: Path) -> Result:
    """The record of a folder, or of a file that `write` wrote. Errors: ValueError for anything else."""
    if path.is_dir():
        return from_folder(path)
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(record, dict) or not all(key in record for key in ("runs", "finetuning", "baselines")):
        raise ValueError(f"{path} is not the record of a sweep (results.json): it lacks runs, finetuning or baselines")
    return record


def merge(records: dict[str, Result]) -> Result:
    """Merges several records, given by name. Equal entries are taken once.

    Scratch runs of one setting, stage and seed are equal except for what they were evaluated on. Errors: ValueError if
    two records have different runs under one name.
    """
    runs: dict[str, tuple[str, Result]] = {}
    finetuning: dict[str, tuple[str, Result]] = {}
    baselines: Result = {}
    for name, record in records.items():
        for run in record["runs"]:
            key = f"{run['variant']}, seed {run['seed']}"
            origin, known = runs.setdefault(key, (name, run))
            if known["curve"] != run["curve"] or known["model"] != run["model"]:
                raise ValueError(f"{origin} and {name} both have a run {key!r}, which differs: report them separately")
        for entry in record["finetuning"]:
            key = ", ".join([entry["variant"], entry["stage"], entry["start"], f"seed {entry['seed']}"])
            setting = json.dumps(entry.get("settings") or entry.get("model"), sort_keys=True)
            origin, known = finetuning.setdefault(key + setting, (name, entry))
            if known["curve"] != entry["curve"] and origin != name:
                raise ValueError(f"{origin} and {name} both have a run {key!r}, which differs: report them separately")
            for part, values in entry["elsewhere"].items():
                known["elsewhere"][part] = {**values, **known["elsewhere"][part]}
        baselines = {**record["baselines"], **baselines}
    return {
        "runs": [run for _, run in runs.values()],
        "finetuning": [entry for _, entry in finetuning.values()],
        "baselines": baselines,
    }


def select_variants(record: Result, variants: list[str]) -> Result:
    """The record of only these variants, in this order, and of their scratch runs. Errors: ValueError if a variant is
    unknown."""
    known = dict.fromkeys(run["variant"] for run in record["runs"])
    for name in variants:
        if name not in known:
            raise ValueError(f"there is no variant {name!r}; there are {', '.join(map(repr, known))}")
    stages = dict.fromkeys(entry["stage"] for entry in record["finetuning"])
    arms = [arm for stage in stages for arm in labels.stage_arms(record, stage)]
    kept = {(arm.entries[0]["stage"], arm.scratch) for arm in arms if arm.variant in variants}
    return {
        "runs": [run for name in variants for run in record["runs"] if run["variant"] == name],
        "finetuning": [
            entry
            for name in ("scratch", *variants)
            for arm in arms
            if arm.variant == name and (name != "scratch" or (arm.entries[0]["stage"], arm.name) in kept)
            for entry in arm.entries
        ],
        "baselines": record["baselines"],
    }


def by_variant(record: Result) -> dict[str, list[Result]]:
    """The runs of each variant, one per seed."""
    found: dict[str, list[Result]] = {}
    for run in record["runs"]:
        found.setdefault(run["variant"], []).append(run)
    return found


def tracked_names(record: Result) -> list[str]:
    """The names of all curves that any run has tracked."""
    points = [point for run in record["runs"] for point in run.get("track", [])]
    return [name for name in dict.fromkeys(name for point in points for name in point) if name != "tokens"]


def stages(record: Result) -> list[str]:
    """The names of the finetuning stages."""
    return sorted({entry["stage"] for entry in record["finetuning"]})


def write(path: Path, record: Result) -> None:
    """Writes one line per run, so that a change of one run changes one line."""
    lines = ["{"]
    for part in ("runs", "finetuning"):
        lines += [f' "{part}": [', ",\n".join("  " + json.dumps(item) for item in record[part]), " ],"]
    lines += [' "baselines": ' + json.dumps(record["baselines"]), "}"]
    path.write_text("\n".join(lines) + "\n")
