"""Structured noise for pretraining: streams of iterated random computation.

    import iterand

    for tokens in iterand.stream("up", length=512, batch_size=64):
        ...  # a numpy array, 64 x 512

A stream is a pure function of (recipe, seed, index). It is made in this process, or by a server: `server="host:port"`.
`iterand.torch` has datasets for PyTorch. `iterand.hf`, `iterand.grain` and `iterand.ray` have adapters for Hugging
Face, Grain and Ray Data.

Importing this package imports nothing else: each name brings what it needs when it is first used.
"""

from __future__ import annotations

from iterand import _processor

_processor.check()

TYPE_CHECKING = False  # like typing's, whose import would take most of the time of this one
if TYPE_CHECKING:
    from iterand._batch import Batch, LossMask, Parts, Provenance, Tokens
    from iterand._connection_options import Retry, Tls
    from iterand._description import Cost, Description, FamilyInfo, PartInfo, StreamInfo
    from iterand._execute import Execution, InputTape
    from iterand._explanation import Explanation, Step
    from iterand._index_dataset import IndexDataset
    from iterand._mix import Mix, mix
    from iterand._picture import Picture, picture
    from iterand._requests import RecipeLike
    from iterand._server import Server
    from iterand._stream import Stream
    from iterand.api import complexity, describe, execute, explain, read, set_threads, stream
    from iterand.client import Client
    from iterand.errors import (
        Cancelled,
        ConcurrentUse,
        DeadlineExceeded,
        Error,
        FingerprintMismatch,
        ForkedProcess,
        InvalidArgument,
        InvalidRecipe,
        OutOfRange,
        ProtocolError,
        ResourceExhausted,
        Starved,
        Unauthenticated,
        Unavailable,
        UnknownPreset,
    )

__version__ = "0.1.0"

# Where the public names are defined.
_MODULES = {
    "_batch": ("Batch", "LossMask", "Parts", "Provenance", "Tokens"),
    "_connection_options": ("Retry", "Tls"),
    "_description": ("Cost", "Description", "FamilyInfo", "PartInfo", "StreamInfo"),
    "_execute": ("Execution", "InputTape"),
    "_explanation": ("Explanation", "Step"),
    "_index_dataset": ("IndexDataset",),
    "_mix": ("Mix", "mix"),
    "_picture": ("Picture", "picture"),
    "_requests": ("RecipeLike",),
    "_server": ("Server",),
    "_stream": ("Stream",),
    "api": ("complexity", "describe", "execute", "explain", "read", "set_threads", "stream"),
    "client": ("Client",),
    "errors": (
        "Cancelled",
        "ConcurrentUse",
        "DeadlineExceeded",
        "Error",
        "FingerprintMismatch",
        "ForkedProcess",
        "InvalidArgument",
        "InvalidRecipe",
        "OutOfRange",
        "ProtocolError",
        "ResourceExhausted",
        "Starved",
        "Unauthenticated",
        "Unavailable",
        "UnknownPreset",
    ),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Batch",
    "Cancelled",
    "Client",
    "ConcurrentUse",
    "Cost",
    "DeadlineExceeded",
    "Description",
    "Error",
    "Execution",
    "Explanation",
    "FamilyInfo",
    "FingerprintMismatch",
    "ForkedProcess",
    "IndexDataset",
    "InputTape",
    "InvalidArgument",
    "InvalidRecipe",
    "LossMask",
    "Mix",
    "OutOfRange",
    "PartInfo",
    "Parts",
    "Picture",
    "ProtocolError",
    "Provenance",
    "RecipeLike",
    "ResourceExhausted",
    "Retry",
    "Server",
    "Starved",
    "Step",
    "Stream",
    "StreamInfo",
    "Tls",
    "Tokens",
    "Unauthenticated",
    "Unavailable",
    "UnknownPreset",
    "complexity",
    "describe",
    "execute",
    "explain",
    "mix",
    "picture",
    "read",
    "set_threads",
    "stream",
]

_SUBMODULES = ("client", "errors", "grain", "hf", "live", "ray", "torch")


def __getattr__(name: str) -> object:
    import importlib

    if name in _MODULE_OF:
        value = getattr(importlib.import_module(f"iterand.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value
    if name in _SUBMODULES:
        return importlib.import_module(f"iterand.{name}")
    raise AttributeError(f"module 'iterand' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
