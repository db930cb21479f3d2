"""What a report calls its rows and curves: recipes, models, and the starts of a finetuning stage."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iterand._requests import is_recipe_file

Result = dict[str, Any]


def recipe_name(recipe: Any) -> str:
    """A preset's name, or a recipe file's without folder and suffix; a recipe as JSON has none."""
    if is_recipe_file(recipe):
        return Path(recipe).stem
    return recipe if isinstance(recipe, str) and not recipe.lstrip().startswith("{") else "own recipe"


def model_name(model: Result) -> str:
    """Such as `128 x 2, tied, convolution 4`: width, depth, and what is switched on."""
    switched = [key for key in ("tied", "smear") if model.get(key)]
    if model.get("convolution"):
        switched.append(f"convolution {model['convolution']}")
    return ", ".join(["{width} x {depth}".format(**model), *switched])


@dataclass(frozen=True)
class Arm:
    """One start of one variant in a stage; or scratch, of all variants that share it."""

    name: str
    variant: str  # "scratch", or the variant's
    kind: str  # of Finetune.starts
    scratch: str  # the name of the scratch runs that depend on the same; empty: there are none
    entries: list[Result]  # of the record's finetuning, one per seed


def scratch_settings(stage: Result) -> Result:
    """What a scratch run of a finetuning result depends on, the seed apart: model, training and text, in one level.
    Equal for results whose scratch runs are the same."""
    left_out = ("text", "name", "starts", "shrink", "held_out", "optimizer")
    own = {key: value for key, value in stage["stage"].items() if key not in left_out}
    if not own.get("vocabulary"):  # bytes: results of older versions do not have the key
        own.pop("vocabulary", None)
    # The list replaces its learning rate.
    optimizer = {key: value for key, value in stage["stage"]["optimizer"].items() if key != "learning_rate"}
    run = {key: stage["config"].get(key) for key in ("precision", "compile")}
    return {**stage["config"]["model"], **own, **optimizer, **run, "text": stage.get("text_sha256")}


def _scratch_names(settings: list[Result]) -> list[str]:
    """A name for each, with the differences from the others that the model's own name does not show."""
    in_name = ("width", "depth", "tied", "smear", "convolution")
    keys = dict.fromkeys(key for each in settings for key in each if key not in in_name)
    differing = [key for key in keys if any(each.get(key) != settings[0].get(key) for each in settings)]

    def shown(key: str, value: Any) -> str:
        if key == "text":
            return f"text {str(value)[:8]}"
        values = value if isinstance(value, list) else [value]
        return f"{key} {' '.join(f'{each:g}' if isinstance(each, float) else str(each) for each in values)}"

    return [
        ", ".join(["scratch", model_name(each), *(shown(key, each[key]) for key in differing if key in each)])
        for each in settings
    ]


def stage_arms(record: Result, stage: str) -> list[Arm]:
    """The arms of a stage of a record (record.py): first scratch, once for each setting, then the variants."""
    models = {run["variant"]: run["model"] for run in record["runs"]}
    entries = [entry for entry in record["finetuning"] if entry["stage"] == stage]

    def settings(entry: Result) -> Result:
        """Older records have no settings: there only the model distinguishes scratch runs."""
        found: Result = entry.get("settings") or entry.get("model") or models.get(entry["variant"], {})
        return found

    def key(entry: Result) -> str:
        return json.dumps(settings(entry), sort_keys=True)

    alone: dict[str, list[Result]] = {}
    others: dict[tuple[str, str], list[Result]] = {}
    for entry in entries:
        if entry["start"] == "scratch":
            alone.setdefault(key(entry), []).append(entry)
        else:
            others.setdefault((entry["variant"], entry["start"]), []).append(entry)
    names = dict(zip(alone, _scratch_names([settings(found[0]) for found in alone.values()]), strict=True))
    scratch = [Arm(names[each], "scratch", "scratch", names[each], found) for each, found in alone.items()]
    return scratch + [
        Arm(f"{variant}, {kind}", variant, kind, names.get(key(found[0]), ""), found)
        for (variant, kind), found in others.items()
    ]
