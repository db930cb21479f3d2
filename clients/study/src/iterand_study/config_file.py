"""Reads the configuration of a study from a JSON or TOML file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from iterand._requests import is_recipe_file

from iterand_study import checks, variants
from iterand_study.config import ConfigError, Study, from_dict, is_model_file


def load(path: str | Path) -> Study:
    """Reads a JSON or TOML file. Paths of texts, dumps and recipe files in it and in its variants are relative to it.

    Errors: ConfigError names the key, in the configuration itself or in a variant. Does not check that the files exist:
    checks.check_files does.
    """
    path = Path(path)
    try:
        if path.suffix == ".toml":
            try:
                import tomllib
            except ImportError:
                raise ConfigError("TOML needs Python 3.11; write the configuration as JSON") from None
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        else:
            table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    typed = from_dict(Study, table)
    variants.expand(typed)  # all variants must be well formed before their paths are resolved
    for each in (table, *typed.variants.values()):
        _resolve(each, path.resolve().parent)
    study = from_dict(Study, table)
    checks.check(study)
    return study


def _resolve(table: dict[str, Any], folder: Path) -> None:
    """Makes the paths of a configuration, or of a variant's changes to it, absolute in place."""
    pretrain, evaluation = table.get("pretrain", {}), table.get("evaluation", {})
    if is_recipe_file(pretrain.get("recipe")):
        pretrain["recipe"] = str(folder / pretrain["recipe"])
    if pretrain.get("dump") is not None:
        pretrain["dump"] = str(folder / pretrain["dump"])
    if is_model_file(pretrain.get("start")):
        pretrain["start"] = str(folder / pretrain["start"])
    if "texts" in evaluation:
        evaluation["texts"] = {name: str(folder / file) for name, file in evaluation["texts"].items()}
