"""What a study costs on this machine, before it runs, and what of it a record has already."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from iterand_study import config, data, finetune, pretrain, record, sweep, variants
from iterand_study.document import Heading, Part, Table
from iterand_study.model import Transformer
from iterand_study.training import Trainer, device_of, token_bits

_SAMPLE = 196_608  # tokens of a stream: 1 536 sequences of 128, one segment of each of 32 lanes
_WARM_UP, _MEASURED = 3, 1.0  # steps before measuring; at least this many core-seconds of it


def training_seconds(study: config.Study, batch_size: int) -> float:
    """Core-seconds that one step of training takes here, on random tokens."""
    device = device_of(study)
    trainer = Trainer(
        Transformer(study.model, 0), study.pretrain.optimizer, 1_000_000, device, study.compile, study.precision
    )
    tokens = torch.randint(0, study.model.vocab_size, (batch_size, study.model.length))
    for _ in range(_WARM_UP):
        trainer.step(tokens)
    steps, begin = 0, time.process_time()
    while time.process_time() - begin < _MEASURED:
        trainer.step(tokens)
        steps += 1
    return (time.process_time() - begin) / steps


def evaluation_seconds(study: config.Study) -> float:
    """Core-seconds that predicting one window takes here."""
    model = Transformer(study.model, 0).to(device_of(study))
    windows = torch.randint(0, study.model.vocab_size, (64, study.model.length)).numpy()
    token_bits(model, windows)
    begin = time.process_time()
    token_bits(model, windows)
    return (time.process_time() - begin) / len(windows)


class _Costs:
    """Core-seconds of the parts of a study's runs. What was measured for a model and a batch is not measured again."""

    def __init__(self) -> None:
        self._steps: dict[str, float] = {}
        self._windows: dict[str, float] = {}
        self._streams: dict[str, float | None] = {}

    def step(self, study: config.Study, batch_size: int) -> float:
        key = config.digest(config.to_dict(study.model), batch_size)
        if key not in self._steps:
            self._steps[key] = training_seconds(study, batch_size)
        return self._steps[key]

    def window(self, study: config.Study) -> float:
        key = config.digest(config.to_dict(study.model))
        if key not in self._windows:
            self._windows[key] = evaluation_seconds(study)
        return self._windows[key]

    def pretraining(self, study: config.Study) -> float:
        options, evaluation = study.pretrain, study.evaluation
        measured = len(evaluation.texts) + len(evaluation.sets) + len(evaluation.tasks)
        windows = evaluation.windows * (options.evaluations * measured + options.tracks * len(evaluation.track))
        steps = pretrain.Schedule.of(options, study.model.length).steps
        return steps * self.step(study, options.batch_size) + windows * self.window(study)

    def generation(self, study: config.Study) -> float | None:
        key = config.digest(config.to_dict(study.pretrain))
        if key not in self._streams:
            self._streams[key] = data.generation_seconds(study, _SAMPLE)
        return self._streams[key]

    def finetuning(self, study: config.Study, stage: config.Finetune) -> float:
        """One start, with all its rates."""
        steps = max(1, stage.tokens // (stage.batch_size * study.model.length))
        windows = (stage.evaluations + 1) * stage.validation_windows
        one = steps * self.step(study, stage.batch_size) + windows * self.window(study)
        return len(stage.learning_rates) * one


def plan(study: config.Study, address: str | None, out: Path, known: record.Result) -> list[Part]:
    """The runs of a study in their order, arm by arm, with the core-seconds that training and predicting take on this
    machine. Scratch runs are counted with the first arm that needs them. known: a record of what is finished."""
    costs, scratch = _Costs(), set[str]()
    seconds: dict[tuple[str, bool], list[float]] = {}  # arm, held out -> of pretraining, finetuning, scratch, missing
    runs: dict[tuple[str, bool], list[int]] = {}  # the same -> finished, all
    begun: set[tuple[str, int]] = set()
    for name, each in sweep.order(study, out):
        held_out = any(stage.held_out for stage in each.finetune)
        row = seconds.setdefault((name, held_out), [0.0] * 4)
        missing = sweep.missing_work(known, name, each, data.describe(each, address))
        counts = runs.setdefault((name, held_out), [0, 0])
        counts[0] += not missing
        counts[1] += 1
        if (name, each.seed) not in begun:
            begun.add((name, each.seed))
            cost = costs.pretraining(each)
            row[0] += cost
            row[3] += cost if missing.pretraining else 0
        for stage in each.finetune:
            cost = costs.finetuning(each, stage)
            left = next(
                (part.starts for part in missing.stages if part.text == stage.text and part.name == stage.name), []
            )
            for start in stage.starts:
                if start == "scratch":
                    key = config.digest(finetune.training_key("scratch", each, stage, ""))
                    if key in scratch:
                        continue
                    scratch.add(key)
                row[2 if start == "scratch" else 1] += cost
                row[3] += cost if start in left else 0
    arms = variants.expand(study)

    def line(name: str, held_out: bool) -> list[str]:
        row, (finished, every) = seconds[name, held_out], runs[name, held_out]
        made = None if held_out else costs.generation(arms[name])
        return [
            name,
            "held out" if held_out else "choosing",
            "-" if made is None else f"{made * len(study.seeds):.2g}",
            *(f"{value:.0f}" for value in row[:3]),
            f"{finished} of {every}",
            f"{row[3]:.0f}",
        ]

    lines = [line(*key) for key in seconds]
    total = sum(row[3] for row in seconds.values())
    everything = sum(sum(row[:3]) for row in seconds.values())
    return [
        Heading(f"Plan: {study.name}"),
        f"{len(arms)} arms, {len(study.seeds)} seeds. Core-seconds of this machine, in the order "
        "of the runs; scratch runs count with the first arm that needs them. The generator works beside the training.",
        Table(["arm", "texts", "generator", "pretraining", "finetuning", "scratch", "finished", "left"], lines),
        f"In all {everything / 3600:.1f} core-hours, of which {total / 3600:.1f} are left.",
    ]
