"""accelerate, on one process or several: accelerate launch --num_processes 2 accelerate_loop.py [folder]"""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from iterand.torch import StreamDataset, StreamLoader

if __name__ == "__main__":
    accelerator = Accelerator(cpu=True)
    rank, world_size = accelerator.process_index, accelerator.num_processes
    loader = StreamLoader(StreamDataset("up", length=128, batch_size=16, rank=rank, world_size=world_size))
    model: nn.Module = nn.Sequential(nn.Embedding(256, 64), nn.Linear(64, 256))
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
    accelerator.register_for_checkpointing(loader)  # not prepare: each process reads its own rank
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "checkpoint")
    if folder.exists():  # saved by any number of processes
        accelerator.load_state(str(folder))

    for _, batch in zip(range(10), loader, strict=False):
        tokens = batch["tokens"].to(accelerator.device)
        loss = nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()

    accelerator.save_state(str(folder))
    accelerator.print(f"loss {loss.item():.3f}, next index {loader.state_dict()['next_index']}")
    accelerator.end_training()
