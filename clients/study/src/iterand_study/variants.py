"""The variants of a study: configurations that differ from it in a few keys."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from iterand_study.config import ConfigError, Study, from_dict, to_dict


@contextlib.contextmanager
def name_in_errors(name: str) -> Iterator[None]:
    """Adds the name of the variant to ConfigErrors."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"variants.{name}: {error}") from None


def expand(study: Study) -> dict[str, Study]:
    """The variants by name, each as a study of its own. A study without variants is its own only variant.

    Errors: ConfigError if a variant changes an unknown key.
    """
    if not study.variants:
        return {study.name: study}
    found = {}
    for name, changes in study.variants.items():
        with name_in_errors(name):
            if not isinstance(changes, dict):
                raise ConfigError(f"{changes!r} must be a table")
            for key in ("name", "server", "binary", "variants", "first", "seeds"):
                if key in changes:
                    raise ConfigError(f"{key} is of the whole study; a variant cannot change it")
            found[name] = from_dict(Study, merge({**to_dict(study), "variants": {}}, changes))
    return found


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Plain data with the changes of a variant: tables are merged by key, recipes and all other values are replaced."""
    result = dict(base)
    for key, value in changes.items():
        inner = result.get(key)
        if isinstance(inner, dict) and isinstance(value, dict) and key not in ("recipe", "texts"):
            result[key] = merge(inner, value)
        else:
            result[key] = value
    return result
