"""PyTorch's loaders, torchdata and Lightning, with their real packages: every sequence once, by index; exact resume.

`./check --integrations` installs the packages and runs these tests, those of test_hugging_face.py, and the examples.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import iterand
from framework_programs import BATCH, LENGTH, STEPS, Compared, run_program
from iterand.torch import StreamDataset

pytestmark = [pytest.mark.integrations, pytest.mark.filterwarnings("ignore")]

Begin = Callable[..., Compared]


def dataset(server: Any = False, **options: Any) -> StreamDataset:
    return StreamDataset("uniform", length=LENGTH, server=server, **{"batch_size": BATCH, **options})


def chain(lists: Any) -> list[int]:
    return list(itertools.chain.from_iterable(lists))


# --- PyTorch ---


PLAIN = """
    import json, sys
    from torch.utils.data import DataLoader
    from iterand.torch import StreamDataset

    address, workers, method, out = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]

    def loader(persistent=False, **options):
        data = StreamDataset("uniform", length=16, batch_size=4, server=address, **options)
        context = {"multiprocessing_context": method} if workers else {}
        return data, DataLoader(data, batch_size=None, num_workers=workers, persistent_workers=persistent, **context)

    def read(batches, count=None):
        return [batch["tokens"].tolist() for _, batch in zip(range(count or 10**6), batches)]

    if __name__ == "__main__":
        found = {"epochs": [], "resumed": []}
        for persistent in (False, True)[:1 + (workers > 0)]:
            _, whole = loader(persistent, count=42)
            found["epochs"] += [read(whole) for _ in range(2)]
        steps = range(21) if method != "spawn" else (0, 7, 20)  # each imports torch twice
        for step in steps:
            data, later = loader()
            data.load_state_dict({**data.state_dict(), "next_index": step * 4})
            found["resumed"].append([step, read(later, 3)])
        json.dump(found, open(out, "w"))
"""


@pytest.mark.parametrize(
    ("workers", "method"), [(0, "-"), (1, "fork"), (2, "fork"), (2, "forkserver"), (2, "spawn")], ids=str
)
def test_plain_data_loaders(address: str, tmp_path: Path, compared: Begin, workers: int, method: str) -> None:
    """With every way to start workers, persistent ones among them, in two epochs each."""
    record = compared("torch", workers=f"{method} {workers}" if workers else 0)
    run_program(tmp_path, PLAIN, address, workers, method, "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found["epochs"]) == (4 if workers else 2)
    for epoch in found["epochs"]:
        assert chain(map(record.indices, epoch)) == list(range(42))
    for step, batches in found["resumed"]:
        record.resumed += 1
        assert chain(map(record.indices, batches)) == list(range(step * BATCH, (step + 3) * BATCH))


DDP = """
    import json, sys
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel
    from iterand.torch import StreamDataset, StreamLoader

    out, workers, saved = sys.argv[1], int(sys.argv[2]), sys.argv[3]

    if __name__ == "__main__":
        dist.init_process_group("gloo")
        rank, world_size = dist.get_rank(), dist.get_world_size()
        model = DistributedDataParallel(torch.nn.Linear(16, 1))

        def read(state, steps):
            data = StreamDataset("uniform", length=16, batch_size=4, rank=rank, world_size=world_size, server=False)
            loader = StreamLoader(data, num_workers=workers)
            if state is not None:
                loader.load_state_dict(state)
            seen, states = [], [loader.state_dict()]
            for _, batch in zip(range(steps), loader):
                model(batch["tokens"].float()).mean().backward()
                seen.append(batch["tokens"].tolist())
                states.append(loader.state_dict())
            return seen, states

        def write(name, seen):
            with open(f"{name}-{rank}.json", "w") as file:
                json.dump(seen, file)

        if saved == "-":
            seen, states = read(None, 21)
            write(out, seen)
            write("states", states)
        else:
            states = json.load(open(f"{saved}-0.json"))
        for step in range(21):
            write(f"{out}-{step}", read(states[step], 2)[0])
        dist.destroy_process_group()
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_data_parallel_processes(tmp_path: Path, compared: Begin, workers: int) -> None:
    """Two processes of torchrun resume at every step; so do three from the states of the two."""
    record = compared("torch", 2, workers)
    run_program(tmp_path, DDP, "seen", workers, "-", processes=2)
    assert record.global_batches(tmp_path, "seen", 2) == list(range(21 * 2 * BATCH))
    states = [json.loads((tmp_path / f"states-{rank}.json").read_text()) for rank in range(2)]
    assert states[0] == states[1]
    more = {2: record}
    if workers == 0:
        run_program(tmp_path, DDP, "more", workers, "states", processes=3)
        more[3] = compared("torch", 3, workers)
    for processes, each in more.items():
        for step in range(STEPS + 1):
            each.resumed += 1
            name = f"seen-{step}" if processes == 2 else f"more-{step}"
            first = step * 2 * BATCH
            assert each.global_batches(tmp_path, name, processes) == list(range(first, first + 2 * processes * BATCH))


# --- torchdata ---


def check_resumes(record: Compared, make: Callable[..., Any]) -> None:
    """Resumes at every step, and from what that saves. `make` gives a loader, which continues from a state, if any."""
    first, states, found = make(), [], []
    iterator = iter(first)
    for _ in range(STEPS + 1):
        states.append(json.loads(json.dumps(first.state_dict())))
        found += record.indices(next(iterator)["tokens"])
    assert found == list(range((STEPS + 1) * BATCH))
    for step, state in enumerate(states):
        second = make(state)
        rows = chain(record.indices(item["tokens"]) for item in itertools.islice(second, 2))
        assert rows == list(range(step * BATCH, (step + 2) * BATCH))
        record.resumed += 1
        if step % 10 == 3:
            third = make(json.loads(json.dumps(second.state_dict())))
            assert record.indices(next(iter(third))["tokens"])[0] == (step + 2) * BATCH


@pytest.mark.parametrize("workers", [0, 2])
def test_torchdata_resumes_at_every_step(address: str, compared: Begin, workers: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def loader(state: Any = None) -> Any:
        context = "forkserver" if workers else None
        made = stateful.StatefulDataLoader(
            dataset(address), batch_size=None, num_workers=workers, multiprocessing_context=context
        )
        if state is not None:
            made.load_state_dict(state)
        return made

    check_resumes(compared("torchdata", workers=workers), loader)


def test_torchdata_refuses_another_number_of_workers(address: str) -> None:
    """By its own rule, or by ours where its worker comes first."""
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def loader(workers: int) -> Any:
        return stateful.StatefulDataLoader(
            dataset(address), batch_size=None, num_workers=workers, multiprocessing_context="forkserver"
        )

    first = loader(2)
    next(iter(first))
    second = loader(1)
    second.load_state_dict(first.state_dict())
    with pytest.raises((AssertionError, iterand.InvalidArgument), match="num_workers"):
        next(iter(second))


@pytest.mark.parametrize("ahead", [0, 3])
@pytest.mark.parametrize("source", ["dataset", "stream"])
def test_torchdata_nodes(compared: Begin, source: str, ahead: int) -> None:
    """Its IterableWrapper makes a node of a data set, or of a stream; a Prefetcher takes it ahead on a thread."""
    nodes = pytest.importorskip("torchdata.nodes")

    def loader(state: Any = None) -> Any:
        if source == "dataset":
            node = nodes.IterableWrapper(dataset())
        else:
            stream = iterand.stream("uniform", length=LENGTH, batch_size=BATCH, server=False)
            node = nodes.Mapper(nodes.IterableWrapper(stream), lambda tokens: {"tokens": tokens})
        made = nodes.Loader(nodes.Prefetcher(node, prefetch_factor=ahead) if ahead else node)
        if state is not None:
            made.load_state_dict(state)
        return made

    check_resumes(compared("torchdata", workers=f"nodes, {ahead}"), loader)


# --- Lightning ---


LIGHTNING = """
    import json, sys
    import lightning, torch
    from lightning.pytorch.callbacks import Callback
    from iterand.torch import StreamDataset, StreamLoader

    out, steps, workers, processes, resume, save = sys.argv[1], *map(int, sys.argv[2:5]), *sys.argv[5:7]

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer, self.seen = torch.nn.Linear(16, 1), []
        def train_dataloader(self):
            data = StreamDataset("uniform", length=16, batch_size=4, count=100 * 4, server=False,
                                 rank=self.trainer.global_rank, world_size=self.trainer.world_size)
            return StreamLoader(data, num_workers=workers)
        def training_step(self, batch):
            self.seen.append(batch["tokens"].tolist())
            return self.layer(batch["tokens"].float()).mean()
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-3)

    class Save(Callback):
        def on_train_batch_end(self, trainer, *_):
            if save != "-":
                trainer.save_checkpoint(f"{save}-{trainer.global_step}.ckpt")

    if __name__ == "__main__":
        points = [f"{resume}-{step}.ckpt" for step in range(1, steps + 1)] if resume != "-" else [None]
        for number, point in enumerate(points, 1):
            more = {"strategy": "ddp", "devices": processes} if processes > 1 else {"devices": 1}
            trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False,
                                        enable_model_summary=False, enable_checkpointing=False,
                                        max_steps=steps if point is None else number + 1, callbacks=[Save()], **more)
            model = Model()
            trainer.fit(model, ckpt_path=point)
            with open(f"{out}-{number}-{trainer.global_rank}.json", "w") as file:
                json.dump(model.seen, file)
"""


@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (1, 2), (2, 0)])
def test_lightning(tmp_path: Path, compared: Begin, processes: int, workers: int) -> None:
    """One batch after each of 20 checkpoints; step 0 is the whole run. A checkpoint of two processes fits one."""
    pytest.importorskip("lightning")
    record = compared("lightning", processes, workers)
    run_program(tmp_path, LIGHTNING, "whole", STEPS, workers, processes, "-", "save", processes=processes)
    size = BATCH * processes
    assert record.global_batches(tmp_path, "whole-1", processes) == list(range(STEPS * size))
    runs = [(record, processes)] if processes == 1 else [(record, processes), (compared("lightning", 1, workers), 1)]
    for each, later in runs:
        run_program(tmp_path, LIGHTNING, "later", STEPS, workers, later, "save", "-", processes=later)
        for step in range(1, STEPS + 1):
            each.resumed += 1
            found = each.global_batches(tmp_path, f"later-{step}", later)
            assert found == list(range(step * size, step * size + later * BATCH))
        for file in tmp_path.glob("later-*.json"):
            file.unlink()


def test_lightning_without_a_length_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    endless = LIGHTNING.replace(" count=100 * 4,", "")
    with pytest.raises(AssertionError, match="Lightning reads one batch ahead of a loader that has no length"):
        run_program(tmp_path, endless, "whole", 2, 0, 1, "-", "save")
