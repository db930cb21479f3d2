"""States as plain data: which stream they are of, and the place in it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from iterand import errors
from iterand._position import Place
from iterand._requests import check_range


def identity(
    recipe: str,
    seed: int,
    length: int | None,
    batch_size: int,
    rank: int,
    world_size: int,
    start: int,
    loss_mask: bool,
    fingerprint: bytes | None,
) -> dict[str, Any]:
    """The part "stream" of a state. `recipe` is a preset's name or JSON text; the fingerprint is None until known."""
    if recipe.lstrip().startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):  # the server will say what is wrong with broken JSON
            recipe = json.dumps(json.loads(recipe), sort_keys=True)
    return {
        "recipe": recipe,
        "seed": int(seed),
        "length": None if length is None else int(length),
        "batch_size": int(batch_size),
        "rank": int(rank),
        "world_size": int(world_size),
        "start": int(start),
        "loss_mask": bool(loss_mask),
        "fingerprint": None if fingerprint is None else fingerprint.hex(),
    }


def parse(state: Mapping[str, Any], mine: dict[str, Any]) -> tuple[Place, bytes | None]:
    """The place in a state, and the stream's fingerprint if the state knows it. `mine` is the reader's `identity`.

    Errors: InvalidArgument if it is no state, or one of another stream. FingerprintMismatch if only the fingerprint
    differs: the server had another recipe or engine version under the same name.
    """
    try:
        theirs = dict(state["stream"])
        if "shard" in theirs:
            raise errors.InvalidArgument(
                "state was saved by an earlier version of iterand and cannot be read; give a new stream the next index "
                "as `start` instead"
            )
        check_range("batch_size", theirs["batch_size"], 1, 2**32 - 1)
        place = Place.from_state(state, theirs["batch_size"])
        fingerprint = None if theirs["fingerprint"] is None else bytes.fromhex(theirs["fingerprint"])
        if fingerprint is not None and len(fingerprint) != 32:
            raise ValueError(f"fingerprint has {len(fingerprint)} bytes; it must be 32")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise errors.InvalidArgument(f"state is not what state_dict gave: {error!r}") from error
    if place.position.batches == 0 and place.worker is None:
        theirs["batch_size"] = mine["batch_size"]  # at the end of a round any other batch size can continue
    for name, value in mine.items():
        if name != "fingerprint" and theirs.get(name) != value:
            raise errors.InvalidArgument(f"state is of a stream with {name} {theirs.get(name)!r}, not {value!r}")
    if fingerprint is not None and mine["fingerprint"] not in (None, fingerprint.hex()):
        raise errors.FingerprintMismatch(
            f"state is of a stream with fingerprint {fingerprint.hex()}, not {mine['fingerprint']}"
        )
    return place, fingerprint
