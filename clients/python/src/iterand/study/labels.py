"""What a report calls its rows and curves: recipes, models, and the starts of a finetuning stage."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iterand.study import config

Result = dict[str, Any]


def recipe_name(recipe: Any) -> str:
    """A preset's name or a recipe file's without folder and ending; a recipe that is written out has none."""
    if config.is_recipe_file(recipe):
        return Path(recipe).stem
    return recipe if isinstance(recipe, str) and not recipe.lstrip().startswith("{") else "own recipe"


def model_name(model: Result) -> str:
    """Such as `128 x 2, tied, smear`: width, depth, and what is switched on."""
    return ", ".join(["{width} x {depth}".format(**model), *(key for key in ("tied", "smear") if model.get(key))])


@dataclass(frozen=True)
class Arm:
    """One start of one variant in a stage; or scratch, of all variants that share it."""

    name: str
    variant: str  # empty: scratch
    kind: str  # of Finetune.starts
    scratch: str  # the name of the scratch runs that depend on the same; empty: there are none
    stages: list[Result]  # one a seed, whose starts[kind] are meant


def scratch_settings(stage: Result) -> Result:
    """What a scratch run of a finetuning result depends on, the seed apart: model, training and text, in one level.
    Equal for results whose scratch runs are the same."""
    left_out = ("text", "name", "starts", "shrink", "optimizer")
    own = {key: value for key, value in stage["stage"].items() if key not in left_out}
    # Its learning rate gives way to the list.
    optimizer = {key: value for key, value in stage["stage"]["optimizer"].items() if key != "learning_rate"}
    run = {key: stage["config"].get(key) for key in ("precision", "compile")}
    return {**stage["config"]["model"], **own, **optimizer, **run, "text": stage.get("text_sha256")}


def _scratch_names(settings: list[Result]) -> list[str]:
    """A name for each, with what the model's own name does not tell and the others have otherwise."""
    told = ("width", "depth", "tied", "smear")
    keys = dict.fromkeys(key for each in settings for key in each if key not in told)
    differing = [key for key in keys if any(each.get(key) != settings[0].get(key) for each in settings)]

    def shown(key: str, value: Any) -> str:
        if key == "text":
            return f"text {str(value)[:8]}"
        values = value if isinstance(value, list) else [value]
        return f"{key} {' '.join(f'{each:g}' if isinstance(each, float) else str(each) for each in values)}"

    return [
        ", ".join(["scratch", model_name(each), *(shown(key, each.get(key)) for key in differing)]) for each in settings
    ]


def arms(finetuned: dict[tuple[str, str], list[Result]], stage: str) -> list[Arm]:
    """The arms of a stage, of what report.collect found: first scratch, once for each setting, then the variants."""
    of_variant = {variant: results for (variant, name), results in finetuned.items() if name == stage}

    def key(result: Result) -> str:
        return json.dumps(scratch_settings(result), sort_keys=True)

    alone: dict[str, dict[int, Result]] = {}
    for results in of_variant.values():
        for result in results:
            if "scratch" in result["starts"]:
                alone.setdefault(key(result), {}).setdefault(result["config"]["seed"], result)
    settings = [scratch_settings(next(iter(of_seed.values()))) for of_seed in alone.values()]
    names = dict(zip(alone, _scratch_names(settings), strict=True))
    found = [
        Arm(names[setting], "", "scratch", names[setting], [of_seed[seed] for seed in sorted(of_seed)])
        for setting, of_seed in alone.items()
    ]
    for variant, results in of_variant.items():
        for kind in results[0]["starts"]:
            if kind != "scratch":
                beside = names.get(key(results[0]), "")
                stages = [result for result in results if kind in result["starts"]]
                found.append(Arm(f"{variant}, {kind}", variant, kind, beside, stages))
    return found
