"""Runs the variants of a study: each pretrains, is evaluated zero-shot, and is finetuned, for each seed.

OUT/VARIANT/seed-N/ has the results: pretrain.json, model.pt, finetune-NAME.json and the folder finetune-NAME with a
result and weights for each start. OUT/scratch has those of scratch runs, which variants share. Finished runs of the
same configuration are not run again, so the same command resumes an interrupted sweep.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from iterand_study import config, data, finetune, pretrain, record, run_store, variants
from iterand_study.processes import Processes


def with_seed(study: config.Study, name: str, seed: int, out: Path) -> config.Study:
    """The study of one variant with one seed: the model's, which is also added to the stream's."""
    options = study.pretrain
    start = options.start
    if start is not None and not config.is_model_file(start):  # an earlier variant
        start = str(_folder(out, start, seed) / "model.pt")
    return dataclasses.replace(
        study,
        name=f"{name}/seed-{seed}",
        seed=seed,
        seeds=[seed],
        pretrain=dataclasses.replace(options, stream_seed=options.stream_seed + seed, start=start),
    )


def _folder(out: Path, name: str, seed: int) -> Path:
    return out / name / f"seed-{seed}"


def order(study: config.Study, out: Path) -> Iterator[tuple[str, config.Study]]:
    """The runs of a study in their order, each as the name of its variant and a study of one seed, with the stages that
    are due. The variants of Study.first come before the others, and stages that are held out after those that are not.
    """
    arms = variants.expand(study)
    groups = [[name for name in arms if (name in study.first) == wanted] for wanted in (True, False)]
    stages = [stage for arm in arms.values() for stage in arm.finetune]
    passes = [False, True] if any(stage.held_out for stage in stages) else [False]
    for group in groups:
        for held_out in passes:
            for seed in study.seeds:
                for name in group:
                    each = with_seed(arms[name], name, seed, out)
                    due = [stage for stage in each.finetune if stage.held_out == held_out]
                    if due or not held_out:
                        yield name, dataclasses.replace(each, finetune=due)


@dataclasses.dataclass(frozen=True)
class Work:
    """What is missing of one variant with one seed."""

    study: config.Study
    folder: Path
    stages: list[config.Finetune]
    same_weights_dir: Path | None  # of an earlier run, as of pretrain.run

    def run(self, address: str | None, out: Path) -> None:
        result = pretrain.run(self.study, address, self.folder, self.same_weights_dir)
        for stage in self.stages:
            scratch = out / "scratch" / config.digest(finetune.training_key("scratch", self.study, stage, ""))
            flops = record.synthetic_flops(result)
            finetune.run(self.study, stage, self.folder / "model.pt", self.folder, flops, scratch)


def run(study: config.Study, address: str | None, out: Path, known: record.Result | None = None, jobs: int = 1) -> None:
    """Runs all variants and seeds. `address` may be None if all read dumps.

    Variants that differ only in evaluation and finetuning share their pretraining. Variants with the same model, text,
    finetuning and seed share their scratch runs. What `known`, a record, has already is not run. jobs: how many run at
    a time, each in a process of its own.
    """
    weights: dict[str, Path] = {}  # what weights depend on -> the first folder that has them
    unfinished: set[str] = set()  # of its keys
    with Processes(jobs) as processes:

        def finish() -> None:
            processes.wait()
            unfinished.clear()

        for name, each in order(study, out):
            folder = _folder(out, name, each.seed)
            info = data.describe(each, address)
            missing = missing_work(known, name, each, info) if known is not None else Missing(True, each.finetune)
            if not missing:
                continue
            if each.pretrain.start is not None:
                finish()  # the run whose weights it starts from
            key = config.digest(run_store.training_key(each, info, run_store.initial_weights(each)))
            if key in unfinished:
                finish()  # the run whose weights it takes
            processes.submit(Work(each, folder, missing.stages, weights.get(key)).run, address, out)
            weights.setdefault(key, folder)
            unfinished.add(key)


@dataclasses.dataclass(frozen=True)
class Missing:
    """What of a run a record lacks."""

    pretraining: bool
    stages: list[config.Finetune]  # each with the starts that are missing

    def __bool__(self) -> bool:
        return self.pretraining or bool(self.stages)


def missing_work(known: record.Result, name: str, study: config.Study, info: dict[str, Any]) -> Missing:
    """What of a variant's run with one seed a record lacks. info: as of data.describe."""
    pretraining = not record.has_run(known, name, study, info)
    stages = []
    for stage in study.finetune:
        starts = [
            start
            for start in stage.starts
            if not record.has_start(known, name, study, stage, start) or (pretraining and start != "scratch")
        ]
        if starts:
            stages.append(dataclasses.replace(stage, starts=starts))
    return Missing(pretraining, stages)
