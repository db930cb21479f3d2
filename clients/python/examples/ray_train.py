"""Makes noise on a Ray cluster, writes some to Parquet, and trains on it with Ray Train.

pip install 'iterand[ray]' 'ray[train]' torch
"""

import tempfile

import ray
import torch
from ray.train import ScalingConfig, get_context, get_dataset_shard
from ray.train.torch import TorchTrainer, prepare_model
from torch import nn

import iterand.ray

VOCAB, LENGTH = 256, 128


def train():
    model = prepare_model(nn.Sequential(nn.Embedding(VOCAB, 64), nn.Linear(64, VOCAB)))  # put your transformer here
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rows = 0
    for batch in get_dataset_shard("train").iter_torch_batches(batch_size=64, dtypes=torch.int64):
        tokens = batch["tokens"]
        loss = nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rows += len(tokens)
    print(f"worker {get_context().get_world_rank()}: {rows} sequences, loss {loss.item():.3f}")


if __name__ == "__main__":
    ray.init(num_cpus=4)  # two trainers, and two cores to make sequences
    noise = iterand.ray.read("up", length=LENGTH, count=12_288)  # nothing is made yet
    with tempfile.TemporaryDirectory() as folder:
        noise.limit(1000).write_parquet(folder)
        print(ray.data.read_parquet(folder).count(), "sequences in Parquet")
    TorchTrainer(train, scaling_config=ScalingConfig(num_workers=2), datasets={"train": noise}).fit()
