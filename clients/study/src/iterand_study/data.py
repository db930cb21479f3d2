"""Sources of tokens: a server, a server of our own, a dump, a text."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import iterand
import numpy as np
import numpy.typing as npt
import torch
from iterand._server import ServerProcess

from iterand_study import bpe, config, evalsets, parallel


@contextlib.contextmanager
def server(study: config.Study) -> Iterator[str]:
    """The address of the study's server. If it names none, a server of our own runs as long as the context."""
    if study.server is not None:
        yield study.server
        return
    program = shutil.which(study.binary)
    if program is None:
        raise config.ConfigError(f"no server is named, and the program {study.binary!r} to start one is not found")
    with ServerProcess(program) as running:
        yield running.address


# Tokens, rows x length, and their loss mask if the stream has one: true where a token is to be predicted.
Pair = tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]


@dataclass
class Stream:
    """Batches of a stream from some step on, and its description. Iterates over pairs of tokens (int64) and loss mask
    (bool, or None if the stream has none), both rows x length."""

    batches: Iterator[Pair]
    info: dict[str, Any]  # as of `describe`
    waited: float = 0.0  # seconds that training waited for data

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        while True:
            begin = time.perf_counter()
            pair = next(self.batches, None)
            self.waited += time.perf_counter() - begin
            if pair is None:
                return
            tokens, mask = pair
            yield torch.from_numpy(tokens.astype(np.int64)), None if mask is None else torch.from_numpy(mask.copy())


def describe(study: config.Study, address: str | None) -> dict[str, Any]:
    """Describes the study's pretraining stream: recipe, seed, fingerprint, vocab_size, start, shard, FLOPs per token,
    and whether it has loss masks.

    `address` may be None for a dump. FLOPs per token are None for a dump, which does not record them. Errors:
    ConfigError if the stream does not fit the model.
    """
    options, length = study.pretrain, study.model.length
    if options.dump is not None:
        _, sidecar = read_dump(options.dump, length)
        masked = read_loss_masks(options.dump, sidecar) is not None
        info: dict[str, Any] = {"flops_per_token": None, "masked": masked, **sidecar}
    else:
        if address is None:
            raise config.ConfigError("pretraining needs a server or a dump")
        answer = iterand.describe(
            options.recipe, seed=options.stream_seed, length=length, loss_mask=options.loss_mask, server=address
        )
        described = answer.stream
        assert described is not None  # a recipe was named
        info = {
            "recipe": described.recipe,
            "seed": described.seed,
            "fingerprint": described.fingerprint.hex(),
            "engine_version": answer.engine_version,
            "vocab_size": described.vocab_size,
            "flops_per_token": described.cost.flops_per_token,
            "masked": described.recipe.get("loss_mask", False),
            "start": 0,
            "shard": {"rank": 0, "world_size": 1},
        }
    if info["vocab_size"] > study.model.vocab_size:
        raise config.ConfigError(
            f"the stream's tokens are below {info['vocab_size']}; model.vocab_size is {study.model.vocab_size}"
        )
    return info


def stream_key(info: dict[str, Any]) -> dict[str, Any]:
    """The part of a description that determines the tokens: equal for a dump and the stream that it is of."""
    return {key: info[key] for key in ("fingerprint", "start", "shard")}


@contextlib.contextmanager
def stream(study: config.Study, address: str | None, first_step: int, steps: int) -> Iterator[Stream]:
    """The batches first_step .. steps - 1 of the stream that `describe` describes, rows x length each. Of several
    processes (parallel.py) each has its rows of them, a shard of the stream. They come with loss masks if the recipe
    has them or the study asks for them; a dump's, if there are any.

    Errors: ConfigError if a batch cannot be shared among the processes, if a dump has too few sequences, or if it has
    no masks and the study asks for them.
    """
    options, length = study.pretrain, study.model.length
    rank, world_size = parallel.rank(), parallel.world_size()
    if options.batch_size % world_size:
        raise config.ConfigError(
            f"pretrain.batch_size is {options.batch_size}; it must be a multiple of {world_size} processes"
        )
    start, count = first_step * options.batch_size, (steps - first_step) * options.batch_size
    info = describe(study, address)
    if options.dump is not None:
        rows, sidecar = read_dump(options.dump, length)
        if start + count > len(rows):
            raise config.ConfigError(f"{options.dump} has {len(rows)} sequences; {start + count} are needed")
        marks = read_loss_masks(options.dump, sidecar)
        if options.loss_mask and marks is None:
            raise config.ConfigError(
                f"pretrain.loss_mask is true, but {options.dump} has no loss masks; dump it with --loss-mask"
            )

        def batch(at: int) -> Pair:
            chosen = slice(at + rank, at + options.batch_size, world_size)
            return rows[chosen], None if marks is None else marks[chosen]

        yield Stream(map(batch, range(start, start + count, options.batch_size)), info)
        return
    assert address is not None  # checked by describe
    with iterand.stream(
        options.recipe,
        seed=options.stream_seed,
        length=length,
        batch_size=options.batch_size // world_size,
        rank=rank,
        world_size=world_size,
        start=start,
        count=count // world_size,
        expected_fingerprint=bytes.fromhex(info["fingerprint"]),
        loss_mask=options.loss_mask,
        server=address,
    ) as batches:
        yield Stream(((batch.tokens, batch.loss_mask) for batch in batches.batches()), info)


def generation_seconds(study: config.Study, at_most: int | None = None) -> float | None:
    """Core-seconds that making the study's pretraining stream takes, in this process; None for a dump. Counts the time
    that cores were at work, so that other programs disturb it little.

    at_most: of a longer stream, make only about this many tokens and scale.
    """
    options, length = study.pretrain, study.model.length
    if options.dump is not None:
        return None
    tokens = options.tokens if at_most is None else min(at_most, options.tokens)
    with iterand.stream("uniform", length=length, count=1, server=False) as warm_up:  # loads the native module
        list(warm_up)
    begin = time.process_time()
    with iterand.stream(
        options.recipe,
        seed=options.stream_seed,
        length=length,
        count=max(1, tokens // length),
        loss_mask=options.loss_mask,
        server=False,
    ) as sequences:
        for _ in sequences:
            pass
    return (time.process_time() - begin) * options.tokens / tokens


_MASK_SUFFIX = ".loss_mask.json"  # of the sidecar of a dump's masks

# Keys that a dump's sidecar must have.
_SIDECAR = ("file", "dtype", "data_offset", "shape", "fingerprint", "start", "shard", "vocab_size")


def read_dump(folder: str | Path, length: int) -> tuple[npt.NDArray[Any], dict[str, Any]]:
    """The sequences of an `iterand dump` (either format), memory-mapped, and what its sidecar says.

    Errors: ConfigError if the folder holds no dump, or one of another length.
    """
    folder = Path(folder)
    sidecars = [file for file in sorted(folder.glob("*.json")) if not file.name.endswith(_MASK_SUFFIX)]
    if len(sidecars) != 1:
        raise config.ConfigError(
            f"{folder} has {len(sidecars)} JSON files (not counting *{_MASK_SUFFIX}); a dump has one"
        )
    rows, info = _mapped(sidecars[0])
    if rows.shape[1] != length:
        raise config.ConfigError(f"{folder} has sequences of {rows.shape[1]} tokens; model.length is {length}")
    return rows, info


def read_loss_masks(folder: str | Path, tokens: dict[str, Any]) -> npt.NDArray[np.bool_] | None:
    """The loss masks of a dump (`iterand dump --loss-mask`), memory-mapped; None if it has none.

    tokens: what the sidecar of the dump says. Errors: ConfigError if the masks are of other tokens.
    """
    sidecar = next(Path(folder).glob(f"*{_MASK_SUFFIX}"), None)
    if sidecar is None:
        return None
    marks, info = _mapped(sidecar)
    for key in ("shape", "fingerprint", "start", "shard"):
        if info[key] != tokens[key]:
            raise config.ConfigError(
                f"{sidecar} has the masks of other tokens: their {key} is {info[key]}, not {tokens[key]}"
            )
    return marks.view(np.bool_)


def _mapped(sidecar: Path) -> tuple[npt.NDArray[Any], dict[str, Any]]:
    """The array that a dump's sidecar describes, and the sidecar. Errors: ConfigError if a key is missing."""
    info = json.loads(sidecar.read_text())
    missing = [key for key in _SIDECAR if key not in info]
    if missing:
        raise config.ConfigError(f"{sidecar} is not the sidecar of a dump: it lacks {', '.join(missing)}")
    array = np.memmap(
        sidecar.with_name(info["file"]),
        dtype=np.dtype(info["dtype"]).newbyteorder("<"),
        mode="r",
        offset=int(info["data_offset"]),
        shape=tuple(info["shape"]),
    )
    return array, info


@dataclass(frozen=True)
class Text:
    """A real text, split by bytes. Its tokens are bytes, or byte pairs."""

    train: npt.NDArray[Any]
    validation: npt.NDArray[Any]
    test: npt.NDArray[Any]

    @classmethod
    def read(cls, path: str | Path, split: list[float], vocabulary: int = 0) -> Text:
        """vocabulary: of byte pairs, which the training part determines; 0: bytes."""
        data = evalsets.read_text(path)
        first, second = int(len(data) * split[0]), int(len(data) * (split[0] + split[1]))
        parts = [data[:first], data[first:second], data[second:]]
        return cls(*(bpe.encode(parts, vocabulary) if vocabulary else parts))

    def batches(self, length: int, batch_size: int, steps: int, seed: int) -> Iterator[torch.Tensor]:
        """Windows of the training part in an order that the seed determines, without repetition within an epoch.

        The text is cut into windows at an offset that each epoch draws again.
        """
        rng = np.random.default_rng(seed)
        queue: list[int] = []
        for _ in range(steps):
            while len(queue) < batch_size:
                offset = int(rng.integers(length))
                starts = np.arange(offset, len(self.train) - length + 1, length)
                if not len(starts):
                    raise config.ConfigError(f"the text's training part has {len(self.train)} tokens; too few")
                queue.extend(rng.permutation(starts).tolist())
            chosen, queue = queue[:batch_size], queue[batch_size:]
            yield torch.from_numpy(np.stack([self.train[at : at + length] for at in chosen]).astype(np.int64))
