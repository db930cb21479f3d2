"""What a server says about itself and about a recipe."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from iterand.v1 import noise_service_pb2 as service


@dataclass(frozen=True)
class Cost:
    """What a stream costs.

    flops_per_token: expected; 0 where a family does integer work only.
    segment_bytes: tokens of one segment in memory.
    first_batch_sequences: sequences that are generated before the first batch of 64 rows is ready.

    >>> iterand.describe("lstm").stream.cost.flops_per_token > 0
    True
    """

    flops_per_token: float
    segment_bytes: int
    first_batch_sequences: int


@dataclass(frozen=True)
class PartInfo:
    """A part of a mixture.

    name: "OUTER/INNER" in a nested mixture.
    share: of the segments, at the index that was asked about.
    flops_per_token: as in Cost.

    >>> mixture = {"mixture": [{"preset": "markov", "weight": 3}, {"preset": "dyck"}]}
    >>> [(part.name, part.share) for part in iterand.describe(mixture).stream.parts]
    [('markov', 0.75), ('dyck', 0.25)]
    """

    name: str
    share: float
    flops_per_token: float


@dataclass(frozen=True)
class StreamInfo:
    """What a recipe resolves to.

    recipe: as JSON, every default written out.
    fingerprint: 32 bytes that name the stream.
    dtype: of the tokens: "uint8", "uint16" or "uint32".
    max_batch_size: most rows that this server sends in one batch; 0 if it is too old to say.
    parts: of a mixture, in the order of `Batch.parts`.

    >>> info = iterand.describe("up", length=128).stream
    >>> info.length, info.vocab_size, info.lanes, info.dtype
    (128, 256, 32, 'uint8')
    """

    recipe: dict[str, Any]
    seed: int
    fingerprint: bytes
    dtype: str
    cost: Cost
    max_batch_size: int
    parts: tuple[PartInfo, ...] = ()

    @property
    def length(self) -> int:
        return int(self.recipe["length"])

    @property
    def vocab_size(self) -> int:
        return int(self.recipe["vocab_size"])

    @property
    def lanes(self) -> int:
        return int(self.recipe["lanes"])

    def _repr_html_(self) -> str:
        from iterand import _notebook

        return _notebook.of_info(self)


@dataclass(frozen=True)
class FamilyInfo:
    """A class of random computations.

    summary: one line for people.
    reads_input: whether its programs transform rows; if not, they are sources.

    >>> {family.name: family.reads_input for family in iterand.describe().families}["lstm"]
    True
    """

    name: str
    summary: str
    reads_input: bool


@dataclass(frozen=True)
class Description:
    """The answer to `describe`.

    presets: descriptions by name.
    stream: None if no recipe was given.

    >>> "up-zero-shot" in iterand.describe().presets
    True
    """

    engine_version: int
    presets: dict[str, str]
    families: tuple[FamilyInfo, ...]
    stream: StreamInfo | None

    def _repr_html_(self) -> str:
        from iterand import _notebook

        return _notebook.of_description(self)


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
