"""Runs the variants of a study: each pretrains, is evaluated zero-shot, and is finetuned, for each seed.

Results lie in OUT/VARIANT/seed-N/: pretrain.json, model.pt, finetune-NAME.json and the folder finetune-NAME with a
result and weights of each start; those of scratch runs, which variants share, in OUT/scratch. What is there for the
same configuration is not run again, so that a sweep that was interrupted is resumed by the same command.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from iterand_study import config, data, finetune, pretrain, record, run_store, variants


def seeded(study: config.Study, name: str, seed: int, out: Path) -> config.Study:
    """The study of one arm (variants.expand) with one seed, the model's; the stream has it added to its own."""
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


def run(study: config.Study, address: str | None, out: Path) -> None:
    """All variants and seeds. `address` may be None if all have dumps.

    Variants that differ in their evaluation and finetuning alone share their pretraining, and all that agree in model,
    text, finetuning and seed share their scratch runs.
    """
    arms = variants.expand(study)
    for seed in study.seeds:
        weights: dict[str, Path] = {}  # what weights depend on -> the first folder that has them
        for name, arm in arms.items():
            each, folder = seeded(arm, name, seed, out), _folder(out, name, seed)
            key = config.digest(
                run_store.training_key(each, data.describe(each, address), run_store.initial_weights(each))
            )
            result = pretrain.run(each, address, folder, weights.get(key))
            weights.setdefault(key, folder)
            for stage in each.finetune:
                scratch = out / "scratch" / config.digest(finetune.training_key("scratch", each, stage, ""))
                finetune.run(each, stage, folder / "model.pt", folder, record.synthetic_flops(result), scratch)
