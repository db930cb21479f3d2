"""Anneals from noise to real data in one loader, and resumes it from its state. Needs only iterand and numpy."""

import json
from pathlib import Path

import numpy as np

import iterand

LENGTH = 128


class Text:
    """Real data with len and []: a file's bytes, cut into sequences. Your data set of tokens goes here."""

    def __init__(self, path):
        data = np.frombuffer(Path(path).read_bytes(), np.uint8)
        self.rows = data[: len(data) // LENGTH * LENGTH].reshape(-1, LENGTH)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def loader():
    weights = ([{"at": 0, "weight": 1}, {"at": 40, "weight": 0}], [{"at": 0, "weight": 0}, {"at": 40, "weight": 1}])
    return iterand.mix(iterand.stream("up", length=LENGTH), Text(iterand.__file__), weights, repeat=True)


batches = loader()
for step in range(50):
    batch = next(batches)  # batch["tokens"]: int64, 64 x 128, for your training step
    if step % 10 == 0:
        print(f"step {step}: {np.mean(batch['source'] == 0):.0%} noise")

resumed = loader()
resumed.load_state_dict(json.loads(json.dumps(batches.state_dict())))
print("resumed exactly:", bool((next(resumed)["tokens"] == next(batches)["tokens"]).all()))
