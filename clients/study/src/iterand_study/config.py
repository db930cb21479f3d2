"""The configuration of a study as dataclasses, and plain data (JSON's) to and from them.

A configuration describes its runs completely: it names the seeds, and a stream is a function of recipe and seed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from dataclasses import dataclass, field
from typing import Any, TypeVar

_T = TypeVar("_T")

PRECISIONS = ("auto", "float32", "bfloat16")  # of Study.precision
# Made by tasks.py. For names that end in -first only the first tokens of answers count.
TASKS = ("copy", "reverse", "stack", "recall", "sum", "copy-first", "reverse-first")
STARTS = ("scratch", "pretrained", "fresh")  # of Finetune.starts; defined in finetune.py


class ConfigError(ValueError):
    """The configuration is wrong. The message names the key."""


@dataclass(frozen=True)
class Model:
    """A decoder-only transformer (model.py)."""

    width: int = 128
    depth: int = 4
    head_width: int = 32
    length: int = 128
    vocab_size: int = 256
    base_width: int = 128  # learning rates are those of this width; others are scaled from it (muP)
    tied: bool = False  # the output head is the embedding
    smear: bool = False  # each key is mixed with the one before it
    convolution: int = 0  # positions that each query, key and value is mixed from, its own the last; 0: only its own
    dropout: float = 0.0


@dataclass(frozen=True)
class Optimizer:
    """AdamW with warm-up and a cosine."""

    learning_rate: float = 2e-3  # of hidden matrices at base_width, and of embeddings at any width
    warmup_share: float = 0.05  # of the steps
    final_share: float = 0.1  # of the learning rate, at the end
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0


@dataclass(frozen=True)
class Pretrain:
    """One pass over a stream."""

    recipe: Any = "up"  # preset name, recipe, or path of a JSON file
    stream_seed: int = 0  # a sweep adds each of its seeds
    dump: str | None = None  # folder of an `iterand dump`, read instead of a server
    loss_mask: bool = False  # request loss masks; with masks the loss counts only the marked tokens
    # The weights to start from, of the same shape: the path of a model.pt. In a sweep also an earlier variant, whose
    # run of the same seed is taken. None: random weights.
    start: str | None = None
    tokens: int = 2_000_000
    batch_size: int = 64
    optimizer: Optimizer = field(default_factory=Optimizer)
    log_every: int = 20  # steps
    evaluations: int = 4  # zero-shot evaluations, evenly spaced, the last at the end; 0: none
    tracks: int = 0  # evaluations of only Evaluation.track, evenly spaced
    checkpoints: int = 4  # evenly spaced; an interrupted run resumes from the last


@dataclass(frozen=True)
class Evaluation:
    """Zero-shot prediction."""

    sets: list[str] = field(
        default_factory=lambda: (
            "champ dyck ndfa toy toy2 bits bitsrep bitsflip aut rep-1 rep-3 rep-10".split()  # noqa: SIM905
        )
    )
    texts: dict[str, str] = field(default_factory=dict)  # name -> file
    windows: int = 200
    seed: int = 0
    tasks: list[str] = field(default_factory=lambda: [name for name in TASKS if not name.endswith("-first")])
    references: bool = False  # compressors as well as the Markov baselines
    track: list[str] = field(default_factory=list)  # sets, texts and tasks whose curves are recorded


@dataclass(frozen=True)
class Finetune:
    """Training on a real text, from pretrained weights and from scratch, on the same data in the same order."""

    text: str = ""  # name in Evaluation.texts
    name: str = ""  # of the stage, where a text has several; default: the text's
    vocabulary: int = 0  # byte pairs (bpe.py), trained on the text's training part; at most model.vocab_size; 0: bytes
    split: list[float] = field(default_factory=lambda: [0.8, 0.1])  # shares for training and validation; rest: test
    tokens: int = 1_000_000
    batch_size: int = 64
    learning_rates: list[float] = field(default_factory=lambda: [1e-3, 2e-3])
    optimizer: Optimizer = field(default_factory=Optimizer)  # without its learning rate, which comes from the list
    evaluations: int = 20
    validation_windows: int = 200
    data_seed: int | None = None  # of the order of the real data; none: the study's seed
    starts: list[str] = field(default_factory=lambda: [*STARTS])  # fresh: new embedding, head
    shrink: float = 1.0  # pretrained weights times this, plus (1 - this) times fresh ones
    held_out: bool = False  # no recipe was chosen on this text; run after the others and reported apart


@dataclass(frozen=True)
class Study:
    """The whole file."""

    name: str = "study"
    server: str | None = None  # host:port; None: `binary` is started for the run
    binary: str = "iterand"
    device: str = "auto"  # auto, cpu, cuda
    threads: int = 0  # of PyTorch on the CPU; 0: its own choice
    compile: bool = False
    precision: str = "auto"  # of training: float32, bfloat16 (weights stay float32); auto: bfloat16 on a GPU only
    seed: int = 0  # of the model
    model: Model = field(default_factory=Model)
    pretrain: Pretrain = field(default_factory=Pretrain)
    evaluation: Evaluation = field(default_factory=Evaluation)
    finetune: list[Finetune] = field(default_factory=list)
    variants: dict[str, Any] = field(default_factory=dict)  # arms of a sweep: name -> the keys of this file it changes
    first: list[str] = field(default_factory=list)  # variants that run with all seeds before the others
    seeds: list[int] = field(default_factory=lambda: [0])  # of a sweep: model and stream


def _convert(kind: Any, value: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return from_dict(typing.cast(type, kind), value, path)
    if origin is list:
        if not isinstance(value, list):
            raise ConfigError(f"{path} is {value!r}; it must be a list")
        return [_convert(arguments[0], item, f"{path}[{place}]") for place, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{path} is {value!r}; it must be a table")
        return {key: _convert(arguments[1], item, f"{path}.{key}") for key, item in value.items()}
    if arguments and type(None) in arguments:  # X | None
        return None if value is None else _convert(arguments[0], value, path)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 2e6
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{path} is {value!r}; it must be {kind.__name__}")
    return value


def from_dict(kind: type[_T], value: Any, path: str = "") -> _T:
    """A configuration from JSON's plain data. Errors: ConfigError that names the key."""
    if not isinstance(value, dict):
        raise ConfigError(f"{path or 'configuration'} is {value!r}; it must be a table")
    kinds = typing.get_type_hints(kind)
    for key in value:
        if key not in kinds:
            raise ConfigError(f"{path + '.' if path else ''}{key} is unknown; known are {', '.join(kinds)}")
    return kind(
        **{key: _convert(kinds[key], item, f"{path + '.' if path else ''}{key}") for key, item in value.items()}
    )


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain data, with every default."""
    result: dict[str, Any] = dataclasses.asdict(config)
    return result


def digest(*parts: Any) -> str:
    """A short name for plain data. Equal parts have equal names."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def is_model_file(start: Any) -> bool:
    """Whether the weights to start from are the path of a file and not the name of a variant."""
    return isinstance(start, str) and start.endswith(".pt")
