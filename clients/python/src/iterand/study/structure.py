"""Prequential estimate of a recipe's learnable structure (Finzi et al. 2026, arXiv 2601.03220).

A small model reads the stream once. Each batch is predicted before it is learnt from, so that the losses along the way
are the code length of the data by a learner that starts with nothing. The area between that curve and the loss at its
end is what the model has learnt and kept, the structure; the rest is what looks random to it. Noise and constants
score zero, and so does chaos. The loss at the end is a mean over the last tenth of the steps.

Minutes on a CPU; the size of the model and the number of tokens belong to the measure, so compare only equal ones.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from iterand.study import config, data
from iterand.study.model import Transformer
from iterand.study.training import Trainer, device_of, hardware


def estimate(losses: list[float], tokens_a_step: int) -> dict[str, float]:
    """Structure and noise from the loss of each step, in bits a token."""
    tail = max(1, len(losses) // 10)
    final = sum(losses[-tail:]) / tail
    return {
        "structure_bits": sum(loss - final for loss in losses) * tokens_a_step,
        "structure_bits_per_token": sum(loss - final for loss in losses) / len(losses),
        "code_bits_per_token": sum(losses) / len(losses),
        "final_bits": final,
        "first_bits": losses[0],
    }


def run(study: config.Study, address: str | None) -> dict[str, Any]:
    """The estimate for the study's pretraining recipe."""
    options = study.structure
    model_options = dataclasses.replace(
        study.model,
        width=options.width,
        depth=options.depth,
        length=options.length,
        base_width=options.width,
        head_width=min(study.model.head_width, options.width),
    )
    pretrain = dataclasses.replace(study.pretrain, batch_size=options.batch_size, tokens=options.tokens)
    study = dataclasses.replace(study, model=model_options, pretrain=pretrain)
    device = device_of(study)
    tokens_a_step = options.batch_size * options.length
    steps = max(1, options.tokens // tokens_a_step)
    optimizer = config.Optimizer(learning_rate=options.learning_rate)
    trainer = Trainer(Transformer(model_options, study.seed), optimizer, steps, device)
    with data.stream(study, address, 0, steps) as stream:
        losses = [trainer.step(tokens) for tokens in stream]
        info = stream.info
    thin = max(1, len(losses) // 50)
    return {
        "recipe": study.pretrain.recipe,
        "stream": info,
        "hardware": hardware(device),
        "config": config.plain(options),
        "tokens": len(losses) * tokens_a_step,
        **estimate(losses, tokens_a_step),
        "losses": [round(loss, 4) for loss in losses[::thin]],
    }
