"""The table of bench/loaders: each loader in a process of its own, on one core, in turns."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import iterand
import numpy as np
import torch

ROWS, LENGTH = 64, 512
SEQUENCES = 65536  # of the dump: 32 MiB in uint8
Batches = Iterator[Any]


def _int64(tokens: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(tokens.astype(np.int64))


def embedded(preset: str, wide: bool) -> Callable[[Path], Batches]:
    def make(_: Path) -> Batches:
        iterand.set_threads(1)
        stream = iterand.stream(preset, length=LENGTH if wide else None, batch_size=ROWS)
        if not wide:
            return stream
        return map(_int64, stream)

    return make


def served(folder: Path) -> Batches:
    return map(
        _int64, iterand.stream("up-statistics", length=LENGTH, batch_size=ROWS, server=(folder / "address").read_text())
    )


def _dump(folder: Path) -> np.ndarray:
    return np.memmap(folder / "tokens.bin", dtype=np.uint16, mode="r")


def nanogpt(folder: Path) -> Batches:
    """get_batch of nanoGPT's train.py, for the inputs alone."""
    while True:
        data = _dump(folder)
        places = torch.randint(len(data) - LENGTH, (ROWS,))
        yield torch.stack([torch.from_numpy(data[i : i + LENGTH].astype(np.int64)) for i in places.tolist()])


def sequential(folder: Path) -> Batches:
    rows = _dump(folder).reshape(-1, LENGTH)
    while True:
        for at in range(0, len(rows), ROWS):
            yield _int64(rows[at : at + ROWS])


def arrow(folder: Path) -> Batches:
    from datasets import load_from_disk

    rows = load_from_disk(str(folder / "arrow")).with_format("torch")
    while True:
        for batch in rows.iter(batch_size=ROWS):
            yield batch["tokens"]


def mosaic(folder: Path) -> Batches:
    from streaming import StreamingDataset
    from torch.utils.data import DataLoader

    rows = StreamingDataset(local=str(folder / "mds"), batch_size=ROWS)
    while True:
        for batch in DataLoader(rows, batch_size=ROWS):
            yield batch["tokens"].to(torch.int64)


def litdata(folder: Path) -> Batches:
    from litdata import StreamingDataLoader, StreamingDataset, TokensLoader

    rows = StreamingDataset(str(folder / "litdata"), item_loader=TokensLoader(block_size=LENGTH))
    while True:
        for batch in StreamingDataLoader(rows, batch_size=ROWS):
            yield batch.to(torch.int64)


def webdataset(folder: Path) -> Batches:
    import webdataset as wds

    shards = [str(path) for path in sorted((folder / "wds").glob("*.tar"))]
    while True:
        rows = wds.WebDataset(shards, shardshuffle=False).decode().to_tuple("tokens.npy").batched(ROWS)
        for (batch,) in rows:
            yield torch.as_tensor(np.asarray(batch)).to(torch.int64)


NATIVE = ("up-statistics", "up", "lstm", "mix")  # beside the C++ engine alone
LOADERS: dict[str, Callable[[Path], Batches]] = {
    **{f"iterand, this process, {preset}, uint8, its own length": embedded(preset, wide=False) for preset in NATIVE},
    "iterand, this process, up-statistics": embedded("up-statistics", wide=True),
    "iterand, a server on another core, up-statistics": served,
    "nanoGPT, random crops of a memory map": nanogpt,
    "one memory map, read in order": sequential,
}
PEERS: dict[str, Callable[[Path], Batches]] = {
    "Hugging Face datasets, Arrow": arrow,
    "MosaicML Streaming, MDS": mosaic,
    "litdata": litdata,
    "WebDataset": webdataset,
}


def write_dumps(folder: Path, peers: bool) -> None:
    rows = iterand.read("up-statistics", range(SEQUENCES), length=LENGTH).astype(np.uint16)
    rows.tofile(folder / "tokens.bin")
    if not peers:
        return
    from datasets import Dataset

    Dataset.from_dict({"tokens": rows}).save_to_disk(str(folder / "arrow"))
    from streaming import MDSWriter

    with MDSWriter(out=str(folder / "mds"), columns={"tokens": f"ndarray:uint16:{LENGTH}"}) as out:
        for row in rows:
            out.write({"tokens": row})
    from litdata.streaming import TokensLoader
    from litdata.streaming.writer import BinaryWriter

    (folder / "litdata").mkdir()
    writer = BinaryWriter(str(folder / "litdata"), chunk_bytes=64 << 20, item_loader=TokensLoader(block_size=LENGTH))
    for index, row in enumerate(rows):
        writer[index] = torch.from_numpy(row)
    writer.done()
    writer.merge()
    import webdataset as wds

    (folder / "wds").mkdir()
    with wds.ShardWriter(str(folder / "wds" / "x-%06d.tar"), maxcount=16384, verbose=0) as tar:
        for index, row in enumerate(rows):
            tar.write({"__key__": f"{index:012d}", "tokens.npy": row})


def measure(name: str, folder: Path, seconds: float) -> float:
    """Tokens per second, in this process, on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    batches = ({**LOADERS, **PEERS})[name](folder)
    for _ in range(64):
        next(batches)
    tokens, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        for _ in range(8):
            batch = next(batches)
            tokens += batch.size if isinstance(batch, np.ndarray) else batch.numel()
    return tokens / passed


def native_rate(preset: str, seconds: float) -> float:
    """Of bench/preset_bench: the C++ engine alone, one thread."""
    program = Path(__file__).resolve().parents[1] / "build/release/bench/preset_bench"
    core = str(min(os.sched_getaffinity(0)))
    command = ["taskset", "-c", core, str(program), "--preset", preset, "--seconds", str(seconds), "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["tokens_per_second"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(measure(options.one[0], Path(options.one[1]), options.seconds))
        return
    names = [*LOADERS, *([] if options.no_peers else PEERS)]
    found: dict[str, list[float]] = {name: [] for name in names}
    native: dict[str, list[float]] = {preset: [] for preset in NATIVE}
    with tempfile.TemporaryDirectory() as scratch, iterand.Server(threads=1) as server:
        folder = Path(scratch)
        write_dumps(folder, not options.no_peers)
        (folder / "address").write_text(server.address)
        assert server._running is not None
        os.sched_setaffinity(server._running.process.pid, {max(os.sched_getaffinity(0))})
        for _ in range(options.rounds):
            for preset in NATIVE:
                native[preset].append(native_rate(preset, options.seconds))
            for name in names:
                command = [sys.executable, __file__, "--seconds", str(options.seconds), "--one", name, scratch]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode != 0:
                    print(f"{name}: failed: {(done.stderr.splitlines() or ['?'])[-1]}", file=sys.stderr)
                    continue
                found[name].append(float(done.stdout.split()[-1]))
    rates = {name: statistics.median(values) for name, values in found.items() if values}
    of_nanogpt = rates["nanoGPT, random crops of a memory map"]
    print("| loader (64 x 512 as int64, unless it says otherwise) | M tokens/s | of nanoGPT's | of the C++ engine's |")
    print("| --- | --- | --- | --- |")
    for name, rate in rates.items():
        alone = next((statistics.median(native[preset]) for preset in NATIVE if f", {preset}, uint8" in name), None)
        share = "" if alone is None else f"{rate / alone:.2f}"
        print(f"| {name} | {rate / 1e6:.1f} | {rate / of_nanogpt:.2f} | {share} |")


if __name__ == "__main__":
    main()
