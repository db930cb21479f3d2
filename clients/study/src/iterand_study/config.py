"""The configuration of a study: one JSON or TOML file. Unknown keys and values of the wrong type are refused.

Every run is made again by its configuration alone: it names the seeds, and the stream is a function of recipe and seed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import operator
import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")

PRECISIONS = ("auto", "float32", "bfloat16")  # of Study.precision
# tasks.py makes them; of those with "first" in their names the first tokens of answers alone count.
TASKS = ("copy", "reverse", "stack", "recall", "sum", "copy-first", "reverse-first")
STARTS = ("scratch", "pretrained", "fresh")  # of Finetune.starts; finetune.py says what they are


class ConfigError(ValueError):
    """The configuration is wrong; the text names the key."""


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
    convolution: int = 0  # places that each query, key and value is mixed from, its own the last; 0: its own alone
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
    dump: str | None = None  # instead of a server: the folder of an `iterand dump`
    mask: bool = False  # ask for loss masks; the loss of a stream with masks counts the marked tokens alone
    # The weights to go on from, of the same shape: path of a model.pt, or in a sweep an earlier variant, of the same
    # seed; none: random ones
    start: str | None = None
    tokens: int = 2_000_000
    batch_size: int = 64
    optimizer: Optimizer = field(default_factory=Optimizer)
    log_every: int = 20  # steps
    evaluations: int = 4  # zero-shot evaluations, evenly spaced, the last at the end; 0: none
    tracks: int = 0  # evaluations of Evaluation.track alone, evenly spaced
    checkpoints: int = 4  # evenly spaced; an interrupted run goes on from the last


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
    references: bool = False  # compressors beside the Markov baselines
    track: list[str] = field(default_factory=list)  # sets, texts and tasks whose curves are wanted


@dataclass(frozen=True)
class Finetune:
    """Training on a real text, from pretrained weights and from scratch, on the same data in the same order."""

    text: str = ""  # name in Evaluation.texts
    name: str = ""  # of the stage, where a text has several; default: the text's
    split: list[float] = field(default_factory=lambda: [0.8, 0.1])  # shares for training and validation; rest: test
    tokens: int = 1_000_000
    batch_size: int = 64
    learning_rates: list[float] = field(default_factory=lambda: [1e-3, 2e-3])
    optimizer: Optimizer = field(default_factory=Optimizer)  # its learning rate gives way to the list
    evaluations: int = 20
    validation_windows: int = 200
    data_seed: int | None = None  # of the order of the real data; none: the study's seed
    starts: list[str] = field(default_factory=lambda: [*STARTS])  # fresh: new embedding, head
    shrink: float = 1.0  # pretrained weights times this, plus (1 - this) times fresh ones


@dataclass(frozen=True)
class Study:
    """The whole file."""

    name: str = "study"
    server: str | None = None  # host:port; none: a server is started for the run from the binary `iterand`
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
    seeds: list[int] = field(default_factory=lambda: [0])  # of a sweep: model and stream


def _convert(kind: Any, value: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return from_plain(typing.cast(type, kind), value, path)
    if origin is list:
        if not isinstance(value, list):
            raise ConfigError(f"{path} is {value!r}; a list is wanted")
        return [_convert(arguments[0], item, f"{path}[{place}]") for place, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{path} is {value!r}; a table is wanted")
        return {key: _convert(arguments[1], item, f"{path}.{key}") for key, item in value.items()}
    if arguments and type(None) in arguments:  # X | None
        return None if value is None else _convert(arguments[0], value, path)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 2e6
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{path} is {value!r}; {kind.__name__} is wanted")
    return value


def from_plain(kind: type[_T], value: Any, path: str = "") -> _T:
    """A configuration from JSON's plain data. Errors: ConfigError that names the key."""
    if not isinstance(value, dict):
        raise ConfigError(f"{path or 'configuration'} is {value!r}; a table is wanted")
    kinds = typing.get_type_hints(kind)
    for key in value:
        if key not in kinds:
            raise ConfigError(f"{path + '.' if path else ''}{key} is unknown; known are {', '.join(kinds)}")
    return kind(
        **{key: _convert(kinds[key], item, f"{path + '.' if path else ''}{key}") for key, item in value.items()}
    )


def load(path: str | Path) -> Study:
    """Reads a JSON or TOML file. Paths of texts, dumps and recipe files in it, its variants' too, are relative to it.

    Errors: ConfigError that names the key, for the configuration itself and for each variant. That the files are there
    is for check_files to say.
    """
    path = Path(path)
    try:
        if path.suffix == ".toml":
            try:
                import tomllib
            except ImportError:
                raise ConfigError("TOML wants Python 3.11; write the configuration as JSON") from None
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        else:
            table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    typed = from_plain(Study, table)
    arms(typed)  # before paths are looked for in them, all variants are known to be well formed
    for each in (table, *typed.variants.values()):
        _resolve(each, path.resolve().parent)
    study = from_plain(Study, table)
    check(study)
    return study


def _resolve(table: dict[str, Any], folder: Path) -> None:
    """Makes the paths of a configuration, or of a variant's changes to it, absolute in place."""
    pretrain, evaluation = table.get("pretrain", {}), table.get("evaluation", {})
    if is_recipe_file(pretrain.get("recipe")):
        pretrain["recipe"] = str(folder / pretrain["recipe"])
    if pretrain.get("dump") is not None:
        pretrain["dump"] = str(folder / pretrain["dump"])
    if is_model_file(pretrain.get("start")):
        pretrain["start"] = str(folder / pretrain["start"])
    if "texts" in evaluation:
        evaluation["texts"] = {name: str(folder / file) for name, file in evaluation["texts"].items()}


def is_recipe_file(recipe: Any) -> bool:
    """Whether a recipe is the path of a file, and no preset's name, JSON text or table."""
    return isinstance(recipe, str) and recipe.endswith(".json") and not recipe.lstrip().startswith("{")


def is_model_file(start: Any) -> bool:
    """Whether the weights to start from are the path of a file, and no variant's name."""
    return isinstance(start, str) and start.endswith(".pt")


# What numbers may be, by key.
_RANGES: tuple[tuple[dict[type, dict[str, float]], str, Callable[[float, float], bool]], ...] = (
    (
        {
            Model: {
                "width": 1,
                "depth": 1,
                "head_width": 2,
                "length": 2,
                "vocab_size": 2,
                "base_width": 1,
                "convolution": 0,
                "dropout": 0,
            },
            Optimizer: {"warmup_share": 0, "final_share": 0, "weight_decay": 0, "beta1": 0, "beta2": 0},
            Pretrain: {
                **dict.fromkeys(("batch_size", "log_every"), 1),
                **dict.fromkeys(("stream_seed", "evaluations", "tracks", "checkpoints"), 0),
            },
            Evaluation: {"windows": 1, "seed": 0},
            Finetune: {"batch_size": 1, "evaluations": 1, "validation_windows": 1, "shrink": 0, "data_seed": 0},
            Study: {"threads": 0, "seed": 0},
        },
        "at least",
        operator.ge,
    ),
    ({Optimizer: {"learning_rate": 0, "clip": 0}}, "more than", operator.gt),
    ({Optimizer: {"warmup_share": 1, "final_share": 1}, Finetune: {"shrink": 1}}, "at most", operator.le),
    ({Model: {"dropout": 1}, Optimizer: {"beta1": 1, "beta2": 1}}, "less than", operator.lt),
)


def check(study: Study) -> None:
    """Refuses names that nothing bears and numbers that make no sense, in the study itself and in its variants.
    Errors: ConfigError says which key has what, and what it may have."""
    _check_one(study)
    if not study.seeds:
        raise ConfigError("seeds is empty; one or more are wanted")
    _check_distinct("seeds", study.seeds)
    if min(study.seeds) < 0:
        raise ConfigError(f"seeds has {min(study.seeds)}; 0 or more is wanted")
    earlier: dict[str, Study] = {}
    for name, each in arms(study).items():
        if study.variants:
            check_file_name("variants", name)
            if name == "scratch":
                raise ConfigError("variants has 'scratch', which is what runs without pretraining are called")
            with _in_variant(name):
                _check_one(each)
                _check_start(each, earlier)
            earlier[name] = each
        else:
            check_file_name("name", name)
            _check_start(each, earlier)


def _check_start(study: Study, earlier: dict[str, Study]) -> None:
    start = study.pretrain.start
    if start is None or is_model_file(start):
        return
    if start not in earlier:
        told = ", ".join(earlier) or "none"
        raise ConfigError(
            f"pretrain.start is {start!r}; the path of a model.pt or an earlier variant is wanted (there are: {told})"
        )
    check_shape(study, earlier[start].model)


def check_shape(study: Study, model: Model) -> None:
    """Refuses weights to start from, of such a model, that have another shape than the study's. Errors: ConfigError."""
    wanted, has = plain(study.model), plain(model)
    others = [key for key in wanted if key != "dropout" and has[key] != wanted[key]]
    if others:
        told = "; ".join(f"model.{key} is {wanted[key]}, there {has[key]}" for key in others)
        raise ConfigError(f"pretrain.start is {study.pretrain.start}, a model of another shape: {told}")


def check_file_name(key: str, name: str) -> None:
    """Refuses what cannot name a file: names of variants and stages do. Errors: ConfigError."""
    if not name or name.startswith(".") or not name.isprintable() or re.search(r"[/\\]", name) or len(name) > 100:
        raise ConfigError(
            f"{key} has {name!r}, which names a file or folder: 1 to 100 printable characters without / and \\ are "
            "wanted, the first no dot"
        )


def _check_distinct(key: str, values: list[Any]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ConfigError(f"{key} has {value!r} twice; each is wanted once")


def _check_ranges(table: Any, path: str = "") -> None:
    """Refuses numbers out of their range, in a part of the configuration and all parts below it."""
    for key, value in vars(table).items():
        if dataclasses.is_dataclass(value):
            _check_ranges(value, f"{path}{key}.")
        for limits, wanted, holds in _RANGES:
            limit = limits.get(type(table), {}).get(key)
            if limit is not None and value is not None and not holds(value, limit):
                raise ConfigError(f"{path}{key} is {value}; {wanted} {limit:g} is wanted")


def _check_one(study: Study) -> None:
    """What can be said of a study without its variants and files."""
    _check_ranges(study)
    for number, stage in enumerate(study.finetune):
        _check_ranges(stage, f"finetune[{number}].")
    model = study.model
    if model.width % model.head_width or model.head_width % 2:
        raise ConfigError(
            f"model.width {model.width} must be a multiple of model.head_width {model.head_width}, an even number"
        )
    if study.precision not in PRECISIONS:
        raise ConfigError(f"precision is {study.precision!r}; known are {', '.join(PRECISIONS)}")
    if re.fullmatch("auto|cpu|cuda(:[0-9]+)?", study.device) is None:
        raise ConfigError(f"device is {study.device!r}; known are auto, cpu, cuda and cuda:N")
    if not isinstance(study.pretrain.recipe, (str, dict)):
        raise ConfigError(f"pretrain.recipe is {study.pretrain.recipe!r}; a name, a file or a recipe is wanted")
    _check_tokens("pretrain.", study.pretrain, model)
    _check_evaluation(study)
    _check_stages(study)


def _check_tokens(path: str, part: Pretrain | Finetune, model: Model) -> None:
    step = part.batch_size * model.length
    if part.tokens < step:
        raise ConfigError(
            f"{path}tokens is {part.tokens}; {step} or more is wanted, one step of {part.batch_size} x {model.length}"
        )


def _check_evaluation(study: Study) -> None:
    from iterand_study import evalsets

    evaluation, texts, model = study.evaluation, study.evaluation.texts, study.model
    for name in evaluation.sets:
        if name not in evalsets.LANGUAGES and re.fullmatch("rep-[1-9][0-9]*", name) is None:
            raise ConfigError(f"evaluation.sets has {name!r}; known are {', '.join(evalsets.LANGUAGES)} and rep-N")
    for name in evaluation.tasks:
        if name not in TASKS:
            raise ConfigError(f"evaluation.tasks has {name!r}; known are {', '.join(TASKS)}")
    measured = [*texts, *evaluation.sets, *evaluation.tasks]
    _check_distinct("evaluation (texts, sets and tasks)", measured)
    _check_distinct("evaluation.track", evaluation.track)
    for name in evaluation.track:
        if name not in measured:
            told = ", ".join(measured) or "none"
            raise ConfigError(
                f"evaluation.track has {name!r}, which is not evaluated; texts, sets and tasks are {told}"
            )
    wide = [name for name in measured if name not in evalsets.LANGUAGES]
    least = 256 if wide else 128  # bytes; the languages are ASCII
    if measured and model.vocab_size < least and (study.pretrain.evaluations or study.pretrain.tracks):
        raise ConfigError(
            f"model.vocab_size is {model.vocab_size}; {least} or more is wanted to evaluate {(wide or measured)[0]!r}"
        )
    if study.finetune and model.vocab_size < 256:
        raise ConfigError(f"model.vocab_size is {model.vocab_size}; 256 or more is wanted to finetune on bytes")


def _check_stages(study: Study) -> None:
    names: list[str] = []
    for number, stage in enumerate(study.finetune):
        key = f"finetune[{number}]"
        if stage.text not in study.evaluation.texts:
            raise ConfigError(f"{key}.text is {stage.text!r}; evaluation.texts has {sorted(study.evaluation.texts)}")
        for start in stage.starts:
            if start not in STARTS:
                raise ConfigError(f"{key}.starts has {start!r}; known are {', '.join(STARTS)}")
        for part in ("starts", "learning_rates"):
            if not getattr(stage, part):
                raise ConfigError(f"{key}.{part} is empty; one or more are wanted")
            _check_distinct(f"{key}.{part}", getattr(stage, part))
        if min(stage.learning_rates) <= 0:
            raise ConfigError(f"{key}.learning_rates has {min(stage.learning_rates)}; more than 0 is wanted")
        if len(stage.split) != 2 or min(stage.split) <= 0 or sum(stage.split) > 1:
            raise ConfigError(
                f"{key}.split is {stage.split}; two shares above 0, for training and validation, are wanted, which "
                "make 1 or less"
            )
        _check_tokens(f"{key}.", stage, study.model)
        name = stage.name or stage.text
        check_file_name(f"{key}.name", name)
        if name in names:
            raise ConfigError(f"{key}.name is {name!r}, as an earlier stage's; give each its own")
        names.append(name)


def check_files(study: Study, pretraining: bool) -> None:
    """Refuses a study whose texts are not there or too short or, if it is to pretrain, whose dump, recipe file or first
    weights are not there. Variants are not looked at (arms makes them studies). Errors: ConfigError names the key and
    the file."""
    wanted = {f"evaluation.texts.{name}": file for name, file in study.evaluation.texts.items()}
    options = study.pretrain
    if pretraining and options.dump is not None:
        wanted["pretrain.dump"] = options.dump
    elif pretraining and is_recipe_file(options.recipe):
        wanted["pretrain.recipe"] = options.recipe
    if pretraining and options.start is not None and is_model_file(options.start):
        wanted["pretrain.start"] = options.start
    for key, file in wanted.items():
        if not (Path(file).is_dir() if key == "pretrain.dump" else Path(file).is_file()):
            raise ConfigError(f"{key} is {file}, which is not there")
    length = study.model.length
    for name, file in study.evaluation.texts.items():
        if (size := Path(file).stat().st_size) < length:
            raise ConfigError(f"evaluation.texts.{name} has {size} bytes; {length} or more are wanted, model.length")
    for number, stage in enumerate(study.finetune):
        size = Path(study.evaluation.texts[stage.text]).stat().st_size
        # Training windows are cut at an offset below the length.
        for part, share, least in zip(("training", "validation"), stage.split, (2 * length - 1, length), strict=True):
            if int(size * share) < least:
                raise ConfigError(
                    f"finetune[{number}].split gives {int(size * share)} bytes of {stage.text!r} for {part}; "
                    f"{least} or more are wanted with model.length {length}"
                )


@contextlib.contextmanager
def _in_variant(name: str) -> Iterator[None]:
    """Errors name the variant."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"variants.{name}: {error}") from None


def arms(study: Study) -> dict[str, Study]:
    """The variants by name, each with its changes made; a study without variants is its own only one.

    Errors: ConfigError if a variant changes what is no key.
    """
    if not study.variants:
        return {study.name: study}
    found = {}
    for name, changes in study.variants.items():
        with _in_variant(name):
            if not isinstance(changes, dict):
                raise ConfigError(f"{changes!r} is given; a table is wanted")
            for key in ("name", "server", "binary", "variants", "seeds"):
                if key in changes:
                    raise ConfigError(f"{key} is of the whole study; a variant cannot change it")
            found[name] = from_plain(Study, merged({**plain(study), "variants": {}}, changes))
    return found


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Plain data with the changes of a variant: tables key by key, a recipe and everything else as a whole."""
    result = dict(base)
    for key, value in changes.items():
        inner = result.get(key)
        if isinstance(inner, dict) and isinstance(value, dict) and key not in ("recipe", "texts"):
            result[key] = merged(inner, value)
        else:
            result[key] = value
    return result


def plain(config: Any) -> dict[str, Any]:
    """A configuration as plain data, every default written out."""
    result: dict[str, Any] = dataclasses.asdict(config)
    return result


def digest(*parts: Any) -> str:
    """A short name for plain data: equal parts, equal name."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
