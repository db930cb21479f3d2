"""Runs the variants of a study: each pretrains, is evaluated zero-shot, and is finetuned, for each seed.

OUT/VARIANT/seed-N/ has the results: pretrain.json, model.pt, finetune-NAME.json and the folder finetune-NAME with a
result and weights for each start. OUT/scratch has those of scratch runs, which variants share. Finished runs of the
same configuration are not run again, so the same command resumes an interrupted sweep.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from iterand_study import config, data, finetune, pretrain, record, run_store, variants


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


def run(study: config.Study, address: str | None, out: Path) -> None:
    """Runs all variants and seeds. `address` may be None if all read dumps.

    Variants that differ only in evaluation and finetuning share their pretraining. Variants with the same model, text,
    finetuning and seed share their scratch runs.
    """
    arms = variants.expand(study)
    for seed in study.seeds:
        weights: dict[str, Path] = {}  # what weights depend on -> the first folder that has them
        for name, arm in arms.items():
            each, folder = with_seed(arm, name, seed, out), _folder(out, name, seed)
            key = config.digest(
                run_store.training_key(each, data.describe(each, address), run_store.initial_weights(each))
            )
            result = pretrain.run(each, address, folder, weights.get(key))
            weights.setdefault(key, folder)
            for stage in each.finetune:
                scratch = out / "scratch" / config.digest(finetune.training_key("scratch", each, stage, ""))
                finetune.run(each, stage, folder / "model.pt", folder, record.synthetic_flops(result), scratch)
