"""torchdata's StatefulDataLoader: its state resumes with the same number of workers."""

from torchdata.stateful_dataloader import StatefulDataLoader

import iterand
from iterand.torch import StreamDataset


def loader(server: iterand.Server) -> StatefulDataLoader:
    dataset = StreamDataset("up", length=128, batch_size=16, server=server)
    return StatefulDataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="forkserver")


if __name__ == "__main__":
    with iterand.Server() as server:  # several workers share one server
        first = loader(server)
        batches = iter(first)
        for _ in range(3):
            next(batches)
        state = first.state_dict()
        expected = next(batches)["tokens"]

        second = loader(server)
        second.load_state_dict(state)
        assert (next(iter(second))["tokens"] == expected).all()
        print("resumed after 3 batches")
