"""Frameworks that read streams, with their real packages: every sequence once, by index, and exact resume.

`./check --integrations` installs the packages and runs these tests.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server_program import REPOSITORY
from torch.utils.data import DataLoader

import iterand
from framework_programs import global_batches, run_file, run_program
from iterand.torch import StreamDataset, StreamLoader

pytestmark = [pytest.mark.integrations, pytest.mark.filterwarnings("ignore")]

LENGTH, BATCH, STEPS = 16, 4, 20
EXAMPLES = REPOSITORY / "clients/python/examples"


@pytest.fixture(scope="module")
def index_of() -> Callable[[Any], list[int]]:
    """Gives the indices of rows of tokens."""
    known = {bytes(row): index for index, row in enumerate(iterand.read("uniform", range(2000), length=LENGTH))}
    assert len(known) == 2000
    return lambda rows: [known[bytes(np.asarray(row).astype(np.uint8))] for row in rows]


def dataset(server: Any = False, **options: Any) -> StreamDataset:
    return StreamDataset("uniform", length=LENGTH, server=server, **{"batch_size": BATCH, **options})


# --- torchdata ---


@pytest.mark.parametrize("workers", [0, 2])
def test_torchdata_resumes_at_every_step(address: str, index_of: Callable[[Any], list[int]], workers: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def loader() -> Any:
        context = "forkserver" if workers else None
        return stateful.StatefulDataLoader(
            dataset(address), batch_size=None, num_workers=workers, multiprocessing_context=context
        )

    first, states, found = loader(), [], []
    iterator = iter(first)
    for _ in range(STEPS + 1):
        states.append(json.loads(json.dumps(first.state_dict())))
        found += index_of(next(iterator)["tokens"])
    assert found == list(range((STEPS + 1) * BATCH))
    for step, state in enumerate(states):
        second = loader()
        second.load_state_dict(state)
        rows = [index_of(item["tokens"]) for item in itertools.islice(second, 2)]
        assert list(itertools.chain.from_iterable(rows)) == list(range(step * BATCH, (step + 2) * BATCH))


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
            data = StreamDataset("uniform", length=16, batch_size=4, count=21 * 4, server=False,
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


def seen_by(folder: Path, name: str, number: int, ranks: int, index_of: Callable[[Any], list[int]]) -> list[int]:
    ranks_seen = [json.loads((folder / f"{name}-{number}-{rank}.json").read_text()) for rank in range(ranks)]
    return global_batches([[index_of(batch) for batch in seen] for seen in ranks_seen])


@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (1, 2), (2, 0)])
def test_lightning(tmp_path: Path, index_of: Callable[[Any], list[int]], processes: int, workers: int) -> None:
    pytest.importorskip("lightning")
    steps = STEPS if workers == 0 and processes == 1 else 3 if workers == 0 else 1
    run_program(tmp_path, LIGHTNING, "whole", steps, workers, processes, "-", "save", processes=processes)
    size = BATCH * processes
    assert seen_by(tmp_path, "whole", 1, processes, index_of) == list(range(steps * size))
    run_program(tmp_path, LIGHTNING, "later", steps, workers, processes, "save", "-", processes=processes)
    for step in range(1, steps + 1):  # one batch after each checkpoint
        found = seen_by(tmp_path, "later", step, processes, index_of)
        assert found == list(range(step * size, (step + 1) * size))


def test_lightning_without_a_length_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    endless = LIGHTNING.replace(" count=21 * 4,", "")
    with pytest.raises(AssertionError, match="Lightning reads one batch ahead of a loader that has no length"):
        run_program(tmp_path, endless, "whole", 2, 0, 1, "-", "save")


# --- accelerate ---


ACCELERATE = """
    import json, sys
    import torch
    from accelerate import Accelerator
    from torch.utils.data import DataLoader
    from iterand.torch import StreamDataset, StreamLoader

    kind, out, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])

    if __name__ == "__main__":
        accelerator = Accelerator(cpu=True)
        rank, world_size = accelerator.process_index, accelerator.num_processes

        def new(**options):
            return StreamDataset("uniform", length=16, batch_size=4, server=False, **options)

        def write(number, seen):
            with open(f"{out}-{number}-{rank}.json", "w") as file:
                json.dump(seen, file)

        if kind == "dispatched":  # read by the main process
            loader = accelerator.prepare(DataLoader(new(), batch_size=None))
            batches = [batch["tokens"].tolist() for _, batch in zip(range(steps), loader)]
            write(1, batches)
        else:
            loader = StreamLoader(new(rank=rank, world_size=world_size))
            accelerator.register_for_checkpointing(loader)
            seen, iterator = [], iter(loader)
            for step in range(steps):
                seen.append(next(iterator)["tokens"].tolist())
                accelerator.save_state(f"state-{step}")
            write(1, seen)
            for step in range(steps):
                other = Accelerator(cpu=True)
                later = StreamLoader(new(rank=rank, world_size=world_size))
                other.register_for_checkpointing(later)
                other.load_state(f"state-{step}")
                write(step + 2, [next(iter(later))["tokens"].tolist()])
        accelerator.end_training()
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_accelerate(tmp_path: Path, index_of: Callable[[Any], list[int]], processes: int) -> None:
    pytest.importorskip("accelerate")
    run_program(tmp_path, ACCELERATE, "own", "seen", STEPS, processes=processes)
    size = BATCH * processes
    assert seen_by(tmp_path, "seen", 1, processes, index_of) == list(range(STEPS * size))
    for step in range(STEPS):
        found = seen_by(tmp_path, "seen", step + 2, processes, index_of)
        assert found == list(range((step + 1) * size, (step + 2) * size))


@pytest.mark.parametrize("processes", [1, 2])
def test_accelerates_own_loader(tmp_path: Path, index_of: Callable[[Any], list[int]], processes: int) -> None:
    """`prepare` deals out the batches that the main process reads: whole batches, in turn."""
    pytest.importorskip("accelerate")
    run_program(tmp_path, ACCELERATE, "dispatched", "seen", 5, processes=processes)
    ranks = [json.loads((tmp_path / f"seen-1-{rank}.json").read_text()) for rank in range(processes)]
    found = [index_of(ranks[rank][step]) for step in range(5) for rank in range(processes)]
    assert list(itertools.chain.from_iterable(found)) == list(range(5 * BATCH * processes))


# --- transformers ---


TRAINER = """
    import json, sys
    from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments
    from iterand.hf import StreamTrainer
    from iterand.torch import StreamDataset

    out, first, last, workers, loss_mask = sys.argv[1], *map(int, sys.argv[2:5]), bool(int(sys.argv[5]))

    class Trainer(StreamTrainer):
        seen = []
        def training_step(self, model, inputs, *more):
            self.seen.append(inputs["input_ids"].tolist())
            return super().training_step(model, inputs, *more)

    if __name__ == "__main__":
        arguments = TrainingArguments(
            output_dir="out", per_device_train_batch_size=4, max_steps=last, save_steps=1, report_to="none",
            use_cpu=True, disable_tqdm=True, dataloader_num_workers=workers, gradient_accumulation_steps=2)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=256, n_positions=16, n_embd=8, n_layer=1, n_head=1))
        data = StreamDataset("uniform", length=16, server=False)
        trainer = Trainer(model, arguments, train_dataset=data)
        trainer.train(resume_from_checkpoint=f"out/checkpoint-{first}" if first else None)
        with open(f"{out}-{first}-{arguments.process_index}.json", "w") as file:
            json.dump(trainer.seen, file)
"""


@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (1, 2), (2, 0)])
def test_trainer(tmp_path: Path, index_of: Callable[[Any], list[int]], processes: int, workers: int) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    run_program(tmp_path, TRAINER, "seen", 0, 5, workers, 0, processes=processes)
    size = 2 * BATCH * processes  # per optimizer step
    assert seen_by(tmp_path, "seen", 0, processes, index_of) == list(range(5 * size))
    for first in (1, 4):
        run_program(tmp_path, TRAINER, "seen", first, first + 2, workers, 0, processes=processes)
        assert seen_by(tmp_path, "seen", first, processes, index_of) == list(range(first * size, (first + 2) * size))
    if processes == 2:  # the last checkpoint, of two processes, continues on one
        run_program(tmp_path, TRAINER, "seen", 6, 7, 0, 0)
        assert seen_by(tmp_path, "seen", 6, 1, index_of) == list(range(6 * size, 6 * size + 2 * BATCH))


def test_trainer_in_epochs_with_masks(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from iterand.hf import StreamTrainer

    def trainer(resumed: bool) -> Any:
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path / "out"),
            per_device_train_batch_size=4,
            num_train_epochs=2 if resumed else 1,
            save_steps=2,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        config = transformers.GPT2Config(vocab_size=256, n_positions=64, n_embd=8, n_layer=1, n_head=1)
        data = StreamDataset("tasks", length=64, count=16, loss_mask=True, server=False)
        made = StreamTrainer(transformers.GPT2LMHeadModel(config), arguments, train_dataset=data)
        seen.clear()
        step = made.training_step
        made.training_step = lambda model, inputs, *more: (seen.append(inputs), step(model, inputs, *more))[1]
        return made

    seen: list[dict[str, Any]] = []
    trainer(False).train()
    expected = iterand.stream("tasks", length=64, batch_size=4, count=16, loss_mask=True, server=False)
    for inputs, batch in zip(seen, expected.batches(), strict=True):
        assert np.array_equal(inputs["input_ids"], batch.tokens)
        assert batch.loss_mask is not None
        assert np.array_equal(inputs["labels"], np.where(batch.loss_mask, batch.tokens.astype(int), -100))
    whole = [inputs["input_ids"].tolist() for inputs in seen]
    for checkpoint, left in ((2, 2), (4, 0)):  # in the middle of an epoch, and at its end
        trainer(True).train(resume_from_checkpoint=str(tmp_path / f"out/checkpoint-{checkpoint}"))
        assert [inputs["input_ids"].tolist() for inputs in seen] == [*whole[4 - left :], *whole]


def test_trainer_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from iterand.hf import StreamTrainer

    arguments = transformers.TrainingArguments(output_dir=str(tmp_path), use_cpu=True, max_steps=1, report_to="none")
    config = transformers.GPT2Config(vocab_size=256, n_positions=16, n_embd=8, n_layer=1, n_head=1)
    model = transformers.GPT2LMHeadModel(config)
    with pytest.raises(iterand.InvalidArgument, match="train_dataset is a list; it must be a StreamDataset"):
        StreamTrainer(model, arguments, train_dataset=[])
    with pytest.raises(iterand.InvalidArgument, match="rank 1 of 2; it must have rank 0 of 1"):
        StreamTrainer(model, arguments, train_dataset=dataset(rank=1, world_size=2))


# --- datasets ---


def examples(dataset: Any, count: int | None, index_of: Callable[[Any], list[int]]) -> list[int]:
    return index_of([example["input_ids"] for example in itertools.islice(dataset, count)])


@pytest.mark.parametrize("remote", [False, True])
def test_datasets_resumes_at_every_step(address: str, index_of: Callable[[Any], list[int]], remote: bool) -> None:
    pytest.importorskip("datasets")
    from iterand.hf import iterable_dataset

    server: Any = address if remote else False
    first = iterable_dataset("uniform", length=LENGTH, server=server)
    iterator, states = iter(first), []
    for step in range(STEPS + 1):
        states.append(json.loads(json.dumps(first.state_dict())))
        assert index_of([next(iterator)["input_ids"]]) == [step]
    for step, state in enumerate(states):
        second = iterable_dataset("uniform", length=LENGTH, server=server)
        second.load_state_dict(state)
        assert examples(second, 70, index_of) == list(range(step, step + 70))
    count = iterable_dataset("uniform", length=LENGTH, start=3, count=70, server=server)
    assert examples(count, None, index_of) == list(range(3, 73))


def test_datasets_resumes_in_constant_time() -> None:
    pytest.importorskip("datasets")
    from iterand.hf import iterable_dataset

    far = 10**12
    dataset = iterable_dataset("uniform", length=LENGTH, server=False)
    next(iter(dataset))
    state = dataset.state_dict()
    state["examples_iterable"]["next_index"] = far
    begin = time.monotonic()
    later = iterable_dataset("uniform", length=LENGTH, server=False)
    later.load_state_dict(state)
    row = next(iter(later))["input_ids"]
    assert time.monotonic() - begin < 10
    assert np.array_equal(row, iterand.read("uniform", far, length=LENGTH, server=False)[0])


def test_datasets_refuses_another_stream(index_of: Callable[[Any], list[int]]) -> None:
    pytest.importorskip("datasets")
    from iterand.hf import iterable_dataset

    dataset = iterable_dataset("uniform", length=LENGTH, server=False)
    next(iter(dataset))
    other = iterable_dataset("uniform", length=LENGTH, seed=1, server=False)
    other.load_state_dict(dataset.state_dict())
    with pytest.raises(iterand.FingerprintMismatch, match="seed 0, not 1"):
        next(iter(other))
    moved = iterable_dataset("uniform", length=LENGTH, start=1, server=False)
    moved.load_state_dict(dataset.state_dict())
    with pytest.raises(iterand.InvalidArgument, match="resume with the same start"):
        next(iter(moved))


@pytest.mark.parametrize("workers", [0, 2, 3])
@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_datasets_on_nodes_and_workers(
    address: str, index_of: Callable[[Any], list[int]], nodes: int, workers: int
) -> None:
    pytest.importorskip("datasets")
    from datasets.distributed import split_dataset_by_node

    from iterand.hf import iterable_dataset

    whole = iterable_dataset("uniform", length=LENGTH, count=90, server=address)
    context = "forkserver" if workers else None
    found = []
    for rank in range(nodes):
        shard = split_dataset_by_node(whole, rank=rank, world_size=nodes)
        loader: Any = DataLoader(shard, batch_size=5, num_workers=workers, multiprocessing_context=context)
        found += [index for batch in loader for index in index_of(batch["input_ids"])]
    assert sorted(found) == list(range(90))


@pytest.mark.parametrize("workers", [0, 2])
def test_datasets_in_torchdatas_loader(address: str, index_of: Callable[[Any], list[int]], workers: int) -> None:
    pytest.importorskip("datasets")
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    from iterand.hf import iterable_dataset

    def loader() -> Any:
        data = iterable_dataset("uniform", length=LENGTH, count=60, server=address)
        context = "forkserver" if workers else None
        return stateful.StatefulDataLoader(data, batch_size=5, num_workers=workers, multiprocessing_context=context)

    whole = [index_of(batch["input_ids"]) for batch in loader()]
    assert sorted(itertools.chain.from_iterable(whole)) == list(range(60))
    for taken in (1, 4):
        first = loader()
        for _ in itertools.islice(first, taken):
            pass
        second = loader()
        second.load_state_dict(first.state_dict())
        assert [index_of(batch["input_ids"]) for batch in second] == whole[taken:]


# --- examples ---


@pytest.mark.parametrize(
    ("example", "package", "runs"),
    [
        ("torch_loop", "torch", (1, 2)),
        ("torchdata_loader", "torchdata", (1,)),
        ("lightning_module", "lightning", (1,)),
        ("accelerate_loop", "accelerate", (2, 1)),
        ("transformers_trainer", "transformers", (1,)),
        ("datasets_stream", "datasets", (1,)),
    ],
)
def test_examples_run(tmp_path: Path, example: str, package: str, runs: tuple[int, ...]) -> None:
    """Also from the checkpoint of another number of processes."""
    pytest.importorskip(package)
    file = EXAMPLES / f"{example}.py"
    assert len(file.read_text().splitlines()) <= 40
    out = [run_file(file, tmp_path, processes=processes) for processes in runs]
    if len(runs) > 1:
        first = 10 * 16 * runs[0]
        assert f"next index {first}" in out[0]
        assert f"next index {first + 10 * 16 * runs[1]}" in out[1]


def test_a_loader_is_left_as_it_is_by_prepare() -> None:
    accelerate = pytest.importorskip("accelerate")
    loader = StreamLoader(dataset())
    assert accelerate.Accelerator(cpu=True).prepare(loader) is loader
