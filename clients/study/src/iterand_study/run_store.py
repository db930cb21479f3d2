"""The folder of a pretraining run, and which of its results a configuration may reuse.

What the weights depend on (`training_key`) and what is measured (`evaluation_key`) are separate. If only the evaluation
of a finished run has changed, the run is measured again and not trained.
"""

from __future__ import annotations

import copy
import hashlib
import shutil
from pathlib import Path
from typing import Any

import torch

from iterand_study import checks, config, data, record, training, zeroshot
from iterand_study.files import UNREADABLE, load_model, read_json, save, save_model, write_json
from iterand_study.model import Transformer

Result = dict[str, Any]


def track_point(model: Transformer, options: config.Evaluation, tokens: int) -> Result:
    """A point of the curves of Evaluation.track: s of sets and texts, the share of right answers of tasks."""
    found = zeroshot.evaluate(model, options, options.track)
    return {"tokens": tokens, **{name: each["s_half"] for name, each in found["sets"].items()}, **found["tasks"]}


def initial_weights(study: config.Study) -> Result | None:
    """The weights that a run starts from, if Pretrain.start names a file: their SHA-256, and the training and cost of
    the runs that made them, by the pretrain.json beside them. None if the start is random; a value is None if the
    pretrain.json is absent or lacks it.

    Errors: ConfigError if the file does not hold a model of the study's shape.
    """
    if study.pretrain.start is None:
        return None
    path = Path(study.pretrain.start)
    checks.check_shape(study, load_model(path).shape)
    beside = read_json(path.with_name("pretrain.json")) or {}
    return {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        **{key: record.including_start(beside, key) for key in ("tokens", "training_flops", "generation_flops")},
    }


def training_key(study: config.Study, info: Result, start: Result | None) -> Result:
    """What the weights of a run depend on.

    info: as of data.describe. start: as of initial_weights. A stream counts by its content, not by its name.
    """
    options = config.to_dict(study.pretrain)
    kept = {key: options[key] for key in ("tokens", "batch_size", "optimizer")}
    stream = {**data.stream_key(info), "masked": info.get("masked", False)}  # older versions never masked
    first = None if start is None else start["sha256"]
    return {**training.model_key(study), "pretrain": kept, "stream": stream, "start": first}


def evaluation_key(study: config.Study) -> Result:
    """What of a run is measured, and how often."""
    options = study.pretrain
    often = {"evaluations": options.evaluations, "tracks": options.tracks, "track": study.evaluation.track}
    return {**zeroshot.settings(study.evaluation), **often}


def _training_key_of(result: Result) -> Result:
    """As `training_key`, of a result. Keys that its configuration lacks have their defaults."""
    study, stream = copy.deepcopy(result["config"]), copy.deepcopy(result["stream"])
    # An earlier version had other names for these.
    if "mask" in study["pretrain"]:
        study["pretrain"]["loss_mask"] = study["pretrain"].pop("mask")
    if "world" in stream["shard"]:
        stream["shard"]["world_size"] = stream["shard"].pop("world")
    return training_key(config.from_dict(config.Study, study), stream, result.get("start"))


def comparable(result: Result, now: Result) -> Result:
    """The evaluations and curves of a result, without what the evaluation key `now` measures differently."""
    before = result.get("measured")
    if before is None:  # of an older version, which did not record the content of its texts
        before = {**result["config"]["evaluation"], "texts": {}}
    names = zeroshot.comparable(before, now)

    def kept(values: Result) -> Result:
        return {name: value for name, value in values.items() if name in names}

    evaluations = [{**each, "sets": kept(each["sets"]), "tasks": kept(each["tasks"])} for each in result["evaluations"]]
    tracked = [{"tokens": each["tokens"], **kept(each)} for each in result.get("track", [])]
    return {
        "evaluations": [each for each in evaluations if each["sets"] or each["tasks"]],
        "track": [each for each in tracked if len(each) > 1],
    }


class RunStore:
    """The folder of one run: pretrain.json and model.pt when it is finished, checkpoint.pt while it is in progress."""

    def __init__(self, study: config.Study, folder: Path, key: Result) -> None:
        """key: the run's training_key."""
        self._study = study
        self._folder = folder
        self._key = key
        self._checkpoint = folder / "checkpoint.pt"

    def find_previous(self, same_weights_dir: Path | None) -> tuple[Result | None, Result | None]:
        """A finished result, or a checkpoint to resume from. Prints why what it finds cannot be used.

        same_weights_dir: a folder whose weights are copied if they have the same training key. Errors: ConfigError if
        the checkpoint is unreadable or of another stream.
        """
        finished, differences = self._finished(self._folder)
        if finished is None and same_weights_dir is not None:
            finished = self._copy_finished(same_weights_dir)
        if finished is not None:
            if finished.get("measured") != evaluation_key(self._study):
                finished = self._measure_again(finished)
            return finished, None
        if differences:
            self._say(f"the result in {self._folder} is replaced by a new one: {'; '.join(differences)}")
        return None, self._load_checkpoint()

    def save_checkpoint(self, trainer: Result, result: Result, losses: list[float]) -> None:
        """Saves a run in progress. losses: those of the steps since the last point of the curve."""
        save(self._checkpoint, {"trainer": trainer, "result": result, "losses": losses})

    def finish(self, model: Transformer, result: Result) -> None:
        """Writes a finished run and removes its checkpoint."""
        save_model(self._folder / "model.pt", model)
        write_json(self._folder / "pretrain.json", result)
        self._checkpoint.unlink(missing_ok=True)

    def _say(self, message: str) -> None:
        print(f"{self._study.name}: {message}", flush=True)

    def _finished(self, folder: Path) -> tuple[Result | None, list[str]]:
        """The finished result of a folder if its training key is this run's; otherwise what differs."""
        result = read_json(folder / "pretrain.json")
        if result is None or not (folder / "model.pt").exists():
            return None, []
        differences = training.differences(_training_key_of(result), self._key)
        return (None, differences) if differences else (result, [])

    def _copy_finished(self, folder: Path) -> Result | None:
        """Copies the weights and the result of another folder, if its training key is this run's."""
        found, _ = self._finished(folder)
        if found is None:
            return None
        self._say(f"is trained as {found['name']}, whose weights are taken")
        self._folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "model.pt", self._folder / "model.pt")
        found = {**found, "name": self._study.name, "config": config.to_dict(self._study)}
        write_json(self._folder / "pretrain.json", found)
        self._checkpoint.unlink(missing_ok=True)
        return found

    def _measure_again(self, finished: Result) -> Result:
        """A finished result with this study's evaluation. Earlier points stay if they are comparable."""
        study = self._study
        self._say(
            "is trained; measures again, since the evaluation has changed (earlier points stay only for what is "
            "measured as before)"
        )
        model = load_model(self._folder / "model.pt").to(training.device_of(study))
        now = evaluation_key(study)
        kept = comparable(finished, now)
        result = {**finished, "name": study.name, "config": config.to_dict(study), "measured": now}
        tokens = finished["tokens"]
        evaluations = [each for each in kept["evaluations"] if each["tokens"] < tokens]
        if study.pretrain.evaluations:
            found = zeroshot.evaluate(model, study.evaluation)
            evaluations.append({"sequences": tokens // study.model.length, "tokens": tokens, **found})
        track = [each for each in kept["track"] if each["tokens"] < tokens]
        if study.pretrain.tracks:
            track.append(track_point(model, study.evaluation, tokens))
        result |= {"evaluations": evaluations, "track": track}
        write_json(self._folder / "pretrain.json", result)
        return result

    def _load_checkpoint(self) -> Result | None:
        """The checkpoint, if there is one with this run's training key."""
        path = self._checkpoint
        if not path.exists():
            return None
        try:
            saved: Result = torch.load(path, map_location="cpu")
        except UNREADABLE as error:
            raise config.ConfigError(f"{path} cannot be read; remove it to start again") from error
        before, now = _training_key_of(saved["result"]), self._key
        if before["stream"] != now["stream"]:
            raise config.ConfigError(
                f"{path} is of another stream, {before['stream']}, than the configuration names now, "
                f"{now['stream']}: restore that stream (recipe, seed, dump, engine version), or remove the "
                "checkpoint to start again"
            )
        if differences := training.differences(before, now):
            self._say(f"starts again, {path} is of another run: {'; '.join(differences)}")
            return None
        return saved
