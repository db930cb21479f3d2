"""Results, checkpoints and weights on disk. Each file is complete or absent."""

from __future__ import annotations

import contextlib
import fcntl
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from iterand_study import config
from iterand_study.model import Transformer

# What PyTorch raises for a file that it did not write, or that holds something else.
UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, AttributeError)


def write_json(path: Path, value: Any) -> None:
    """Writes plain data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(json.dumps(value, indent=1) + "\n")
    scratch.replace(path)


@contextlib.contextmanager
def lock(path: Path, wait: bool = True) -> Iterator[bool]:
    """Keeps other processes of this machine out of what `path` names, by the file PATH.lock. Waits for them, or yields
    False at once if one of them has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as file:
        held = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)  # until the file is closed
        except BlockingIOError:
            held = False
        yield held


def read_json(path: Path) -> dict[str, Any] | None:
    """A result that was written before; None if there is none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        result: dict[str, Any] = json.loads(path.read_text())
        return result
    return None


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes a checkpoint or weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".part")
    torch.save(state, scratch)
    scratch.replace(path)


def save_model(path: Path, model: Transformer) -> None:
    """Writes a model's weights and shape."""
    save(path, {"model": model.state_dict(), "shape": config.to_dict(model.shape)})


def load_model(path: Path) -> Transformer:
    """A model that `save_model` wrote. Errors: ConfigError for any other file, OSError if it cannot be read."""
    try:
        saved = torch.load(path, map_location="cpu")
        model = Transformer(config.from_dict(config.Model, saved["shape"]))
        model.load_state_dict(saved["model"])
    except UNREADABLE as error:
        raise config.ConfigError(f"{path} is not a model of a study; it must be a model.pt") from error
    return model
