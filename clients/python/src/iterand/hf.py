"""Streams for Hugging Face: `StreamTrainer` for transformers, `iterable_dataset` for datasets.

    trainer = StreamTrainer(model, args, train_dataset=StreamDataset("up", length=512))
    dataset = iterable_dataset("up", length=512)

accelerate needs no adapter. Give each process a `StreamLoader` of its own rank, and have accelerate save it:

    loader = StreamLoader(StreamDataset("up", rank=accelerator.process_index, world_size=accelerator.num_processes))
    accelerator.register_for_checkpointing(loader)

A DataLoader that `accelerator.prepare` has wrapped reads its dataset in the main process only and deals the rows out.
Its dataset must have the rank 0 of 1, else rows are lost. `prepare` leaves a StreamLoader as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iterand._hf_datasets import iterable_dataset
    from iterand._hf_trainer import StreamTrainer

__all__ = ["StreamTrainer", "iterable_dataset"]


def __getattr__(name: str) -> object:  # so that each needs its own package only
    if name == "StreamTrainer":
        from iterand._hf_trainer import StreamTrainer

        return StreamTrainer
    if name == "iterable_dataset":
        from iterand._hf_datasets import iterable_dataset

        return iterable_dataset
    raise AttributeError(f"module 'iterand.hf' has no attribute {name!r}")
