"""Loss masks: the same from the command line, the client and the datasets."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from server_program import binary

import iterand
from iterand.torch import StreamDataset, StreamLoader

LENGTH, ROWS = 64, 40


# Everything between a program's row and a sequence: packing, marks, relabelling, filters, masks.
LAID_OUT = {
    "families": [{"tasks": {"symbols": {"fixed": 8}}}],
    "relabel": "RELABEL_SEQUENCE",
    "distinct": True,
    "length": LENGTH,
    "vocab_size": 1000,
    "alphabet_size": 12,
    "pack": 2,
    "marks": {"begin": True, "end": True, "separator_every": 9},
    "loss_mask": True,
}


def sample_masks(recipe: str, count: int, *options: str) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and masks by the command line."""
    command = [binary(), "sample", "--recipe", recipe, "--length", str(LENGTH), "--count", str(count), *options]
    lines = subprocess.run([*command, "--format", "jsonl", "--loss-mask"], capture_output=True, check=True).stdout
    rows = [json.loads(line) for line in lines.splitlines()]
    return np.array([row["tokens"] for row in rows]), np.array([row["loss_mask"] for row in rows], dtype=bool)


def expected() -> tuple[np.ndarray, np.ndarray]:
    """Tokens and masks of the first rows of `tasks`, made in-process."""
    return sample_masks("tasks", ROWS)


def test_layout_and_masks_are_the_same_everywhere(address: str, tmp_path: Path) -> None:
    file = tmp_path / "laid_out.json"
    file.write_text(json.dumps(LAID_OUT))
    tokens, mask = sample_masks(str(file), ROWS)
    assert (tokens[:, 0] == 997).all()
    assert (tokens[:, -1] == 998).all()
    assert (tokens[:, 10::10] == 999).all()
    assert not mask[:, 0].any()
    assert 0.1 < mask.mean() < 0.9
    served, served_mask = sample_masks(str(file), ROWS, "--server", address)
    np.testing.assert_array_equal(served, tokens)
    np.testing.assert_array_equal(served_mask, mask)
    for rank in range(4):
        part, part_mask = sample_masks(
            str(file), ROWS // 4, "--rank", str(rank), "--world-size", "4", "--server", address
        )
        np.testing.assert_array_equal(part, tokens[rank::4])
        np.testing.assert_array_equal(part_mask, mask[rank::4])
    with iterand.stream(LAID_OUT, batch_size=7, count=ROWS, server=address) as stream:
        batches = list(stream.batches())
    np.testing.assert_array_equal(np.concatenate([batch.tokens for batch in batches]), tokens)
    np.testing.assert_array_equal(np.concatenate([batch.loss_mask for batch in batches]), mask)


def test_client_has_the_masks_of_the_stream(address: str) -> None:
    tokens, mask = expected()
    assert 0.1 < mask.mean() < 0.9
    with iterand.stream("tasks", length=LENGTH, batch_size=7, count=ROWS, loss_mask=True, server=address) as stream:
        batches = list(stream.batches())
    np.testing.assert_array_equal(np.concatenate([batch.tokens for batch in batches]), tokens)
    np.testing.assert_array_equal(np.concatenate([batch.loss_mask for batch in batches]), mask)
    with iterand.Client(address) as client:
        batch = client.read_batch("tasks", range(3, 3 + 5), length=LENGTH, loss_mask=True)
    np.testing.assert_array_equal(batch.loss_mask, mask[3:8])


def test_no_mask_unless_asked_for(address: str) -> None:
    with iterand.stream("tasks", length=LENGTH, batch_size=4, server=address) as stream:
        assert stream.next_batch().loss_mask is None
    with (
        iterand.stream("up-noit", loss_mask=True, server=address) as refused,
        pytest.raises(iterand.InvalidRecipe, match="loss_mask"),
    ):
        next(refused)


@pytest.mark.parametrize("workers", [0, 2])
def test_items_have_the_masks(address: str, workers: int) -> None:
    tokens, mask = expected()
    data = StreamDataset("tasks", length=LENGTH, batch_size=4, count=ROWS, loss_mask=True, server=address)
    pairs = [(item["tokens"], item["loss_mask"]) for item in StreamLoader(data, num_workers=workers)]
    assert all(m.dtype == torch.bool and m.shape == t.shape for t, m in pairs)
    found = {tuple(row.tolist()): m for t, ms in pairs for row, m in zip(t, ms, strict=True)}
    for row, m in zip(tokens, mask, strict=True):
        np.testing.assert_array_equal(found[tuple(row.tolist())].numpy(), m)


def test_dump_writes_a_mask_file(tmp_path: Path) -> None:
    tokens, mask = expected()
    command = [binary(), "dump", "--recipe", "tasks", "--length", str(LENGTH), "--count", str(ROWS)]
    command += ["--out", str(tmp_path), "--format", "npy", "--loss-mask"]
    for _ in range(2):  # the second time finds both complete
        subprocess.run(command, check=True, capture_output=True)
        np.testing.assert_array_equal(np.load(tmp_path / "tokens.npy"), tokens)
        np.testing.assert_array_equal(np.load(tmp_path / "tokens.loss_mask.npy"), mask)
    # A mask that is lost is made again, and the tokens stay.
    for name in ("tokens.loss_mask.npy", "tokens.loss_mask.json"):
        (tmp_path / name).unlink()
    before = (tmp_path / "tokens.npy").stat().st_mtime_ns
    subprocess.run(command, check=True, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "tokens.loss_mask.npy"), mask)
    assert (tmp_path / "tokens.npy").stat().st_mtime_ns == before
