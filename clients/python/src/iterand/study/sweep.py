"""Runs the variants of a study: each pretrains, is evaluated zero-shot, and is finetuned, for each seed.

Results lie in OUT/VARIANT/seed-N/: pretrain.json, model.pt, finetune-NAME.json. What is there for the same
configuration is not run again, so that a sweep that was interrupted is resumed by the same command.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from iterand.study import config, finetune, pretrain


def variant_study(study: config.Study, name: str, seed: int) -> config.Study:
    """The study of one variant and seed. Errors: ConfigError if the variant changes what is no key."""
    base = config.plain(study)
    base["variants"] = {}
    changed = config.merged(base, study.variants.get(name, {}))
    try:
        each = config.from_plain(config.Study, changed)
    except config.ConfigError as error:
        raise config.ConfigError(f"variants.{name}: {error}") from None
    return dataclasses.replace(
        each,
        name=f"{name}/seed-{seed}",
        seed=seed,
        seeds=[seed],
        pretrain=dataclasses.replace(each.pretrain, stream_seed=seed),
    )


def run(study: config.Study, address: str | None, out: Path) -> None:
    """All variants and seeds; a study without variants is its own only one.

    Scratch runs are shared by all variants with the same model, stage and seed.
    """
    names = list(study.variants) or [study.name]
    studies = [(name, variant_study(study, name, seed)) for seed in study.seeds for name in names]
    for name, each in studies:
        folder = out / name / f"seed-{each.seed}"
        result = pretrain.run(each, address, folder)
        flops = result["training_flops"] + result["generation_flops"]
        for stage in each.finetune:
            scratch = None
            if "scratch" in stage.starts:
                alone = dataclasses.replace(stage, starts=["scratch"])
                tag = config.digest(config.plain(each.model), config.plain(alone), each.seed)
                shared = dataclasses.replace(each, name="scratch")
                scratch = finetune.run(shared, alone, None, out / "scratch" / tag, 0.0)["starts"]["scratch"]
            finetune.run(each, stage, folder / "model.pt", folder, flops, scratch)
