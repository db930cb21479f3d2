"""Lightning: the checkpoint has the position in the stream."""

import lightning
import torch
from torch import nn

from iterand.torch import StreamDataset, StreamLoader

STEPS, BATCH = 10, 16


class Model(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Embedding(256, 64), nn.Linear(64, 256))

    def train_dataloader(self) -> StreamLoader:
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        # With a count the loader has a length. Without one Lightning reads a batch ahead, and the state would be wrong.
        dataset = StreamDataset(
            "up", length=128, batch_size=BATCH, count=STEPS * BATCH, rank=rank, world_size=world_size
        )
        return StreamLoader(dataset)

    def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        tokens = batch["tokens"]
        return nn.functional.cross_entropy(self.layers(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters())


if __name__ == "__main__":
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    first = lightning.Trainer(max_steps=4, **options)
    first.fit(Model())
    first.save_checkpoint("stream.ckpt")
    second = lightning.Trainer(max_steps=STEPS, **options)
    second.fit(Model(), ckpt_path="stream.ckpt")  # continues with the fifth batch
