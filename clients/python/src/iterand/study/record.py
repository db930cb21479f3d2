"""The numbers of a sweep in one small file, results.json: what stands behind a report, without weights or paths.

    {"runs": [{"variant", "seed", "recipe", "fingerprint", "model", "hardware", "tokens", "seconds", ...,
               "curve": [[tokens, bits], ...], "evaluations": [{"tokens", "sets", "tasks"}, ...],
               "track": [{"tokens", set or task: s or share of right answers, ...}, ...]}, ...],
     "finetuning": [{"variant", "seed", "stage", "start", "learning_rate", "tried", "curve", "final_bits", "test_bits",
                     "elsewhere", "comparison"}, ...],
     "baselines": {set: {"markov_half", ...}}}

Bits are bits a token, tokens are tokens seen. Scratch runs, which all variants of a model share, stand under the
variant "scratch", once for each model, stage and seed. What generation cost is null where it is not known.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from iterand.study import config, labels

Result = dict[str, Any]


def _rounded(value: Any) -> Any:
    """Four decimals for small numbers, whole numbers for large ones: more is noise."""
    if isinstance(value, float):
        return round(value, 4) if abs(value) < 1000 else round(value)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


def _curve(points: list[Result]) -> list[list[float]]:
    return [[point["tokens"], point["bits"]] for point in points]


def _evaluation(found: Result) -> Result:
    kept = ("bits_last", "bits_half", "bits_half_error", "s_half")
    sets = {name: {key: values[key] for key in kept} for name, values in found["sets"].items()}
    return {"sets": sets, "tasks": found["tasks"]}


def build(pretrained: dict[str, list[Result]], finetuned: dict[tuple[str, str], list[Result]]) -> Result:
    """The record of what report.collect found."""
    runs: list[Result] = []
    baselines: Result = {}
    for variant, results in pretrained.items():
        for run in results:
            for found in run["evaluations"]:
                for name, values in found["sets"].items():
                    baselines[name] = {key: values[key] for key in values if key.startswith(("markov", "compressors"))}
            recipe = run["config"]["pretrain"]["recipe"]
            kept = ("tokens", "seconds", "waited_seconds", "parameters", "training_flops", "generation_flops")
            runs.append(
                {
                    "variant": variant,
                    "seed": run["config"]["seed"],
                    "recipe": Path(recipe).name if config.is_recipe_file(recipe) else recipe,
                    "fingerprint": run["stream"].get("fingerprint"),
                    "model": run["config"]["model"],
                    "optimizer": run["config"]["pretrain"]["optimizer"],
                    "batch_size": run["config"]["pretrain"]["batch_size"],
                    "hardware": run["hardware"],
                    **{key: run[key] for key in kept},
                    "curve": _curve(run["curve"]),
                    "evaluations": [{"tokens": each["tokens"], **_evaluation(each)} for each in run["evaluations"]],
                    "track": run.get("track", []),
                }
            )
    stages: list[Result] = []
    told: set[str] = set()
    for (variant, name), results in finetuned.items():
        for found in results:
            for kind, start in found["starts"].items():
                entry: Result = {
                    "variant": "scratch" if kind == "scratch" else variant,
                    "seed": found["config"]["seed"],
                    "stage": name,
                    "start": kind,
                    "learning_rate": start["learning_rate"],
                    "tried": start["tried"],
                    "curve": _curve(start["curve"]),
                    "final_bits": start["final_bits"],
                    "test_bits": start["test_bits"],
                    "elsewhere": _evaluation(start["elsewhere"]),
                }
                if kind == "scratch":
                    entry["model"] = found["config"]["model"]
                    key = json.dumps([labels.scratch_settings(found), name, entry["seed"]], sort_keys=True)
                    if key in told:
                        continue
                    told.add(key)
                else:
                    entry["comparison"] = found["comparisons"].get(kind)
                stages.append(entry)
    record: Result = _rounded({"runs": runs, "finetuning": stages, "baselines": baselines})
    return record


def write(path: Path, record: Result) -> None:
    """One line a run, so that a change of one run is a change of one line."""
    lines = ["{"]
    for part in ("runs", "finetuning"):
        lines += [f' "{part}": [', ",\n".join("  " + json.dumps(item) for item in record[part]), " ],"]
    lines += [' "baselines": ' + json.dumps(record["baselines"]), "}"]
    path.write_text("\n".join(lines) + "\n")
