"""How the loaders of frameworks end, and what memory they take: a program of a user for each of them.

Each program reads, fails in the loop, leaves a loop early, and ends while it reads.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.integrations

# A reader's name, its package, and code that defines read(), whose items are batches of 32 KiB or more, or train(done).
READERS = {
    "StreamLoader": ("torch", "read = lambda: StreamLoader(data())"),
    "StreamLoader, 2 workers": ("torch", "read = lambda: StreamLoader(data(), num_workers=2)"),
    "DataLoader, 2 persistent workers": (
        "torch",
        """
        kept = DataLoader(data(server=address), batch_size=None, num_workers=2, persistent_workers=True,
                          multiprocessing_context="forkserver")
        read = lambda: kept
        """,
    ),
    "StatefulDataLoader": (
        "torchdata",
        """
        from torchdata.stateful_dataloader import StatefulDataLoader
        read = lambda: StatefulDataLoader(data(), batch_size=None)
        """,
    ),
    "StatefulDataLoader, 2 workers": (
        "torchdata",
        """
        from torchdata.stateful_dataloader import StatefulDataLoader
        read = lambda: StatefulDataLoader(data(server=address), batch_size=None, num_workers=2,
                                          multiprocessing_context="forkserver")
        """,
    ),
    "torchdata.nodes": (
        "torchdata",
        """
        from torchdata import nodes
        read = lambda: nodes.Loader(nodes.Prefetcher(nodes.IterableWrapper(data()), prefetch_factor=4))
        """,
    ),
    "Lightning": (
        "lightning",
        """
        import lightning
        class Model(lightning.LightningModule):
            def __init__(self, done):
                super().__init__()
                self.layer, self.done = torch.nn.Linear(512, 1), done
            def train_dataloader(self):
                return StreamLoader(data(count=10**6))
            def training_step(self, batch):
                self.done()
                return self.layer(batch["tokens"].float()).mean()
            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), 1e-3)
        def train(done):
            lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
                              enable_model_summary=False, max_steps=10**6).fit(Model(done))
        """,
    ),
    "accelerate": (
        "accelerate",
        """
        from accelerate import Accelerator
        accelerator = Accelerator(cpu=True)
        read = lambda: accelerator.prepare(DataLoader(data(), batch_size=None))
        """,
    ),
    "Trainer": (
        "transformers",
        """
        from transformers import GPT2Config, GPT2LMHeadModel, TrainerCallback, TrainingArguments
        from iterand.hf import StreamTrainer
        def train(done):
            class Done(TrainerCallback):
                def on_step_end(self, *_, **__):
                    done()
            config = GPT2Config(vocab_size=256, n_positions=512, n_embd=8, n_layer=1, n_head=1)
            arguments = TrainingArguments(output_dir="out", per_device_train_batch_size=4, max_steps=10**6,
                                          save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True)
            StreamTrainer(GPT2LMHeadModel(config), arguments, train_dataset=data(), callbacks=[Done()]).train()
        """,
    ),
    "datasets": (
        "datasets",
        """
        from iterand.hf import iterable_dataset
        read = lambda: DataLoader(iterable_dataset("uniform", length=512, server=address), batch_size=16, num_workers=2,
                                  multiprocessing_context="forkserver")
        """,
    ),
    "Grain, in order": (
        "grain",
        """
        from iterand.grain import StreamIterDataset
        read = lambda: StreamIterDataset("uniform", length=512, batch_size=128)
        """,
    ),
    "Grain, random access": (
        "grain",
        """
        import grain
        from iterand.grain import StreamSource
        source = StreamSource("uniform", length=512, batch_size=128, count=10**8)
        # By default Grain reads 500 elements ahead, 32 MiB here.
        ahead = grain.ReadOptions(num_threads=2, prefetch_buffer_size=16)
        read = lambda: grain.MapDataset.source(source).to_iter_dataset(ahead)
        """,
    ),
    "Grain, 2 workers": (
        "grain",
        """
        import grain
        from absl import flags
        from iterand.grain import StreamIterDataset
        flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(num_workers=2)
        read = lambda: StreamIterDataset("uniform", length=512, batch_size=128).mp_prefetch(options)
        """,
    ),
    "a read task of Ray": (
        "ray",
        """
        import dataclasses
        from iterand.ray import StreamDatasource
        @dataclasses.dataclass
        class Context:
            target_max_block_size: int = 64 << 10
        def read():
            (task,) = StreamDatasource("uniform", length=512, count=10**8).get_read_tasks(1, data_context=Context())
            return (table for table in task())
        """,
    ),
    "mix": (
        "numpy",
        """
        import numpy as np
        real = np.zeros((1000, 512), np.uint8)
        read = lambda: iterand.mix(iterand.stream("uniform", length=512), real, batch_size=128, repeat=True)
        """,
    ),
}

PROGRAM = """
import json, os, sys, time
import iterand
{imports}
warm_up, measured, address = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

def data(**options):
    return StreamDataset("uniform", length=512, batch_size=16, **options)

{reader}

def memory():
    "Bytes of all processes of this session, without files; pages that several share count once."
    session, found = os.getsid(0), 0
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.getsid(int(process)) == session:
                lines = open(f"/proc/{{process}}/smaps_rollup").read().splitlines()
                counted = [line for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))]
                found += sum(int(line.split()[1]) << 10 for line in counted)
        except (OSError, ValueError):
            pass
    return found

class Stop(Exception):
    pass

def loop(on_batch):
    "Calls on_batch for every batch, in the loop of the framework."
    if "train" in globals():
        return train(on_batch)
    for _ in read():
        on_batch()

def run(then):
    "Reads batches until `then` has been called with number 3."
    number = 0
    def on_batch():
        nonlocal number
        number += 1
        if number == 3:
            then()
    loop(on_batch)

def measure():
    number, before = 0, 0
    def on_batch():
        nonlocal number, before
        number += 1
        if number == warm_up:
            before = memory()
        if number == warm_up + measured:
            print(json.dumps([before, memory()]), flush=True)
            raise Stop
    loop(on_batch)

def stop():
    raise Stop

if __name__ == "__main__":
    for use in (measure, lambda: run(stop), lambda: run(stop)):
        try:
            use()
        except Stop:
            pass
        else:
            sys.exit("the error in the loop did not come back")
    run(lambda: sys.exit(3))
"""
IMPORTS = """import torch
from torch.utils.data import DataLoader
from iterand.torch import StreamDataset, StreamLoader
"""


@dataclasses.dataclass
class Ended:
    status: int
    errors: str
    before: int
    after: int
    left: list[int]  # processes


@functools.cache
def ended(reader: str, address: str) -> Ended:
    package, code = READERS[reader]
    pytest.importorskip(package)
    imports = "" if package in ("grain", "ray", "numpy") else IMPORTS
    text = PROGRAM.format(imports=imports, reader=textwrap.dedent(code))
    slow = reader in ("Trainer", "Lightning")  # they train
    warm_up, measured = ("300", "700") if slow else ("1500", "2500")
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", text, warm_up, measured, address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    ) as process:
        out, errors = process.communicate(timeout=300)
    numbers = [json.loads(line) for line in out.splitlines() if line.startswith("[")]
    before, after = numbers[0] if numbers else (0, 0)
    return Ended(process.returncode, errors, before, after, left_in_session(process.pid))


def left_in_session(session: int) -> list[int]:
    """The processes that still run after ten seconds."""
    end = time.monotonic() + 10
    while True:
        found = []
        for each in Path("/proc").iterdir():
            try:
                if each.name.isdigit() and os.getsid(int(each.name)) == session:
                    found.append(int(each.name))
            except ProcessLookupError:
                pass
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.1)


@pytest.mark.parametrize("reader", READERS)
def test_errors_and_early_exit_leave_nothing_behind(reader: str, address: str) -> None:
    found = ended(reader, address)
    assert found.status == 3, found.errors[-3000:]
    assert "Traceback" not in found.errors, found.errors[-3000:]
    assert found.left == []


@pytest.mark.parametrize("reader", READERS)
def test_memory_stays_flat(reader: str, address: str) -> None:
    """To keep each batch would take 20 MiB or more, and 156 MiB with datasets, whose tokens are int64.

    The two workers of datasets grow for about ten thousand batches, by less and less, as malloc's arenas fill.
    """
    found = ended(reader, address)
    growth = (found.after - found.before) / 2**20
    print(f"{reader}: {found.before / 2**20:.0f} MiB, and {growth:+.1f} MiB later")
    assert found.before > 0, found.errors[-3000:]
    assert growth < (32 if reader == "datasets" else 16), f"grew by {growth:.1f} MiB"
