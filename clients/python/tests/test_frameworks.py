"""The programs of docs/frameworks.md, with the packages that are installed."""

from __future__ import annotations

import asyncio
import copy
import itertools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from server_program import REPOSITORY

import iterand
import ray_cluster

PAGE = (REPOSITORY / "docs/frameworks.md").read_text()


def program(heading: str) -> dict[str, Any]:
    """The names that the program below a heading of the page defines."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names: dict[str, Any] = {"__name__": __name__}  # dataclasses look for their module
    exec(compile(code, f"docs/frameworks.md, {heading}", "exec", dont_inherit=True), names)
    return names


def test_noise_mixed_with_real_data() -> None:
    names = program("Noise mixed with real data")
    assert names["batch"]["tokens"].shape == names["batch"]["loss_mask"].shape == (32, 128)
    assert names["state"]["step"] == 10


@pytest.mark.integrations
def test_torch() -> None:
    pytest.importorskip("torch", reason="the package torch is absent")
    from torch.utils.data import DataLoader

    names = program("PyTorch")
    assert names["batch"]["tokens"].shape == (16, 128)
    assert names["state"]["next_index"] == 16
    names = program("PyTorch, map style")
    dataset = names["dataset"]
    expected = iterand.read("up", range(10_000), length=128).astype(np.int64)
    by_batches = DataLoader(dataset, sampler=names["sampler"], batch_size=None)
    for workers, loader in (
        (0, by_batches),
        (0, DataLoader(dataset, batch_size=64)),
        (2, DataLoader(dataset, batch_size=64, num_workers=2)),
    ):
        rows = np.concatenate([batch["tokens"].numpy() for batch in loader])
        assert np.array_equal(rows, expected), workers
    small = iterand.IndexDataset("up", length=128, count=200)
    shuffled = np.concatenate([batch["tokens"].numpy() for batch in DataLoader(small, batch_size=16, shuffle=True)])
    assert sorted(map(bytes, shuffled)) == sorted(map(bytes, expected[:200].astype(np.uint8)))


@pytest.mark.integrations
def test_torchdata() -> None:
    pytest.importorskip("torchdata.nodes", reason="the package torchdata is absent")
    names = program("torchdata")
    nodes = names["torchdata"].nodes
    later = nodes.Loader(nodes.Prefetcher(names["node"], prefetch_factor=2))
    later.load_state_dict(names["state"])
    expected = iterand.read("up", range(16, 32), length=128)
    assert np.array_equal(next(iter(later))["tokens"].numpy(), expected)


@pytest.mark.integrations
@pytest.mark.parametrize(("size", "workers"), [(500, 0), (30, 0), (30, 2)])
def test_stateful_data_loaders_can_be_mixed(size: int, workers: int) -> None:
    """torchdata's loader as the real data, begun again where it is short. Every step up to 20 resumes exactly."""
    torchdata = pytest.importorskip("torchdata.stateful_dataloader", reason="the package torchdata is absent")
    items = [np.full(32, index) for index in range(size)]

    def make() -> iterand.Mix:
        real = torchdata.StatefulDataLoader(items, batch_size=None, num_workers=workers)
        noise = iterand.stream("uniform", length=32, server=False)
        return iterand.mix(noise, real, (1, 1), batch_size=8, repeat=size < 500)

    expected = list(itertools.islice(make(), 26))
    real_rows = np.concatenate([batch["tokens"][batch["source"] == 1, 0] for batch in expected])
    assert real_rows.tolist() == [index % size for index in range(len(real_rows))]
    running = make()
    for step in range(21):
        if workers and step % 7:
            next(running)
            continue
        resumed = make()
        resumed.load_state_dict(copy.deepcopy(running.state_dict()))
        for found, wanted in zip(itertools.islice(resumed, 5), expected[step : step + 5], strict=True):
            assert np.array_equal(found["tokens"], wanted["tokens"])
        next(running)


@pytest.mark.integrations
@pytest.mark.parametrize("repeat", [False, True])
def test_data_sets_of_hugging_face_can_be_mixed(repeat: bool) -> None:
    """Both kinds of `datasets`, with every step up to 20 resumed exactly; iterable ones begin again, too."""
    datasets = pytest.importorskip("datasets", reason="the package datasets is absent")
    size = 30 if repeat else 500
    table = datasets.Dataset.from_dict({"input_ids": [[index] * 32 for index in range(size)]})

    for real in (lambda: table, lambda: table.to_iterable_dataset(num_shards=3)):

        def make(real: Any = real) -> iterand.Mix:
            noise = iterand.stream("uniform", length=32, server=False)
            return iterand.mix(noise, real(), (1, 1), batch_size=8, repeat=repeat)

        expected = list(itertools.islice(make(), 26))
        rows = np.concatenate([batch["tokens"][batch["source"] == 1, 0] for batch in expected])
        assert rows.tolist() == [index % size for index in range(len(rows))]
        running = make()
        for step in range(21):
            resumed = make()
            resumed.load_state_dict(copy.deepcopy(running.state_dict()))
            again = make()
            again.load_state_dict(copy.deepcopy(resumed.state_dict()))
            for loader in (resumed, again):
                for found, wanted in zip(itertools.islice(loader, 5), expected[step : step + 5], strict=True):
                    assert np.array_equal(found["tokens"], wanted["tokens"]), (real, step)
            next(running)


@pytest.mark.integrations
def test_grain() -> None:
    pytest.importorskip("grain", reason="the package grain is absent: pip install 'iterand[grain]'")
    names = program("Grain")
    assert next(names["iterator"])["tokens"].shape == (64, 128)
    assert len(names["source"]) == 1563


@pytest.fixture
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="the package ray is absent: pip install 'iterand[ray]'")
    ray_cluster.start(num_cpus=2)
    yield
    ray.shutdown()


@pytest.mark.integrations
@pytest.mark.usefixtures("cluster")
def test_ray() -> None:
    names = program("Ray")
    assert names["batch"]["tokens"].shape == (1000, 128)


@pytest.mark.integrations
def test_levanter() -> None:
    pytest.importorskip("levanter", reason="the package marin-levanter is absent")
    import jax
    from levanter.data import DataLoader

    names = program("Levanter")
    expected = iterand.read("up", range(10_000), length=128)
    noise = names["NoiseDataset"]("up", length=128, count=10_000)
    found = asyncio.run(noise.get_batch([5, 9_999, 5, 0]))
    assert np.array_equal([item["input_ids"] for item in found], expected[[5, 9_999, 5, 0]])
    mesh = jax.make_mesh((1,), ("data",))
    with jax.set_mesh(mesh):
        loader = DataLoader(
            names["train_set"], batch_size=16, mesh=mesh, axis_resources={"batch": "data"}, max_buffered_batches=0
        )
        batches = [np.asarray(batch.tokens) for batch in itertools.islice(loader, 26)]
        assert np.array_equal(np.concatenate(batches), expected[: 26 * 16])
        for step in range(21):
            resumed = [np.asarray(batch.tokens) for batch in itertools.islice(loader.iter_from_step(step), 3)]
            assert np.array_equal(resumed, batches[step : step + 3])


@pytest.mark.integrations
def test_torchtitan() -> None:
    pytest.importorskip("torchtitan.components.dataloader", reason="the package torchtitan is absent")
    names = program("torchtitan")
    config = names["NoiseDataLoader"].Config(dataset="uniform", seed=3)

    def loader(rank: int, world_size: int) -> Any:
        options = {"tokenizer": None, "seq_len": 31, "local_batch_size": 4, "snapshot_every_n_steps": 1}
        return config.build(dp_world_size=world_size, dp_rank=rank, **options)

    expected = {
        row.tobytes(): index for index, row in enumerate(iterand.read("uniform", range(600), seed=3, length=32))
    }

    def indices(batches: Any) -> list[int]:
        found = []
        for inputs, labels in batches:
            assert inputs["input"].shape == inputs["positions"].shape == labels.shape == (4, 31)
            rows = np.concatenate([inputs["input"].numpy(), labels.numpy()[:, -1:]], axis=1).astype(np.uint8)
            found += [expected[row.tobytes()] for row in rows]
        return found

    read, state = [], None
    for world_size in (1, 2, 3):  # each continues from the state of the one before
        states = []
        for rank in range(world_size):
            reader = loader(rank, world_size)
            reader.load_state_dict(state or {})
            read += indices(itertools.islice(reader, 20))
            states.append(reader.state_dict())
        assert all(other == states[0] for other in states)
        state = states[0]
    assert sorted(read) == list(range(20 * 4 * 6))
    whole = indices(itertools.islice(loader(0, 1), 26))
    running = loader(0, 1)
    batches = iter(running)
    for step in range(21):
        resumed = loader(0, 1)
        resumed.load_state_dict(running.state_dict())
        assert indices(itertools.islice(resumed, 2)) == whole[4 * step : 4 * step + 8]
        next(batches)
