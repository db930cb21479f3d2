"""Arguments that an earlier version had under another name: the error states the new name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

_RENAMED = {
    "mask": "loss_mask=",
    "shard": "rank= and world_size=",
}


def refuse_old_names(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """A decorator. The function raises TypeError for an argument of `_RENAMED` that it does not have."""
    old = _RENAMED.keys() - inspect.signature(function).parameters.keys()

    @functools.wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        for name in old.intersection(kwargs):
            raise TypeError(f"{function.__qualname__}() has no argument {name}=, which is now {_RENAMED[name]}")
        return function(*args, **kwargs)

    return checked
