"""Streams as PyTorch datasets.

    dataset = StreamDataset("up", length=512, batch_size=64, rank=rank, world_size=world_size)
    for batch in StreamLoader(dataset):
        batch["tokens"]  # int64 tensor, 64 x 512

Order. Row i of global batch t has the index start + t * G + i, where G = batch_size * world_size. Rank r has the rows
r, r + world_size, ... of each. With K workers, worker k makes the batches t with t mod K = k, and the loader takes them
in turn. So the batches and their order are the same for any number of workers.

Workers. Without a server, sequences are made ahead on threads of this process, which needs no workers. A StreamLoader
with workers starts one server for them (`iterand.Server`). With a server, all workers read from it. Each reads its own
batches alone, several at a time ahead (`prefetch`).

Iterations. Every iterator keeps its own place, so several may be used in turn, and one that is dropped changes nothing.
Each begins at the stream's start, except the first after `load_state_dict`.

Resuming. `StreamLoader.state_dict()` says which batches were yielded, however many were read ahead. It holds one
position, the next global index, which every rank, world size, batch size and number of workers can continue from, as
`iterand.stream` can. It reports the iteration that was begun last; `state_dict()` of an iterator reports that one.
Loaders that save the state of a dataset worker by worker, such as torchdata's StatefulDataLoader, can use StreamDataset
itself. They resume with the same number of workers only.

Processes. gRPC does not survive a fork, so StreamLoader starts its workers by a fork server, which has never used it.
As with every start method but "fork", a script must guard its entry by `if __name__ == "__main__":`. A DataLoader needs
multiprocessing_context="forkserver" (or "spawn"); a worker that was forked from a process that had used a server raises
`iterand.ForkedProcess`. The first StreamDataset has the fork server import torch once, unless the server runs already.
With "spawn" every worker imports torch again, at every epoch, unless the DataLoader has persistent_workers=True.
"""

from __future__ import annotations

from iterand._torch_dataset import Item, StreamDataset, StreamIterator
from iterand._torch_loader import LoaderIterator, StreamLoader

__all__ = ["Item", "LoaderIterator", "StreamDataset", "StreamIterator", "StreamLoader"]
