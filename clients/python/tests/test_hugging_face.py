"""accelerate, transformers and datasets, with the real packages: every sequence once, by index, and exact resume."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

import iterand
from framework_programs import BATCH, LENGTH, STEPS, Compared, run_program
from iterand.torch import StreamDataset, StreamLoader

pytestmark = [pytest.mark.integrations, pytest.mark.filterwarnings("ignore")]

Begin = Callable[..., Compared]


def dataset(**options: Any) -> StreamDataset:
    return StreamDataset("uniform", length=LENGTH, server=False, **{"batch_size": BATCH, **options})


# --- accelerate ---


ACCELERATE = """
    import json, sys
    import torch
    from accelerate import Accelerator
    from torch.utils.data import DataLoader
    from iterand.torch import StreamDataset, StreamLoader

    kind, out, steps, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

    if __name__ == "__main__":
        accelerator = Accelerator(cpu=True)
        rank, world_size = accelerator.process_index, accelerator.num_processes

        def new(**options):
            return StreamDataset("uniform", length=16, batch_size=4, server=False, **options)

        def write(name, seen):
            with open(f"{name}-{rank}.json", "w") as file:
                json.dump(seen, file)

        if kind == "dispatched":  # read by the main process
            loader = accelerator.prepare(DataLoader(new(), batch_size=None, num_workers=workers))
            write(out, [batch["tokens"].tolist() for _, batch in zip(range(steps), loader)])
        else:
            if kind == "own":
                loader = StreamLoader(new(rank=rank, world_size=world_size), workers)
                accelerator.register_for_checkpointing(loader)
                seen, iterator = [], iter(loader)
                for step in range(steps):
                    accelerator.save_state(f"state-{step}")
                    seen.append(next(iterator)["tokens"].tolist())
                write(out, seen)
            for step in range(steps):
                other = Accelerator(cpu=True)
                later = StreamLoader(new(rank=rank, world_size=world_size), workers)
                other.register_for_checkpointing(later)
                other.load_state(f"state-{step}")
                write(f"{out}-{step}", [next(iter(later))["tokens"].tolist()])
        accelerator.end_training()
"""


@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (2, 0), (2, 2)])
def test_accelerate(tmp_path: Path, compared: Begin, processes: int, workers: int) -> None:
    """Resumes at every step. A state of two processes fits one."""
    pytest.importorskip("accelerate")
    record = compared("accelerate", processes, workers)
    run_program(tmp_path, ACCELERATE, "own", "seen", STEPS + 1, workers, processes=processes)
    size = BATCH * processes
    assert record.global_batches(tmp_path, "seen", processes) == list(range((STEPS + 1) * size))
    runs = [("seen", record, processes)]
    if processes == 2:
        run_program(tmp_path, ACCELERATE, "later", "alone", STEPS + 1, workers)
        runs.append(("alone", compared("accelerate", 1, workers), 1))
    for name, each, later in runs:
        for step in range(STEPS + 1):
            each.resumed += 1
            found = each.global_batches(tmp_path, f"{name}-{step}", later)
            assert found == list(range(step * size, step * size + BATCH * later))


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("workers", [0, 1])
def test_accelerates_own_loader(tmp_path: Path, compared: Begin, processes: int, workers: int) -> None:
    """`prepare` deals out the batches that the main process reads: whole batches, in turn."""
    pytest.importorskip("accelerate")
    record = compared("accelerate", processes, f"prepared {workers}")
    run_program(tmp_path, ACCELERATE, "dispatched", "seen", 5, workers, processes=processes)
    ranks = [json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in range(processes)]
    found = [record.indices(ranks[rank][step]) for step in range(5) for rank in range(processes)]
    assert list(itertools.chain.from_iterable(found)) == list(range(5 * BATCH * processes))


def test_a_loader_is_left_as_it_is_by_prepare() -> None:
    accelerate = pytest.importorskip("accelerate")
    loader = StreamLoader(dataset())
    assert accelerate.Accelerator(cpu=True).prepare(loader) is loader


# --- transformers ---


TRAINER = """
    import json, sys
    from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments
    from iterand.hf import StreamTrainer
    from iterand.torch import StreamDataset

    out, whole, workers, *points = sys.argv[1], *map(int, sys.argv[2:])

    class Trainer(StreamTrainer):
        def training_step(self, model, inputs, *more):
            self.seen.append(inputs["input_ids"].tolist())
            return super().training_step(model, inputs, *more)

    def run(name, last, point=None):
        arguments = TrainingArguments(
            output_dir="out" if point is None else "later", per_device_train_batch_size=4, max_steps=last, save_steps=1,
            save_strategy="steps" if point is None else "no", report_to="none", use_cpu=True, disable_tqdm=True,
            dataloader_num_workers=workers, gradient_accumulation_steps=2)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=256, n_positions=16, n_embd=8, n_layer=1, n_head=1))
        data = StreamDataset("uniform", length=16, server=False)
        trainer = Trainer(model, arguments, train_dataset=data)
        trainer.seen = []
        trainer.train(resume_from_checkpoint=None if point is None else f"out/checkpoint-{point}")
        with open(f"{name}-{arguments.process_index}.json", "w") as file:
            json.dump(trainer.seen, file)

    if __name__ == "__main__":
        if whole:
            run(out, whole)
        for point in points:
            run(f"{out}-{point}", point + 1, point)
"""


@pytest.mark.parametrize(("processes", "workers"), [(1, 0), (1, 2), (2, 0)])
def test_trainer(tmp_path: Path, compared: Begin, processes: int, workers: int) -> None:
    """One optimizer step after each of 20 checkpoints. Those of two processes fit one."""
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    record = compared("transformers", processes, workers)
    points = range(1, STEPS + 1)
    run_program(tmp_path, TRAINER, "seen", STEPS, workers, *points, processes=processes)
    size = 2 * BATCH * processes  # per optimizer step
    assert record.global_batches(tmp_path, "seen", processes) == list(range(STEPS * size))
    runs = [("seen", record, processes)]
    if processes == 2:
        run_program(tmp_path, TRAINER, "alone", 0, workers, *points)
        runs.append(("alone", compared("transformers", 1, workers), 1))
    for name, each, later in runs:
        for step in points:
            each.resumed += 1
            found = each.global_batches(tmp_path, f"{name}-{step}", later)
            assert found == list(range(step * size, step * size + 2 * BATCH * later))


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


def examples(record: Compared, dataset: Any, count: int | None = None) -> list[int]:
    return record.indices(example["input_ids"] for example in itertools.islice(dataset, count))


@pytest.mark.parametrize("nodes", [1, 2, 3])
@pytest.mark.parametrize("remote", [False, True])
def test_datasets_resumes_at_every_step(address: str, compared: Begin, remote: bool, nodes: int) -> None:
    pytest.importorskip("datasets")
    from datasets.distributed import split_dataset_by_node

    from iterand.hf import iterable_dataset

    record = compared("datasets", nodes)
    server: Any = address if remote else False

    def make(rank: int) -> Any:
        whole = iterable_dataset("uniform", length=LENGTH, server=server)
        return whole if nodes == 1 else split_dataset_by_node(whole, rank=rank, world_size=nodes)

    for rank in range(nodes):
        first = make(rank)
        iterator, states = iter(first), []
        for step in range(STEPS + 1):
            states.append(json.loads(json.dumps(first.state_dict())))
            assert record.indices([next(iterator)["input_ids"]]) == [rank + nodes * step]
        for step, state in enumerate(states):
            second = make(rank)
            second.load_state_dict(state)
            record.resumed += 1
            assert examples(record, second, 70) == list(range(rank + nodes * step, nodes * (step + 70), nodes))
    count = iterable_dataset("uniform", length=LENGTH, start=3, count=70, server=server)
    assert examples(record, count) == list(range(3, 73))


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


def test_datasets_refuses_another_stream() -> None:
    pytest.importorskip("datasets")
    from datasets.distributed import split_dataset_by_node

    from iterand.hf import iterable_dataset

    dataset = iterable_dataset("uniform", length=LENGTH, server=False)
    next(iter(dataset))
    other = iterable_dataset("uniform", length=LENGTH, seed=1, server=False)
    other.load_state_dict(dataset.state_dict())
    with pytest.raises(iterand.FingerprintMismatch, match="seed 0, not 1"):
        next(iter(other))
    moved = iterable_dataset("uniform", length=LENGTH, start=1, server=False)
    node = split_dataset_by_node(iterable_dataset("uniform", length=LENGTH, server=False), rank=1, world_size=2)
    for changed in (moved, node):
        changed.load_state_dict(dataset.state_dict())
        with pytest.raises(iterand.InvalidArgument, match="resume with the same start and numbers of nodes"):
            next(iter(changed))


@pytest.mark.parametrize("workers", [0, 2, 3])
@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_datasets_on_nodes_and_workers(address: str, compared: Begin, nodes: int, workers: int) -> None:
    pytest.importorskip("datasets")
    from datasets.distributed import split_dataset_by_node

    from iterand.hf import iterable_dataset

    record = compared("datasets", nodes, workers)
    whole = iterable_dataset("uniform", length=LENGTH, count=90, server=address)
    context = "forkserver" if workers else None
    found = []
    for rank in range(nodes):
        shard = split_dataset_by_node(whole, rank=rank, world_size=nodes)
        loader: Any = DataLoader(shard, batch_size=5, num_workers=workers, multiprocessing_context=context)
        found += [index for batch in loader for index in record.indices(batch["input_ids"])]
    assert sorted(found) == list(range(90))


@pytest.mark.parametrize("workers", [0, 2])
def test_datasets_in_torchdatas_loader(address: str, compared: Begin, workers: int) -> None:
    pytest.importorskip("datasets")
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    from iterand.hf import iterable_dataset

    record = compared("datasets", 1, workers)

    def loader() -> Any:
        data = iterable_dataset("uniform", length=LENGTH, count=110, server=address)
        context = "forkserver" if workers else None
        return stateful.StatefulDataLoader(data, batch_size=5, num_workers=workers, multiprocessing_context=context)

    first, states, whole = loader(), [], []
    iterator = iter(first)
    for _ in range(STEPS + 1):
        states.append(json.loads(json.dumps(first.state_dict())))
        whole.append(record.indices(next(iterator)["input_ids"]))
    whole += [record.indices(batch["input_ids"]) for batch in iterator]
    assert sorted(itertools.chain.from_iterable(whole)) == list(range(110))
    for step, state in enumerate(states):
        second = loader()
        second.load_state_dict(state)
        record.resumed += 1
        found = [record.indices(batch["input_ids"]) for batch in itertools.islice(second, 3)]
        assert found == whole[step : step + 3]
