"""Pretraining on a stream, with zero-shot evaluations on the way. An interrupted run goes on from its last
checkpoint."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from iterand.study import config, data, zeroshot
from iterand.study.model import Transformer
from iterand.study.training import Trainer, device_of, finished, hardware, identity, save, write_json


def track_point(model: Transformer, options: config.Evaluation, tokens: int) -> dict[str, Any]:
    """A point of the curves that Evaluation.track wants: s of sets and texts, the share of right answers of tasks."""
    found = zeroshot.evaluate(model, options, options.track)
    return {"tokens": tokens, **{name: each["s_half"] for name, each in found["sets"].items()}, **found["tasks"]}


def run(study: config.Study, address: str | None, folder: Path, log: bool = True) -> dict[str, Any]:
    """Pretrains; writes pretrain.json and model.pt into `folder`. Returns the result, if it is there without training.

    Stream and texts count by what they are, not by their names: a result of another stream is none of this study's.
    Errors: ConfigError if the checkpoint in `folder` is of another stream.
    """
    options = study.pretrain
    described = config.plain(study)
    info = data.describe(study, address)
    named = ("recipe", "stream_seed", "dump")  # where the stream comes from; `info` has what it is
    settings = config.digest(
        identity(study), {key: value for key, value in described["pretrain"].items() if key not in named}
    )
    digest = config.digest(settings, data.sequences(info))
    done = finished(folder / "pretrain.json", digest)
    if done is not None:
        return done

    device = device_of(study)
    model = Transformer(study.model, study.seed)
    torch.manual_seed(study.seed)  # dropout
    tokens_a_step = options.batch_size * study.model.length
    steps = max(1, options.tokens // tokens_a_step)
    trainer = Trainer(model, options.optimizer, steps, device, study.compile, study.precision)
    result: dict[str, Any] = {
        "digest": digest,
        "name": study.name,
        "config": described,
        "stream": info,
        "hardware": hardware(device),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "curve": [],
        "evaluations": [],
        "track": [],
        "seconds": 0.0,
        "waited_seconds": 0.0,
    }
    losses: list[float] = []
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device)
        if saved.get("settings") == settings:
            _check_stream(checkpoint, saved["result"]["stream"], info)
            result, losses = saved["result"], saved["losses"]
            trainer.load(saved["trainer"])

    def marks(count: int) -> set[int]:
        return {steps * (place + 1) // count for place in range(count)} if count else set()

    evaluate_at, track_at, save_at = marks(options.evaluations), marks(options.tracks), marks(options.checkpoints)
    with data.stream(study, address, trainer.done, steps) as stream:
        begin, waited = time.perf_counter(), 0.0
        for tokens in stream:
            losses.append(trainer.step(tokens))
            step = trainer.done
            if step % options.log_every == 0 or step == steps:
                point = {"tokens": step * tokens_a_step, "bits": sum(losses) / len(losses)}
                result["curve"].append(point)
                losses.clear()
                if log:
                    rate = point["tokens"] / (result["seconds"] + time.perf_counter() - begin)
                    told = f"{point['bits']:.3f} bits/token, {rate:.0f} tokens/s"
                    print(f"{study.name}: step {step} of {steps}, {told}", flush=True)
            if step in evaluate_at or step in track_at or step in save_at:
                result["seconds"] += time.perf_counter() - begin
                result["waited_seconds"] += stream.waited - waited
                if step in evaluate_at:
                    found = zeroshot.evaluate(model, study.evaluation)
                    result["evaluations"].append(
                        {"sequences": step * options.batch_size, "tokens": step * tokens_a_step, **found}
                    )
                if step in track_at:
                    result["track"].append(track_point(model, study.evaluation, step * tokens_a_step))
                if step in save_at and step < steps:
                    state = {"trainer": trainer.state(), "result": result, "losses": losses, "settings": settings}
                    save(checkpoint, state)
                begin, waited = time.perf_counter(), stream.waited
        result["seconds"] += time.perf_counter() - begin
        result["waited_seconds"] += stream.waited - waited
    seen = trainer.done * tokens_a_step
    result["tokens"] = seen
    result["training_flops"] = model.training_flops(seen)
    cost = result["stream"]["flops_per_token"]
    result["generation_flops"] = None if cost is None else cost * seen
    save(folder / "model.pt", {"model": model.state_dict(), "shape": described["model"]})
    write_json(folder / "pretrain.json", result)
    checkpoint.unlink(missing_ok=True)
    return result


def _check_stream(checkpoint: Path, saved: dict[str, Any], info: dict[str, Any]) -> None:
    before, now = data.sequences(saved), data.sequences(info)
    if before != now:
        raise config.ConfigError(
            f"{checkpoint} is of another stream, {before}, than the configuration names now, {now}: "
            "bring that stream back (recipe, seed, dump, engine version), or remove the checkpoint to begin anew"
        )


def synthetic_flops(result: dict[str, Any]) -> float | None:
    """What a run paid for its training and its stream; None if what the stream cost is not known (a dump's)."""
    paid: float | None = result["generation_flops"]
    return None if paid is None else paid + result["training_flops"]


def load_model(path: Path) -> Transformer:
    """A model that `run` wrote."""
    saved = torch.load(path, map_location="cpu")
    model = Transformer(config.from_plain(config.Model, saved["shape"]))
    model.load_state_dict(saved["model"])
    return model
