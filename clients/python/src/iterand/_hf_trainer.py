"""StreamTrainer: see iterand.hf."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch

from iterand import _extras, errors
from iterand._torch_dataset import StreamDataset
from iterand._torch_loader import StreamLoader

try:
    from transformers import Trainer, TrainerCallback
    from transformers.trainer_callback import ExportableState
except ImportError as error:
    raise _extras.missing("iterand.hf.StreamTrainer", "transformers", "hf", error) from error


class _Batches:
    """A StreamLoader whose batches have the names that models take."""

    def __init__(self, loader: StreamLoader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for batch in self.loader:
            tokens, mask = batch["tokens"], batch.get("loss_mask")
            labels = tokens.clone() if mask is None else tokens.masked_fill(~mask, -100)
            yield {"input_ids": tokens, "labels": labels}


class StreamPosition(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Keeps the position in `trainer_state.json`, and continues from there."""

    def __init__(self) -> None:
        self.loader: StreamLoader | None = None

    def state(self) -> dict[str, Any]:
        stream = None if self.loader is None else self.loader.state_dict()
        return {"args": {}, "attributes": {"stream": stream}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        loader: StreamLoader = kwargs["train_dataloader"].loader
        saved = state.stateful_callbacks.get(type(self).__name__)
        self.loader = loader
        if state.global_step == 0:
            return
        if saved is None or saved["attributes"]["stream"] is None:
            raise errors.InvalidArgument(
                "the checkpoint has no position in the stream: it was not saved by a StreamTrainer. Begin a new run "
                "with StreamDataset(start=steps * batch_size * world_size)"
            )
        stream = dict(saved["attributes"]["stream"])
        dataset = loader.dataset
        if dataset.count is not None and stream["next_index"] >= dataset.start + dataset.count * dataset.world_size:
            return  # the epoch was complete
        loader.load_state_dict(stream)


class StreamTrainer(Trainer):  # type: ignore[misc]
    """A Trainer that reads a StreamDataset: every process its own rank, and resumed at once.

    `train_dataset` is a StreamDataset of rank 0 of 1. Batch size, rank and world size are those of the
    TrainingArguments; `count`, if any, is of all processes together. It must be a multiple of their number. Batches
    have `input_ids` and `labels`; where a loss mask is false, the label is -100. Without `count` give `max_steps`.

    The position is in each checkpoint's `trainer_state.json`. It continues with any number of processes. The Trainer
    need not read the stream again up to there, so `ignore_data_skip` is set.

    >>> from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments
    >>> from iterand.hf import StreamTrainer
    >>> from iterand.torch import StreamDataset
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=256, n_positions=64, n_embd=32, n_layer=1, n_head=2))
    >>> arguments = TrainingArguments("out", max_steps=2, per_device_train_batch_size=4, report_to=[])
    >>> StreamTrainer(model, arguments, train_dataset=StreamDataset("up", length=64)).train().global_step
    {'train_runtime': ...}
    2
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.train_dataset, StreamDataset):
            raise errors.InvalidArgument(
                f"train_dataset is a {type(self.train_dataset).__name__}; it must be a StreamDataset"
            )
        if self.train_dataset.world_size != 1:
            raise errors.InvalidArgument(
                f"train_dataset has rank {self.train_dataset.rank} of {self.train_dataset.world_size}; it must have "
                "rank 0 of 1, since StreamTrainer gives each process its own"
            )
        self.args.ignore_data_skip = True
        self._position = StreamPosition()
        self.add_callback(self._position)

    def get_train_dataloader(self) -> Any:
        dataset = copy.copy(self.train_dataset)
        processes = self.args.world_size
        if dataset.count is not None:
            if dataset.count % processes:
                below = dataset.count - dataset.count % processes
                raise errors.InvalidArgument(
                    f"count is {dataset.count}, which {processes} processes cannot share equally; nearest allowed: "
                    f"{below} and {below + processes}"
                )
            dataset.count //= processes
        dataset.batch_size = self._train_batch_size
        dataset.rank, dataset.world_size = self.args.process_index, processes
        loader = StreamLoader(dataset, self.args.dataloader_num_workers)
        self._position.loader = loader
        return _Batches(loader)
