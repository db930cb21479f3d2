"""Runs the variants of a study: each pretrains, is evaluated zero-shot, and is finetuned, for each seed.

Results lie in OUT/VARIANT/seed-N/: pretrain.json, model.pt, finetune-NAME.json. What is there for the same
configuration is not run again, so that a sweep that was interrupted is resumed by the same command.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from iterand.study import config, finetune, pretrain
from iterand.study.training import identity


def seeded(study: config.Study, name: str, seed: int) -> config.Study:
    """The study of one arm (config.arms) with one seed, of model and stream."""
    return dataclasses.replace(
        study,
        name=f"{name}/seed-{seed}",
        seed=seed,
        seeds=[seed],
        pretrain=dataclasses.replace(study.pretrain, stream_seed=seed),
    )


def run(study: config.Study, address: str | None, out: Path) -> None:
    """All variants and seeds. `address` may be None if all have dumps.

    Scratch runs are shared by all variants that agree in what they depend on: model, evaluation, stage and seed.
    """
    arms = config.arms(study)
    for seed in study.seeds:
        for name, arm in arms.items():
            each, folder = seeded(arm, name, seed), out / name / f"seed-{seed}"
            flops = pretrain.synthetic_flops(pretrain.run(each, address, folder))
            for stage in each.finetune:
                scratch = None
                if "scratch" in stage.starts:
                    alone = dataclasses.replace(stage, starts=["scratch"])
                    shared = dataclasses.replace(each, name="scratch")
                    tag = config.digest(identity(shared), config.plain(alone))
                    scratch = finetune.run(shared, alone, None, out / "scratch" / tag, 0.0)["starts"]["scratch"]
                finetune.run(each, stage, folder / "model.pt", folder, flops, scratch)
