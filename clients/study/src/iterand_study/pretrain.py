"""Pretraining on a stream, with zero-shot evaluations on the way. An interrupted run goes on from its last
checkpoint.

What the weights depend on and what is measured are told apart: a finished run of which only the evaluation has changed
is measured anew, and not trained.
"""

from __future__ import annotations

import hashlib
import pickle
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from iterand_study import config, data, parallel, record, training, zeroshot
from iterand_study.model import Transformer
from iterand_study.training import Trainer, device_of, hardware, read_json, save, write_json

Result = dict[str, Any]

# What PyTorch raises for a file that it did not write, or that holds other things.
_UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, AttributeError)


def track_point(model: Transformer, options: config.Evaluation, tokens: int) -> Result:
    """A point of the curves that Evaluation.track wants: s of sets and texts, the share of right answers of tasks."""
    found = zeroshot.evaluate(model, options, options.track)
    return {"tokens": tokens, **{name: each["s_half"] for name, each in found["sets"].items()}, **found["tasks"]}


def beginning(study: config.Study) -> Result | None:
    """Which weights a run begins with, if Pretrain.start names a file: its SHA-256, and what the runs that made it were
    trained on and paid, by the pretrain.json beside it; None where there is none, or where it does not say.

    Errors: ConfigError if the file is none of a model of the study's shape.
    """
    if study.pretrain.start is None:
        return None
    path = Path(study.pretrain.start)
    config.check_shape(study, load_model(path).shape)
    beside = read_json(path.with_name("pretrain.json")) or {}
    return {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        **{key: record.with_start(beside, key) for key in ("tokens", "training_flops", "generation_flops")},
    }


def trained(study: config.Study, info: Result, start: Result | None) -> Result:
    """What the weights of a run depend on; `info` is data.describe's, `start` beginning's. Streams count by what they
    are, not by name."""
    options = config.plain(study.pretrain)
    kept = {key: options[key] for key in ("tokens", "batch_size", "optimizer")}
    stream = {**data.sequences(info), "masked": info.get("masked", False)}  # older versions never masked
    first = None if start is None else start["sha256"]
    return {**training.trained_model(study), "pretrain": kept, "stream": stream, "start": first}


def measured(study: config.Study) -> Result:
    """What of a run is measured, and how often."""
    options = study.pretrain
    often = {"evaluations": options.evaluations, "tracks": options.tracks, "track": study.evaluation.track}
    return {**zeroshot.settings(study.evaluation), **often}


def _trained_then(result: Result) -> Result:
    """As `trained`, of a result; what its configuration lacked has its default."""
    return trained(config.from_plain(config.Study, result["config"]), result["stream"], result.get("start"))


def _alike(result: Result, now: Result) -> Result:
    """The evaluations and curves of a result without what is measured otherwise now."""
    before = result.get("measured")
    if before is None:  # of an older version, which did not say what its texts were
        evaluation = result["config"]["evaluation"]
        before = {**evaluation, "texts": {}}
    names = zeroshot.alike(before, now)

    def kept(values: Result) -> Result:
        return {name: value for name, value in values.items() if name in names}

    evaluations = [{**each, "sets": kept(each["sets"]), "tasks": kept(each["tasks"])} for each in result["evaluations"]]
    tracked = [{"tokens": each["tokens"], **kept(each)} for each in result.get("track", [])]
    return {
        "evaluations": [each for each in evaluations if each["sets"] or each["tasks"]],
        "track": [each for each in tracked if len(each) > 1],
    }


def _measured_anew(study: config.Study, done: Result, folder: Path) -> Result:
    """A finished result with this study's evaluation. What was measured on the way stays if it is measured alike."""
    print(
        f"{study.name}: is trained; measures anew, since the evaluation has changed (on the way there are only the old "
        "points of what is measured alike)",
        flush=True,
    )
    model = load_model(folder / "model.pt").to(device_of(study))
    kept = _alike(done, now := measured(study))
    result = {**done, "name": study.name, "config": config.plain(study), "measured": now}
    tokens = done["tokens"]
    evaluations = [each for each in kept["evaluations"] if each["tokens"] < tokens]
    if study.pretrain.evaluations:
        found = zeroshot.evaluate(model, study.evaluation)
        evaluations.append({"sequences": tokens // study.model.length, "tokens": tokens, **found})
    track = [each for each in kept["track"] if each["tokens"] < tokens]
    if study.pretrain.tracks:
        track.append(track_point(model, study.evaluation, tokens))
    result |= {"evaluations": evaluations, "track": track}
    write_json(folder / "pretrain.json", result)
    return result


def _finished(folder: Path, wanted: Result) -> tuple[Result | None, list[str]]:
    """The finished result of a folder, if its weights are those wanted; otherwise why they are not, if one is there."""
    result = read_json(folder / "pretrain.json")
    if result is None or not (folder / "model.pt").exists():
        return None, []
    differences = training.changes(_trained_then(result), wanted)
    return (None, differences) if differences else (result, [])


def _before(
    study: config.Study, wanted: Result, folder: Path, twin: Path | None
) -> tuple[Result | None, Result | None]:
    """What is there already: a finished result, or a checkpoint. Says so where something is there and is of no use."""
    checkpoint = folder / "checkpoint.pt"
    done, differences = _finished(folder, wanted)
    if done is None and twin is not None:
        done, _ = _finished(twin, wanted)
        if done is not None:
            print(f"{study.name}: is trained as {done['name']}, whose weights are taken", flush=True)
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(twin / "model.pt", folder / "model.pt")
            done = {**done, "name": study.name, "config": config.plain(study)}
            write_json(folder / "pretrain.json", done)
            checkpoint.unlink(missing_ok=True)
    if done is not None:
        if done.get("measured") != measured(study):
            done = _measured_anew(study, done, folder)
        return done, None
    if differences:
        print(f"{study.name}: the result in {folder} gives way to a new one: {'; '.join(differences)}", flush=True)
    if not checkpoint.exists():
        return None, None
    try:
        saved: Result = torch.load(checkpoint, map_location="cpu")
    except _UNREADABLE as error:
        raise config.ConfigError(f"{checkpoint} cannot be read; remove it to begin anew") from error
    then, now = _trained_then(saved["result"]), wanted
    if then["stream"] != now["stream"]:
        raise config.ConfigError(
            f"{checkpoint} is of another stream, {then['stream']}, than the configuration names now, {now['stream']}: "
            "bring that stream back (recipe, seed, dump, engine version), or remove the checkpoint to begin anew"
        )
    if differences := training.changes(then, now):
        print(f"{study.name}: begins anew, {checkpoint} is of another run: {'; '.join(differences)}", flush=True)
        return None, None
    return None, saved


def run(study: config.Study, address: str | None, folder: Path, twin: Path | None = None) -> Result:
    """Pretrains; writes pretrain.json and model.pt into `folder`. Returns the result, if it is there without training.

    twin: a folder whose weights are taken if they are the same. Stream and texts count by what they are, not by their
    names: a result of another stream is none of this study's. Errors: ConfigError if the checkpoint in `folder` is of
    another stream.
    """
    options = study.pretrain
    info = data.describe(study, address)
    start = beginning(study)
    wanted = trained(study, info, start)
    done, saved = parallel.shared(_before(study, wanted, folder, twin) if parallel.first() else (None, None))
    if done is not None:
        return done

    device = device_of(study)
    model = Transformer(study.model, study.seed)
    if options.start is not None:
        model.load_state_dict(load_model(Path(options.start)).state_dict())
    torch.manual_seed(study.seed + 1_000_003 * parallel.rank())  # dropout
    tokens_a_step = options.batch_size * study.model.length
    steps = max(1, options.tokens // tokens_a_step)
    trainer = Trainer(model, options.optimizer, steps, device, study.compile, study.precision)
    result: Result = {
        "name": study.name,
        "config": config.plain(study),
        "measured": measured(study),
        "stream": info,
        "start": start,
        "hardware": hardware(device),
        "processes": parallel.world(),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "curve": [],
        "evaluations": [],
        "track": [],
        "seconds": 0.0,
        "waited_seconds": 0.0,
    }
    losses: list[float] = []
    if saved is not None:
        then = saved["result"]
        kept = {key: then[key] for key in ("hardware", "curve", "seconds", "waited_seconds")}
        result |= {**kept, **_alike(then, result["measured"])}
        losses = saved["losses"]
        trainer.load(saved["trainer"])

    def marks(count: int) -> set[int]:
        return {steps * (place + 1) // count for place in range(count)} if count else set()

    evaluate_at, track_at, save_at = marks(options.evaluations), marks(options.tracks), marks(options.checkpoints)
    with data.stream(study, address, trainer.done, steps) as stream:
        begin, waited = time.perf_counter(), 0.0
        for tokens, mask in stream:
            losses.append(trainer.step(tokens, mask))
            step = trainer.done
            if step % options.log_every == 0 or step == steps:
                point = {"tokens": step * tokens_a_step, "bits": sum(losses) / len(losses)}
                result["curve"].append(point)
                losses.clear()
                if parallel.first():
                    rate = point["tokens"] / (result["seconds"] + time.perf_counter() - begin)
                    told = f"{point['bits']:.3f} bits/token, {rate:.0f} tokens/s"
                    print(f"{study.name}: step {step} of {steps}, {told}", flush=True)
            if step in evaluate_at or step in track_at or step in save_at:
                result["seconds"] += time.perf_counter() - begin
                result["waited_seconds"] += stream.waited - waited
                state = trainer.state() if step in save_at and step < steps else None  # of all processes
                if parallel.first():
                    if step in evaluate_at:
                        found = zeroshot.evaluate(model, study.evaluation)
                        result["evaluations"].append(
                            {"sequences": step * options.batch_size, "tokens": step * tokens_a_step, **found}
                        )
                    if step in track_at:
                        result["track"].append(track_point(model, study.evaluation, step * tokens_a_step))
                    if state is not None:
                        save(folder / "checkpoint.pt", {"trainer": state, "result": result, "losses": losses})
                begin, waited = time.perf_counter(), stream.waited
        result["seconds"] += time.perf_counter() - begin
        result["waited_seconds"] += stream.waited - waited
    seen = trainer.done * tokens_a_step
    result["tokens"] = seen
    result["training_flops"] = model.training_flops(seen)
    cost = result["stream"]["flops_per_token"]
    result["generation_flops"] = None if cost is None else cost * seen
    if parallel.first():
        save(folder / "model.pt", {"model": model.state_dict(), "shape": config.plain(study.model)})
        write_json(folder / "pretrain.json", result)
        (folder / "checkpoint.pt").unlink(missing_ok=True)
    return parallel.shared(result)


def load_model(path: Path) -> Transformer:
    """A model that `run` wrote. Errors: ConfigError if the file is another, OSError if it cannot be read."""
    try:
        saved = torch.load(path, map_location="cpu")
        model = Transformer(config.from_plain(config.Model, saved["shape"]))
        model.load_state_dict(saved["model"])
    except _UNREADABLE as error:
        raise config.ConfigError(f"{path} is no model of a study; a model.pt is wanted") from error
    return model
