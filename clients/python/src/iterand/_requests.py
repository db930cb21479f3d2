"""Requests for streams, made from a caller's arguments: recipes in all their forms, shards, ranges.

Only the functions that make messages import protobuf: a stream of this process does without it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias, TypeGuard

import numpy as np

from iterand import errors

if TYPE_CHECKING:
    from iterand.v1 import noise_service_pb2 as service
    from iterand.v1 import recipe_pb2

RecipeLike: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | recipe_pb2.Recipe"
"""A preset's name, the path of a JSON file, JSON text, a dict, or the message.

>>> forms = ["markov", "mine.json", '{"families": [{"markov": {}}]}', {"families": [{"markov": {}}]}]
>>> [iterand.read(recipe, 0, length=128).shape for recipe in forms]
[(1, 128), (1, 128), (1, 128), (1, 128)]
"""


def is_recipe_file(recipe: object) -> bool:
    """Whether a recipe is the path of a file: a / in it or .json at its end, but not JSON text."""
    if isinstance(recipe, str):
        return not recipe.lstrip().startswith("{") and ("/" in recipe or recipe.endswith(".json"))
    return isinstance(recipe, os.PathLike)


def recipe_text(recipe: RecipeLike) -> tuple[str | None, str | None]:
    """A recipe as (preset name, None) or (None, JSON text).

    `recipe` is a preset's name, a dict, JSON text, or the path of a JSON file. A string that begins with a brace is
    JSON text. One that has a / in it or ends with .json is a path, any other a name. Errors: InvalidRecipe for an
    unreadable file or broken JSON.
    """
    if _is_message(recipe):
        from google.protobuf import json_format

        return None, json_format.MessageToJson(recipe, preserving_proto_field_name=True)
    if isinstance(recipe, Mapping):
        try:
            return None, json.dumps(recipe, allow_nan=False, default=_plain)
        except (TypeError, ValueError) as error:
            raise errors.InvalidRecipe(f"recipe cannot be written as JSON: {error}") from error
    if isinstance(recipe, str) and not is_recipe_file(recipe):
        return (None, recipe) if recipe.lstrip().startswith("{") else (recipe, None)
    if not isinstance(recipe, (str, os.PathLike)):
        raise errors.InvalidRecipe(
            f"recipe is a {type(recipe).__name__}; it must be a name, a dict, JSON text or a path"
        )
    try:
        return None, Path(recipe).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise errors.InvalidRecipe(f"recipe file {os.fspath(recipe)}: {error}") from error


def _is_message(recipe: object) -> TypeGuard[recipe_pb2.Recipe]:
    # Without the module there is no such object, nor while another thread imports it.
    message = getattr(sys.modules.get("iterand.v1.recipe_pb2"), "Recipe", None)
    return message is not None and isinstance(recipe, message)


def _plain(value: Any) -> Any:
    """Converts a number of numpy's to Python's own."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"it holds {value!r}, a {type(value).__name__}")


def stream_spec(
    recipe: RecipeLike, seed: int, length: int | None, expected_fingerprint: bytes | None, loss_mask: bool = False
) -> service.StreamSpec:
    check_spec(seed, length, expected_fingerprint, loss_mask)
    from iterand.v1 import noise_service_pb2 as service

    preset, text = recipe_text(recipe)
    spec = service.StreamSpec(
        preset=preset, recipe_json=text, seed=seed, length=length, expected_fingerprint=expected_fingerprint
    )
    if loss_mask:  # if not, the recipe decides
        spec.loss_mask = True
    return spec


def check_spec(seed: int, length: int | None, expected_fingerprint: bytes | None, loss_mask: bool) -> None:
    """Errors: InvalidArgument for what names no stream."""
    check_range("seed", seed, 0, 2**64 - 1)
    if expected_fingerprint is not None and not (
        isinstance(expected_fingerprint, bytes) and len(expected_fingerprint) == 32
    ):
        raise errors.InvalidArgument(
            f"expected_fingerprint is {expected_fingerprint!r}; it must be 32 bytes, such as Stream.fingerprint"
        )
    if length is not None:
        check_range("length", length, 0, 2**32 - 1)  # the server knows what is allowed
    check_bool("loss_mask", loss_mask)


def check_range(name: str, value: int, low: int, high: int) -> None:
    """Errors: InvalidArgument unless `value` is a whole number, Python's or numpy's, within [low, high]."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise errors.InvalidArgument(f"{name} is {value!r}; it must be a whole number")
    if not low <= value <= high:
        raise errors.InvalidArgument(f"{name} is {value}; it must be from {low} to {high}")


def check_bool(name: str, value: bool) -> None:
    """Errors: InvalidArgument unless `value` is True or False, Python's or numpy's."""
    if not isinstance(value, bool | np.bool_):
        raise errors.InvalidArgument(f"{name} is {value!r}; it must be True or False")


def check_prefetch(prefetch: int) -> None:
    check_range("prefetch", prefetch, 1, 2**20)


def check_timeout(timeout: float | None) -> None:
    """Errors: InvalidArgument unless it is None or a number of seconds above 0."""
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise errors.InvalidArgument(f"timeout is {timeout!r}; it must be more than 0 seconds, or None for no limit")


@dataclass(frozen=True)
class Shard:
    """What one reader of a stream takes, in batches of up to `batch_size` rows.

    Row i of global batch t has the index start + t * G + i, where G = batch_size * world_size. Of each global batch the
    reader has the rows rank, rank + world_size, ...; with `every` of the global batches 0, every, 2 * every, ... alone.
    The shard ends before the index start + count * world_size.
    """

    batch_size: int = 64
    rank: int = 0
    world_size: int = 1
    start: int = 0
    count: int | None = None
    every: int = 1

    def __post_init__(self) -> None:
        check_range("world_size", self.world_size, 1, 2**32 - 1)
        check_range("rank", self.rank, 0, self.world_size - 1)
        check_range("batch_size", self.batch_size, 1, 2**31 - 1)
        check_range("start", self.start, 0, 2**64 - 1)
        if self.count is not None:
            check_range("count", self.count, 0, 2**64 - 1)
