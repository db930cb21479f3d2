"""Structured noise for pretraining: streams of iterated random computation.

    import iterand

    for tokens in iterand.stream("localhost:50051", recipe="up", seed=0, length=512, batch_size=64):
        ...  # a numpy array, 64 x 512

A stream is a pure function of (recipe, seed, index). `iterand.torch` has datasets for PyTorch.
"""

import iterand._grpc_log  # noqa: F401
from iterand._connection import Retry, Tls
from iterand._description import Cost, Description, FamilyInfo, PartInfo, StreamInfo
from iterand._execute import Execution, InputTape
from iterand._requests import RecipeLike
from iterand._stream import Stream
from iterand._wire import Batch, Mask, Parts, Provenance, Tokens
from iterand.client import Client, describe, execute, read, stream
from iterand.errors import (
    Cancelled,
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

__all__ = [
    "Batch",
    "Cancelled",
    "Client",
    "Cost",
    "DeadlineExceeded",
    "Description",
    "Error",
    "Execution",
    "FamilyInfo",
    "FingerprintMismatch",
    "ForkedProcess",
    "InputTape",
    "InvalidArgument",
    "InvalidRecipe",
    "Mask",
    "OutOfRange",
    "PartInfo",
    "Parts",
    "ProtocolError",
    "Provenance",
    "RecipeLike",
    "ResourceExhausted",
    "Retry",
    "Starved",
    "Stream",
    "StreamInfo",
    "Tls",
    "Tokens",
    "Unauthenticated",
    "Unavailable",
    "UnknownPreset",
    "describe",
    "execute",
    "read",
    "stream",
]
