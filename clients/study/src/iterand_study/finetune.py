"""Finetuning on a real text: from pretrained weights and from scratch, on the same data in the same order.

Every start is trained with every learning rate of the list. Each start's best by final validation loss is compared, so
that neither side is handicapped. Starts:

    scratch      a fresh model
    pretrained   all weights of the pretrained model
    fresh        its blocks, with a new embedding and output head

Each start and rate has its own result and weights. So an interrupted stage continues with what is not trained yet. A
stage of which only the evaluation has changed is measured again and not trained.

Results: **data saved**, how many fewer real tokens a start needs than scratch to reach the same validation loss, and
the **exchange rate**, the synthetic FLOPs (generation and training) paid per real token saved. All runs of a stage
share one schedule, so a shorter schedule might reach a lower loss than the middle of a curve shows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from pathlib import Path
from typing import Any

import torch

from iterand_study import config, data, evalsets, training, zeroshot
from iterand_study.comparison import Curve, compare
from iterand_study.files import load_model, lock, read_json, save_model, write_json
from iterand_study.model import Transformer
from iterand_study.training import Trainer, device_of, hardware, token_bits

Result = dict[str, Any]


def start_model(kind: str, study: config.Study, stage: config.Finetune, pretrained: Path | None) -> Transformer:
    """The model that a start begins with."""
    scratch = Transformer(study.model, study.seed + 7)
    if kind == "scratch":
        return scratch
    if kind not in config.STARTS:
        raise config.ConfigError(f"finetune.starts has {kind!r}; known are {', '.join(config.STARTS)}")
    if pretrained is None:
        raise config.ConfigError(f"start {kind!r} needs a pretrained model")
    model = load_model(pretrained)
    if stage.shrink != 1.0:
        with torch.no_grad():
            for weight, drawn in zip(model.parameters(), scratch.parameters(), strict=True):
                weight.mul_(stage.shrink).add_(drawn, alpha=1 - stage.shrink)
    if kind == "fresh":
        model.draw_identities(study.seed + 7)
    return model


def training_key(kind: str, study: config.Study, stage: config.Finetune, origin: str) -> Result:
    """What the curve of a start depends on, the learning rate apart; `origin` is what pretrained weights are."""
    own = ("tokens", "batch_size", "split", "evaluations", "validation_windows")
    options = config.to_dict(stage)
    found: Result = {
        "start": kind,
        **training.model_key(study),
        **{key: options[key] for key in own},
        "optimizer": {key: value for key, value in options["optimizer"].items() if key != "learning_rate"},
        "data_seed": _data_seed(study, stage),
        "text": evalsets.text_sha256(study.evaluation.texts[stage.text]),
    }
    if stage.vocabulary:  # results of older versions do not have the key
        found["vocabulary"] = stage.vocabulary
    return found if kind == "scratch" else {**found, "shrink": stage.shrink, "weights": origin}


def _data_seed(study: config.Study, stage: config.Finetune) -> int:
    return study.seed if stage.data_seed is None else stage.data_seed


def _train(
    model: Transformer, study: config.Study, stage: config.Finetune, rate: float, text: data.Text, device: torch.device
) -> Result:
    length = study.model.length
    tokens_a_step = stage.batch_size * length
    steps = max(1, stage.tokens // tokens_a_step)
    options = dataclasses.replace(stage.optimizer, learning_rate=rate)
    trainer = Trainer(model, options, steps, device, study.compile, study.precision)
    torch.manual_seed(study.seed)  # dropout
    validation = evalsets.windows(text.validation, length, stage.validation_windows, seed=1)
    # Denser at first, where the curves differ most.
    milestones = {max(1, round(steps * (place / stage.evaluations) ** 2)) for place in range(1, stage.evaluations + 1)}
    curve: Curve = [{"tokens": 0.0, "bits": float(token_bits(model, validation).mean())}]
    begin = time.perf_counter()
    for tokens in text.batches(length, stage.batch_size, steps, _data_seed(study, stage)):
        trainer.step(tokens)
        if trainer.done in milestones:
            bits = float(token_bits(model, validation).mean())
            curve.append({"tokens": float(trainer.done * tokens_a_step), "bits": bits})
    return {
        "learning_rate": rate,
        "hardware": hardware(device),
        "curve": curve,
        "final_bits": curve[-1]["bits"],
        "best_bits": min(point["bits"] for point in curve),
        "seconds": time.perf_counter() - begin,
    }


def _start(
    kind: str, study: config.Study, stage: config.Finetune, pretrained: Path | None, origin: str, folder: Path
) -> Result:
    """The best of a start's learning rates, measured. Results and weights are in `folder`, KIND-RATE.json and .pt;
    the weights of rates that are not the best are removed."""
    name, device = stage.name or stage.text, device_of(study)
    text = data.Text.read(study.evaluation.texts[stage.text], stage.split, stage.vocabulary)
    shared = training_key(kind, study, stage, origin)
    # A model of byte pairs does not predict bytes.
    texts = {} if stage.vocabulary else study.evaluation.texts
    others = {other: file for other, file in texts.items() if other != stage.text}
    elsewhere = dataclasses.replace(study.evaluation, texts=others)
    measures = zeroshot.settings(elsewhere)

    def run_of(rate: float, needs_weights: bool = False) -> Result:
        file, key = folder / f"{kind}-{rate!r}.json", {**shared, "learning_rate": rate}
        found = read_json(file)
        if found is not None:
            reasons = training.differences(found["trained"], key)
            if needs_weights and not file.with_suffix(".pt").exists():
                reasons.append("its weights, which a new evaluation needs, do not exist")
            if not reasons:
                return found
            print(f"{study.name}: {name} from {kind} at {rate:g} trains again: {'; '.join(reasons)}", flush=True)
        model = start_model(kind, study, stage, pretrained)
        found = {"trained": key, **_train(model, study, stage, rate, text, device)}
        save_model(file.with_suffix(".pt"), model)
        write_json(file, found)
        return found

    runs = [run_of(rate) for rate in stage.learning_rates]
    best = min(runs, key=lambda found: float(found["final_bits"]))
    if best.get("measured") != measures:
        best = run_of(best["learning_rate"], needs_weights=True)
        file = folder / f"{kind}-{best['learning_rate']!r}.json"
        model = load_model(file.with_suffix(".pt")).to(device)
        length = study.model.length
        rest = text.test if len(text.test) > length else text.validation
        test = evalsets.windows(rest, length, stage.validation_windows, seed=2)
        best = {
            **best,
            "measured": measures,
            "test_bits": float(token_bits(model, test).mean()),
            "elsewhere": zeroshot.evaluate(model, elsewhere),
        }
        write_json(file, best)
    for rate in stage.learning_rates:
        if rate != best["learning_rate"]:
            (folder / f"{kind}-{rate!r}.pt").unlink(missing_ok=True)
    tried = [{"learning_rate": each["learning_rate"], "final_bits": each["final_bits"]} for each in runs]
    print(f"{study.name}: {name} from {kind}: {best['final_bits']:.3f} bits/token", flush=True)
    return {**best, "tried": tried}


def run(
    study: config.Study,
    stage: config.Finetune,
    pretrained: Path | None,
    folder: Path,
    flops: float | None,
    scratch: Path | None = None,
) -> Result:
    """One stage; writes finetune-NAME.json into `folder`; its name is the text's, unless it has one of its own.

    flops: what pretraining paid, for the exchange rate; None: not known. scratch: the folder of that start's runs, if
    they are shared with other stages; without, theirs is that of the other starts, finetune-NAME.
    """
    name = stage.name or stage.text
    path, own = folder / f"finetune-{name}.json", folder / f"finetune-{name}"
    origin = hashlib.sha256(pretrained.read_bytes()).hexdigest() if pretrained is not None else ""
    starts: dict[str, Result] = {}

    def train(kind: str, wait: bool) -> None:
        shared = scratch if kind == "scratch" else None
        with lock(shared, wait) if shared is not None else contextlib.nullcontext(True) as held:
            if held:
                starts[kind] = _start(kind, study, stage, pretrained, origin, shared or own)

    # If another process trains from scratch, this one trains its other starts first.
    for wait in (False, True):
        for kind in stage.starts:
            if kind not in starts:
                train(kind, wait)
    starts = {kind: starts[kind] for kind in stage.starts}
    result: Result = {
        "name": name,
        "text": stage.text,
        "text_sha256": evalsets.text_sha256(study.evaluation.texts[stage.text]),
        "config": config.to_dict(study),
        "stage": config.to_dict(stage),
        "hardware": starts[stage.starts[-1]]["hardware"],
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
