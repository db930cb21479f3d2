"""What a server says about itself and about a recipe."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from iterand.v1 import noise_service_pb2 as service


@dataclass(frozen=True)
class Cost:
    """What a stream costs: see Cost in noise_service.proto."""

    flops_per_token: float
    segment_bytes: int
    first_batch_sequences: int


@dataclass(frozen=True)
class PartInfo:
    """A part of a mixture."""

    name: str  # "OUTER/INNER" in a nested mixture
    share: float  # of the segments, at the index that was asked about
    flops_per_token: float


@dataclass(frozen=True)
class StreamInfo:
    """What a recipe resolves to."""

    recipe: dict[str, Any]  # as JSON, every default written out
    seed: int
    fingerprint: bytes
    dtype: str
    cost: Cost
    max_batch_size: int  # most rows that this server sends in one batch; 0 if it is too old to say
    parts: tuple[PartInfo, ...] = ()  # of a mixture, in the order of `Batch.parts`

    @property
    def length(self) -> int:
        return int(self.recipe["length"])

    @property
    def vocab_size(self) -> int:
        return int(self.recipe["vocab_size"])

    @property
    def lanes(self) -> int:
        return int(self.recipe["lanes"])


@dataclass(frozen=True)
class FamilyInfo:
    """A class of random computations."""

    name: str
    summary: str
    reads_input: bool


@dataclass(frozen=True)
class Description:
    """A server's answer to `describe`."""

    engine_version: int
    presets: dict[str, str]  # name -> description
    families: tuple[FamilyInfo, ...]
    stream: StreamInfo | None


def description(answer: service.DescribeResponse) -> Description:
    """From the message."""
    info: StreamInfo | None = None
    if answer.HasField("stream"):
        found = answer.stream
        info = StreamInfo(
            recipe=json.loads(found.recipe_json),
            seed=found.seed,
            fingerprint=found.fingerprint,
            dtype=service.Dtype.Name(found.dtype).removeprefix("DTYPE_").lower(),
            cost=Cost(found.cost.flops_per_token, found.cost.segment_bytes, found.cost.first_batch_sequences),
            max_batch_size=found.max_batch_size,
            parts=tuple(PartInfo(part.name, part.share, part.flops_per_token) for part in found.parts),
        )
    return Description(
        engine_version=answer.engine_version,
        presets={preset.name: preset.description for preset in answer.presets},
        families=tuple(FamilyInfo(family.name, family.summary, family.reads_input) for family in answer.families),
        stream=info,
    )
