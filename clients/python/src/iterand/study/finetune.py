"""Finetuning on a real text: from pretrained weights and from scratch, on the same data in the same order.

Every start is trained with every learning rate of the list, and each start's best by final validation loss is
compared, so that neither side is handicapped. Starts:

    scratch      a fresh model
    pretrained   all weights of the pretrained model
    fresh        its blocks, with embedding and output head drawn anew

What comes out: **data saved**, the real tokens that a start needs less than scratch to reach the same validation loss,
and the **exchange rate**, the synthetic FLOPs (generation and training) that were paid for each real token saved. All
runs of a stage share one schedule, so that a loss in the middle of a curve is one that a shorter schedule might have
beaten.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from pathlib import Path
from typing import Any

import torch

from iterand.study import config, data, evalsets, zeroshot
from iterand.study.comparison import Curve, compare
from iterand.study.model import Transformer
from iterand.study.pretrain import load_model
from iterand.study.training import Trainer, device_of, finished, hardware, identity, token_bits, write_json

def start_model(kind: str, study: config.Study, stage: config.Finetune, pretrained: Path | None) -> Transformer:
    """The model that a start begins with."""
    scratch = Transformer(study.model, study.seed + 7)
    if kind == "scratch":
        return scratch
    if kind not in config.STARTS:
        raise config.ConfigError(f"finetune.starts has {kind!r}; known are {', '.join(config.STARTS)}")
    if pretrained is None:
        raise config.ConfigError(f"start {kind!r} wants a pretrained model")
    model = load_model(pretrained)
    if stage.shrink != 1.0:
        with torch.no_grad():
            for weight, drawn in zip(model.parameters(), scratch.parameters(), strict=True):
                weight.mul_(stage.shrink).add_(drawn, alpha=1 - stage.shrink)
    if kind == "fresh":
        model.draw_identities(study.seed + 7)
    return model


def _train(
    model: Transformer, study: config.Study, stage: config.Finetune, rate: float, text: data.Text, device: torch.device
) -> dict[str, Any]:
    length = study.model.length
    tokens_a_step = stage.batch_size * length
    steps = max(1, stage.tokens // tokens_a_step)
    options = dataclasses.replace(stage.optimizer, learning_rate=rate)
    trainer = Trainer(model, options, steps, device, study.compile, study.precision)
    torch.manual_seed(study.seed)  # dropout
    validation = evalsets.windows(text.validation, length, stage.validation_windows, seed=1)
    # Close together at first, where the curves differ most.
    marks = {max(1, round(steps * (place / stage.evaluations) ** 2)) for place in range(1, stage.evaluations + 1)}
    curve: Curve = [{"tokens": 0.0, "bits": float(token_bits(model, validation).mean())}]
    begin = time.perf_counter()
    for tokens in text.batches(
        length, stage.batch_size, steps, study.seed if stage.data_seed is None else stage.data_seed
    ):
        trainer.step(tokens)
        if trainer.done in marks:
            bits = float(token_bits(model, validation).mean())
            curve.append({"tokens": float(trainer.done * tokens_a_step), "bits": bits})
    return {
        "learning_rate": rate,
        "curve": curve,
        "final_bits": curve[-1]["bits"],
        "best_bits": min(point["bits"] for point in curve),
        "seconds": time.perf_counter() - begin,
    }


def _origin(pretrained: Path) -> str:
    """What tells a pretrained model from others: its result beside it or, where there is none, its SHA-256."""
    result = pretrained.parent / "pretrain.json"
    return result.read_text() if result.exists() else hashlib.sha256(pretrained.read_bytes()).hexdigest()


def run(
    study: config.Study,
    stage: config.Finetune,
    pretrained: Path | None,
    folder: Path,
    flops: float | None,
    scratch: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One stage; writes finetune-NAME.json into `folder`; its name is the text's, unless it has one of its own.

    flops: what pretraining paid, for the exchange rate; None: not known. scratch: that start's result, if it is known
    from elsewhere. A stage that was interrupted begins anew.
    """
    name = stage.name or stage.text
    path = folder / f"finetune-{name}.json"
    origin = _origin(pretrained) if pretrained is not None else ""
    digest = config.digest(identity(study), config.plain(stage), origin, flops)
    done = finished(path, digest)
    if done is not None:
        return done

    device = device_of(study)
    text = data.Text.read(study.evaluation.texts[stage.text], stage.split)
    test = evalsets.windows(
        text.test if len(text.test) > study.model.length else text.validation,
        study.model.length,
        stage.validation_windows,
        seed=2,
    )
    others = {other: file for other, file in study.evaluation.texts.items() if other != stage.text}
    elsewhere = dataclasses.replace(study.evaluation, texts=others)
    starts: dict[str, dict[str, Any]] = {}
    for kind in stage.starts:
        if kind == "scratch" and scratch is not None:
            starts[kind] = scratch
            continue
        runs = []
        best: dict[str, Any] | None = None
        best_model: Transformer | None = None
        for rate in stage.learning_rates:
            model = start_model(kind, study, stage, pretrained)
            found = _train(model, study, stage, rate, text, device)
            runs.append(found)
            if best is None or found["final_bits"] < best["final_bits"]:
                best, best_model = found, model
        if best is None or best_model is None:
            raise config.ConfigError("finetune.learning_rates is empty")
        starts[kind] = {
            **best,
            "test_bits": float(token_bits(best_model, test).mean()),
            "elsewhere": zeroshot.evaluate(best_model, elsewhere),
            "tried": [{"learning_rate": each["learning_rate"], "final_bits": each["final_bits"]} for each in runs],
        }
        print(f"{study.name}: {name} from {kind}: {best['final_bits']:.3f} bits/token", flush=True)
    result = {
        "digest": digest,
        "name": name,
        "text": stage.text,
        "text_sha256": evalsets.text_sha256(study.evaluation.texts[stage.text]),
        "config": config.plain(study),
        "stage": config.plain(stage),
        "hardware": hardware(device),
        "synthetic_flops": flops,
        "starts": starts,
        "comparisons": {
            kind: compare(starts["scratch"]["curve"], start["curve"], flops)
            for kind, start in starts.items()
            if kind != "scratch" and "scratch" in starts
        },
    }
    write_json(path, result)
    return result
