"""States of streams as plain data: which stream, and the position in it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from iterand import errors
from iterand._requests import check_range

_VERSION = 1


@dataclass(frozen=True)
class Name:
    """What was requested: two streams of equal names and one engine version are equal."""

    recipe: str  # a preset's name or JSON text
    seed: int
    length: int | None  # None: the recipe's own
    loss_mask: bool

    @staticmethod
    def of(preset: str | None, text: str | None, seed: int, length: int | None, loss_mask: bool) -> Name:
        recipe = preset if text is None else text
        if text is not None:
            with contextlib.suppress(ValueError, RecursionError):  # what is wrong with broken JSON is said elsewhere
                recipe = json.dumps(json.loads(text), sort_keys=True)
        return Name(str(recipe), int(seed), None if length is None else int(length), bool(loss_mask))

    def __str__(self) -> str:
        recipe = "own recipe" if self.recipe.lstrip().startswith("{") else self.recipe
        length = "" if self.length is None else f", length {self.length}"
        return f"{recipe}, seed {self.seed}{length}"


def to_dict(name: Name, fingerprint: bytes | None, next_index: int) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "fingerprint": None if fingerprint is None else fingerprint.hex(),
        "recipe": name.recipe,
        "seed": name.seed,
        "length": name.length,
        "loss_mask": name.loss_mask,
        "next_index": next_index,
    }


def check(
    state: Mapping[str, Any], mine: Name, known: bytes | None, resolve: Callable[[], tuple[bytes, int]] | None
) -> tuple[int, bytes | None]:
    """The position in a state of the stream `mine`, and the fingerprint to demand from now on.

    known: the fingerprint of `mine`, if it is known.
    resolve: finds the fingerprint and the engine version. It is called only if the names differ. Without it, equal
        names count as equal streams, and other names are refused.
    Errors: InvalidArgument if it is not a state; FingerprintMismatch if it is of another stream.
    """
    if isinstance(state, Mapping) and "stream" in state and "position" in state:
        raise errors.InvalidArgument(
            "state was saved by an earlier version of iterand, whose workers had another order, and cannot be read; "
            "begin a new stream at start = the old start + steps * batch_size * world_size"
        )
    try:
        theirs = Name(state["recipe"], state["seed"], state["length"], state["loss_mask"])
        version, next_index, text = state["version"], state["next_index"], state["fingerprint"]
        fingerprint = None if text is None else bytes.fromhex(text)
        check_range("next_index", next_index, 0, 2**65)
        if fingerprint is not None and len(fingerprint) != 32:
            raise ValueError(f"fingerprint has {len(fingerprint)} bytes; it must be 32")
    except (KeyError, TypeError, ValueError) as error:
        raise errors.InvalidArgument(f"state is not what state_dict gave: {error!r}") from error
    if version != _VERSION:
        raise errors.InvalidArgument(f"state has version {version}; this package reads version {_VERSION}")
    different = [
        f"{field} {getattr(theirs, field)!r}, not {getattr(mine, field)!r}"
        for field in ("recipe", "seed", "length", "loss_mask")
        if getattr(theirs, field) != getattr(mine, field)
    ]
    if different and known is None and fingerprint is not None and resolve is not None:
        known, _ = resolve()
    if different and (fingerprint is None or fingerprint != known):
        raise errors.FingerprintMismatch(
            f"state is of a stream with {'; '.join(different)}: make the stream with what the state says"
        )
    if fingerprint is None or known is None or fingerprint == known:
        return int(next_index), fingerprint or known
    version = "" if resolve is None else f", of engine version {resolve()[1]},"
    raise errors.FingerprintMismatch(
        f"state is of a stream with fingerprint {fingerprint.hex()}; this one{version} has {known.hex()} under the "
        "same recipe, seed and length: it was saved by another engine version, or by one whose preset "
        f"{mine.recipe!r} was another. Install the version that saved it, or begin a new stream at start={next_index}"
    )
