"""Prequential estimate of a recipe's learnable structure (Finzi et al. 2026, arXiv 2601.03220).

A small model reads the stream once. Each batch is predicted before it is learnt from. So the losses along the way are
the code length of the data for a learner that starts from nothing. The area between that curve and the final loss is
what the model has learnt and kept, the structure. The rest looks random to it. Noise and chaos score zero; constant
rows of random symbols score what it costs to learn to repeat a symbol. The loss at the end is a mean over the last
tenth of the steps.

Minutes on a CPU; the size of the model and the number of tokens belong to the measure, so compare only equal ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from iterand_study import config, data
from iterand_study.model import Transformer
from iterand_study.training import Trainer, device_of, hardware


@dataclass(frozen=True)
class Size:
    """What the measure depends on, besides the recipe."""

    tokens: int = 1_000_000
    width: int = 64
    depth: int = 2
    length: int = 128
    batch_size: int = 64
    learning_rate: float = 3e-3


def estimate(losses: list[float], tokens_a_step: int) -> dict[str, float]:
    """Structure and noise from the loss of each step, in bits per token."""
    tail = max(1, len(losses) // 10)
    final = sum(losses[-tail:]) / tail
    return {
        "structure_bits": sum(loss - final for loss in losses) * tokens_a_step,
        "structure_bits_per_token": sum(loss - final for loss in losses) / len(losses),
        "code_bits_per_token": sum(losses) / len(losses),
        "final_bits": final,
        "first_bits": losses[0],
    }


def run(address: str, recipe: Any, seed: int = 0, size: Size | None = None) -> dict[str, Any]:
    """The estimate for a recipe (a preset's name, a recipe, or the path of a JSON file) with a stream seed."""
    size = size or Size()
    study = config.Study(
        model=config.Model(
            width=size.width,
            depth=size.depth,
            length=size.length,
            base_width=size.width,
            head_width=min(config.Model.head_width, size.width),
        ),
        pretrain=config.Pretrain(recipe=recipe, stream_seed=seed, batch_size=size.batch_size, tokens=size.tokens),
    )
    device = device_of(study)
    tokens_a_step = size.batch_size * size.length
    steps = max(1, size.tokens // tokens_a_step)
    optimizer = config.Optimizer(learning_rate=size.learning_rate)
    trainer = Trainer(Transformer(study.model, study.seed), optimizer, steps, device)
    with data.stream(study, address, 0, steps) as stream:
        losses = [trainer.step(tokens) for tokens, _ in stream]  # of all tokens, marked or not
        info = stream.info
    thin = max(1, len(losses) // 50)
    return {
        "recipe": recipe,
        "stream": info,
        "hardware": hardware(device),
        "config": config.to_dict(size),
        "tokens": len(losses) * tokens_a_step,
        **estimate(losses, tokens_a_step),
        "losses": [round(loss, 4) for loss in losses[::thin]],
    }
