"""PyTorch alone, on one process or several: torchrun --nproc-per-node 2 torch_loop.py [checkpoint]"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from iterand.torch import StreamDataset, StreamLoader

if __name__ == "__main__":
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    model: nn.Module = nn.Sequential(nn.Embedding(256, 64), nn.Linear(64, 256))
    loader = StreamLoader(StreamDataset("up", length=128, batch_size=16, rank=rank, world_size=world_size))
    checkpoint = Path(sys.argv[1] if len(sys.argv) > 1 else "checkpoint.pt")
    if checkpoint.exists():  # saved by any number of processes
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        loader.load_state_dict(saved["stream"])
    if world_size > 1:
        dist.init_process_group("gloo")  # "nccl" on GPUs
        model = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters())

    for _, batch in zip(range(10), loader, strict=False):
        tokens = batch["tokens"]  # int64, 16 x 128
        loss = nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    if rank == 0:
        model = getattr(model, "module", model)
        torch.save({"model": model.state_dict(), "stream": loader.state_dict()}, checkpoint)
        print(f"loss {loss.item():.3f}, next index {loader.state_dict()['next_index']}")
    if world_size > 1:
        dist.destroy_process_group()
