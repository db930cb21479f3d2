"""Pretraining on a stream, with zero-shot evaluations on the way.

An interrupted run resumes from its last checkpoint.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from iterand_study import config, data, parallel, zeroshot
from iterand_study.files import load_model
from iterand_study.model import Transformer
from iterand_study.run_store import (
    RunStore,
    comparable,
    evaluation_key,
    initial_weights,
    track_point,
    training_key,
)
from iterand_study.training import Trainer, device_of, hardware

Result = dict[str, Any]


def milestones(steps: int, count: int) -> frozenset[int]:
    """`count` steps, evenly spaced, the last at the end; none for 0."""
    return frozenset(steps * (place + 1) // count for place in range(count))


@dataclass(frozen=True)
class Schedule:
    """The steps after which a run is evaluated, tracked and saved."""

    steps: int
    evaluate: frozenset[int]
    track: frozenset[int]
    save: frozenset[int]

    @classmethod
    def of(cls, options: config.Pretrain, length: int) -> Schedule:
        steps = max(1, options.tokens // (options.batch_size * length))
        counts = (options.evaluations, options.tracks, options.checkpoints)
        return cls(steps, *(milestones(steps, count) for count in counts))

    def pauses(self, step: int) -> bool:
        """Whether training pauses after this step."""
        return step in self.evaluate or step in self.track or step in self.save


class _Clock:
    """Adds the time that training takes, without the pauses, to a result."""

    def __init__(self, result: Result, stream: data.Stream) -> None:
        self._result = result
        self._stream = stream
        self.start()

    def start(self) -> None:
        self._begin, self._waited = time.perf_counter(), self._stream.waited

    def seconds(self) -> float:
        """All seconds of training until now."""
        return float(self._result["seconds"]) + time.perf_counter() - self._begin

    def stop(self) -> None:
        self._result["seconds"] = self.seconds()
        self._result["waited_seconds"] += self._stream.waited - self._waited


def run(study: config.Study, address: str | None, folder: Path, same_weights_dir: Path | None = None) -> Result:
    """Pretrains and writes pretrain.json and model.pt into `folder`. If `folder` has the result, returns it instead.

    same_weights_dir: a folder whose weights are copied if they are the same. Streams and texts count by their content,
    not by their names. Errors: ConfigError if the checkpoint in `folder` is of another stream.
    """
    info = data.describe(study, address)
    start = initial_weights(study)
    store = RunStore(study, folder, training_key(study, info, start))
    previous = store.find_previous(same_weights_dir) if parallel.is_main_process() else (None, None)
    finished, checkpoint = parallel.broadcast(previous)
    if finished is not None:
        return finished

    schedule = Schedule.of(study.pretrain, study.model.length)
    trainer = _new_trainer(study, schedule.steps)
    result = _new_result(study, info, start, trainer)
    losses: list[float] = []
    if checkpoint is not None:
        before = checkpoint["result"]
        kept = {key: before[key] for key in ("hardware", "curve", "seconds", "waited_seconds")}
        result |= {**kept, **comparable(before, result["measured"])}
        losses = checkpoint["losses"]
        trainer.load(checkpoint["trainer"])
    with data.stream(study, address, trainer.done, schedule.steps) as stream:
        _train(study, trainer, schedule, stream, result, losses, store)
    tokens = trainer.done * study.pretrain.batch_size * study.model.length
    result["tokens"] = tokens
    result["training_flops"] = trainer.model.training_flops(tokens)
    cost = result["stream"]["flops_per_token"]
    result["generation_flops"] = None if cost is None else cost * tokens
    if parallel.is_main_process():
        store.finish(trainer.model, result)
    return parallel.broadcast(result)


def _new_trainer(study: config.Study, steps: int) -> Trainer:
    """A trainer at step 0. Seeds PyTorch for dropout."""
    device = device_of(study)
    model = Transformer(study.model, study.seed)
    if study.pretrain.start is not None:
        model.load_state_dict(load_model(Path(study.pretrain.start)).state_dict())
    torch.manual_seed(study.seed + 1_000_003 * parallel.rank())
    return Trainer(model, study.pretrain.optimizer, steps, device, study.compile, study.precision)


def _new_result(study: config.Study, info: Result, start: Result | None, trainer: Trainer) -> Result:
    return {
        "name": study.name,
        "config": config.to_dict(study),
        "measured": evaluation_key(study),
        "stream": info,
        "start": start,
        "hardware": hardware(trainer.device),
        "processes": parallel.world_size(),
        "parameters": sum(weight.numel() for weight in trainer.model.parameters()),
        "curve": [],
        "evaluations": [],
        "track": [],
        "seconds": 0.0,
        "waited_seconds": 0.0,
    }


def _train(
    study: config.Study,
    trainer: Trainer,
    schedule: Schedule,
    stream: data.Stream,
    result: Result,
    losses: list[float],
    store: RunStore,
) -> None:
    """Trains on the whole stream; adds to `result` and saves checkpoints. `losses` are those since its last point."""
    options = study.pretrain
    tokens_per_step = options.batch_size * study.model.length
    clock = _Clock(result, stream)
    for tokens, mask in stream:
        losses.append(trainer.step(tokens, mask))
        step = trainer.done
        if step % options.log_every == 0 or step == schedule.steps:
            point = {"tokens": step * tokens_per_step, "bits": sum(losses) / len(losses)}
            result["curve"].append(point)
            losses.clear()
            if parallel.is_main_process():
                speed = f"{point['bits']:.3f} bits/token, {point['tokens'] / clock.seconds():.0f} tokens/s"
                print(f"{study.name}: step {step} of {schedule.steps}, {speed}", flush=True)
        if schedule.pauses(step):
            clock.stop()
            # Collected from all processes, so all of them must call it.
            state = trainer.state() if step in schedule.save and step < schedule.steps else None
            if parallel.is_main_process():
                _measure(study, trainer, schedule, result)
                if state is not None:
                    store.save_checkpoint(state, result, losses)
            clock.start()
    clock.stop()


def _measure(study: config.Study, trainer: Trainer, schedule: Schedule, result: Result) -> None:
    """The evaluations that are due after the trainer's last step."""
    step, options = trainer.done, study.pretrain
    tokens = step * options.batch_size * study.model.length
    if step in schedule.evaluate:
        found = zeroshot.evaluate(trainer.model, study.evaluation)
        result["evaluations"].append({"sequences": step * options.batch_size, "tokens": tokens, **found})
    if step in schedule.track:
        result["track"].append(track_point(trainer.model, study.evaluation, tokens))
