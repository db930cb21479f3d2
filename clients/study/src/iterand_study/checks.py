"""What a configuration must satisfy beyond its types: ranges, known names, files that exist."""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iterand._requests import is_recipe_file

from iterand_study import evalsets, variants
from iterand_study.config import (
    PRECISIONS,
    STARTS,
    TASKS,
    ConfigError,
    Evaluation,
    Finetune,
    Model,
    Optimizer,
    Pretrain,
    Study,
    is_model_file,
    to_dict,
)

# The ranges of numbers, by key.
_RANGES: tuple[tuple[dict[type, dict[str, float]], str, Callable[[float, float], bool]], ...] = (
    (
        {
            Model: {
                "width": 1,
                "depth": 1,
                "head_width": 2,
                "length": 2,
                "vocab_size": 2,
                "base_width": 1,
                "convolution": 0,
                "dropout": 0,
            },
            Optimizer: {"warmup_share": 0, "final_share": 0, "weight_decay": 0, "beta1": 0, "beta2": 0},
            Pretrain: {
                **dict.fromkeys(("batch_size", "log_every"), 1),
                **dict.fromkeys(("stream_seed", "evaluations", "tracks", "checkpoints"), 0),
            },
            Evaluation: {"windows": 1, "seed": 0},
            Finetune: {"batch_size": 1, "evaluations": 1, "validation_windows": 1, "shrink": 0, "data_seed": 0},
            Study: {"threads": 0, "seed": 0},
        },
        "at least",
        operator.ge,
    ),
    ({Optimizer: {"learning_rate": 0, "clip": 0}}, "more than", operator.gt),
    ({Optimizer: {"warmup_share": 1, "final_share": 1}, Finetune: {"shrink": 1}}, "at most", operator.le),
    ({Model: {"dropout": 1}, Optimizer: {"beta1": 1, "beta2": 1}}, "less than", operator.lt),
)


def check(study: Study) -> None:
    """Checks names and numbers, in the study itself and in its variants.

    Errors: ConfigError names the key, its value, and what it must be.
    """
    _check_one(study)
    if not study.seeds:
        raise ConfigError("seeds is empty; it must have one or more")
    _check_distinct("seeds", study.seeds)
    if min(study.seeds) < 0:
        raise ConfigError(f"seeds has {min(study.seeds)}; each must be 0 or more")
    _check_distinct("first", study.first)
    for name in study.first:
        if name not in study.variants:
            raise ConfigError(
                f"first has {name!r}, which is not a variant; there are {', '.join(study.variants) or 'none'}"
            )
    earlier: dict[str, Study] = {}
    for name, each in variants.expand(study).items():
        if study.variants:
            check_file_name("variants", name)
            if name == "scratch":
                raise ConfigError("variants has 'scratch', the name of runs without pretraining")
            with variants.name_in_errors(name):
                _check_one(each)
                _check_start(each, earlier)
            earlier[name] = each
        else:
            check_file_name("name", name)
            _check_start(each, earlier)


def _check_start(study: Study, earlier: dict[str, Study]) -> None:
    start = study.pretrain.start
    if start is None or is_model_file(start):
        return
    if start not in earlier:
        names = ", ".join(earlier) or "none"
        raise ConfigError(
            f"pretrain.start is {start!r}; it must be the path of a model.pt or an earlier variant (there are: {names})"
        )
    check_shape(study, earlier[start].model)


def check_shape(study: Study, model: Model) -> None:
    """Checks that `model`, whose weights a study starts from, has the study's shape. Errors: ConfigError."""
    own, other = to_dict(study.model), to_dict(model)
    differing = [key for key in own if key != "dropout" and other[key] != own[key]]
    if differing:
        shapes = "; ".join(f"model.{key} is {own[key]}, there {other[key]}" for key in differing)
        raise ConfigError(f"pretrain.start is {study.pretrain.start}, a model of another shape: {shapes}")


def check_file_name(key: str, name: str) -> None:
    """Checks that `name`, of a variant or a stage, can name a file. Errors: ConfigError."""
    if not name or name.startswith(".") or not name.isprintable() or re.search(r"[/\\]", name) or len(name) > 100:
        raise ConfigError(
            f"{key} has {name!r}, which names a file or folder: it must be 1 to 100 printable characters without / "
            "and \\, the first not a dot"
        )


def _check_distinct(key: str, values: list[Any]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ConfigError(f"{key} has {value!r} twice; each must occur once")


def _check_ranges(table: Any, path: str = "") -> None:
    """Checks the ranges of numbers in a part of the configuration and in all parts below it."""
    for key, value in vars(table).items():
        if dataclasses.is_dataclass(value):
            _check_ranges(value, f"{path}{key}.")
        for limits, relation, holds in _RANGES:
            limit = limits.get(type(table), {}).get(key)
            if limit is not None and value is not None and not holds(value, limit):
                raise ConfigError(f"{path}{key} is {value}; it must be {relation} {limit:g}")


def _check_one(study: Study) -> None:
    """The checks that need neither variants nor files."""
    _check_ranges(study)
    for number, stage in enumerate(study.finetune):
        _check_ranges(stage, f"finetune[{number}].")
    model = study.model
    if model.width % model.head_width or model.head_width % 2:
        raise ConfigError(
            f"model.width {model.width} must be a multiple of model.head_width {model.head_width}, an even number"
        )
    if study.precision not in PRECISIONS:
        raise ConfigError(f"precision is {study.precision!r}; known are {', '.join(PRECISIONS)}")
    if re.fullmatch("auto|cpu|cuda(:[0-9]+)?", study.device) is None:
        raise ConfigError(f"device is {study.device!r}; known are auto, cpu, cuda and cuda:N")
    if not isinstance(study.pretrain.recipe, (str, dict)):
        raise ConfigError(f"pretrain.recipe is {study.pretrain.recipe!r}; it must be a name, a file or a recipe")
    _check_tokens("pretrain.", study.pretrain, model)
    _check_evaluation(study)
    _check_stages(study)


def _check_tokens(path: str, part: Pretrain | Finetune, model: Model) -> None:
    step = part.batch_size * model.length
    if part.tokens < step:
        raise ConfigError(
            f"{path}tokens is {part.tokens}; it must be {step} or more, one step of {part.batch_size} x {model.length}"
        )


def _check_evaluation(study: Study) -> None:
    evaluation, texts, model = study.evaluation, study.evaluation.texts, study.model
    for name in evaluation.sets:
        if name not in evalsets.LANGUAGES and re.fullmatch("rep-[1-9][0-9]*", name) is None:
            raise ConfigError(f"evaluation.sets has {name!r}; known are {', '.join(evalsets.LANGUAGES)} and rep-N")
    for name in evaluation.tasks:
        if name not in TASKS:
            raise ConfigError(f"evaluation.tasks has {name!r}; known are {', '.join(TASKS)}")
    measured = [*texts, *evaluation.sets, *evaluation.tasks]
    _check_distinct("evaluation (texts, sets and tasks)", measured)
    _check_distinct("evaluation.track", evaluation.track)
    for name in evaluation.track:
        if name not in measured:
            names = ", ".join(measured) or "none"
            raise ConfigError(
                f"evaluation.track has {name!r}, which is not evaluated; texts, sets and tasks are {names}"
            )
    wide = [name for name in measured if name not in evalsets.LANGUAGES]
    least = 256 if wide else 128  # bytes; the languages are ASCII
    if measured and model.vocab_size < least and (study.pretrain.evaluations or study.pretrain.tracks):
        raise ConfigError(
            f"model.vocab_size is {model.vocab_size}; it must be {least} or more to evaluate {(wide or measured)[0]!r}"
        )
    if study.finetune and model.vocab_size < 256:
        raise ConfigError(f"model.vocab_size is {model.vocab_size}; it must be 256 or more to finetune on bytes")


def _check_stages(study: Study) -> None:
    names: list[str] = []
    for number, stage in enumerate(study.finetune):
        key = f"finetune[{number}]"
        if stage.text not in study.evaluation.texts:
            raise ConfigError(f"{key}.text is {stage.text!r}; evaluation.texts has {sorted(study.evaluation.texts)}")
        for start in stage.starts:
            if start not in STARTS:
                raise ConfigError(f"{key}.starts has {start!r}; known are {', '.join(STARTS)}")
        for part in ("starts", "learning_rates"):
            if not getattr(stage, part):
                raise ConfigError(f"{key}.{part} is empty; it must have one or more")
            _check_distinct(f"{key}.{part}", getattr(stage, part))
        if min(stage.learning_rates) <= 0:
            raise ConfigError(f"{key}.learning_rates has {min(stage.learning_rates)}; each must be more than 0")
        if len(stage.split) != 2 or min(stage.split) <= 0 or sum(stage.split) > 1:
            raise ConfigError(
                f"{key}.split is {stage.split}; it must be two shares above 0, for training and validation, with a "
                "sum of at most 1"
            )
        _check_tokens(f"{key}.", stage, study.model)
        if stage.vocabulary and not 256 < stage.vocabulary <= study.model.vocab_size:
            raise ConfigError(
                f"{key}.vocabulary is {stage.vocabulary}; it must be 0, for bytes, or from 257 to model.vocab_size, "
                f"{study.model.vocab_size}"
            )
        name = stage.name or stage.text
        check_file_name(f"{key}.name", name)
        if name in names:
            raise ConfigError(f"{key}.name is {name!r}, the name of an earlier stage; names must differ")
        names.append(name)


def check_files(study: Study, pretraining: bool) -> None:
    """Checks that the texts exist and are long enough and, if `pretraining`, that dump, recipe file and first weights
    exist. Does not check variants: expand them first. Errors: ConfigError names the key and the file."""
    needed = {f"evaluation.texts.{name}": file for name, file in study.evaluation.texts.items()}
    options = study.pretrain
    if pretraining and options.dump is not None:
        needed["pretrain.dump"] = options.dump
    elif pretraining and is_recipe_file(options.recipe):
        needed["pretrain.recipe"] = options.recipe
    if pretraining and options.start is not None and is_model_file(options.start):
        needed["pretrain.start"] = options.start
    for key, file in needed.items():
        if not (Path(file).is_dir() if key == "pretrain.dump" else Path(file).is_file()):
            raise ConfigError(f"{key} is {file}, which does not exist")
    length = study.model.length
    for name, file in study.evaluation.texts.items():
        if (size := Path(file).stat().st_size) < length:
            raise ConfigError(f"evaluation.texts.{name} has {size} bytes; {length} or more are needed, model.length")
    for number, stage in enumerate(study.finetune):
        size = Path(study.evaluation.texts[stage.text]).stat().st_size
        # Training windows are cut at an offset below the length.
        for part, share, least in zip(("training", "validation"), stage.split, (2 * length - 1, length), strict=True):
            if int(size * share) < least:
                raise ConfigError(
                    f"finetune[{number}].split gives {int(size * share)} bytes of {stage.text!r} for {part}; "
                    f"{least} or more are needed with model.length {length}"
                )
