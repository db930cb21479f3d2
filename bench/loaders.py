"""The tables of bench/loaders. Whatever is measured has a process of its own, on one core. See bench/loaders."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import iterand
import numpy as np
import torch

ROWS, LENGTH = 64, 512
CYCLE = 24  # batches: the 48 sequences of a segment, of 32 lanes
SEQUENCES = 65536  # of the dump: 32 MiB in uint8
Batches = Iterator[Any]


def _int64(tokens: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(tokens.astype(np.int64))


def embedded(preset: str) -> Callable[[Path], Batches]:
    """As iterand.stream gives them: uint8."""

    def make(_: Path) -> Batches:
        iterand.set_threads(1)
        return iterand.stream(preset, length=LENGTH, batch_size=ROWS, server=False)

    return make


def widened(_: Path) -> Batches:
    return map(_int64, embedded("up-statistics")(_))


def _items(dataset: Any) -> Batches:
    from iterand.torch import StreamLoader

    return (item["tokens"] for item in StreamLoader(dataset))


def loader(preset: str) -> Callable[[Path], Batches]:
    def make(_: Path) -> Batches:
        from iterand.torch import StreamDataset

        iterand.set_threads(1)
        return _items(StreamDataset(preset, length=LENGTH, batch_size=ROWS, server=False))

    return make


def served(folder: Path) -> Batches:
    from iterand.torch import StreamDataset

    address = (folder / "address").read_text()
    return _items(StreamDataset("up-statistics", length=LENGTH, batch_size=ROWS, server=address))


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


def _let_torchvision_import() -> None:
    """MosaicML and litdata import torchvision, which fails if it was built for CUDA and torch was not.

    What is missing then are declarations of operators that no loader of tokens calls.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        untyped: Any = torch.library
        library = untyped.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)


_kept: list[Any] = []


def mosaic(folder: Path) -> Batches:
    _let_torchvision_import()
    from streaming import StreamingDataset
    from torch.utils.data import DataLoader

    rows = StreamingDataset(local=str(folder / "mds"), batch_size=ROWS)
    while True:
        for batch in DataLoader(rows, batch_size=ROWS):
            yield batch["tokens"].to(torch.int64)


def litdata(folder: Path) -> Batches:
    _let_torchvision_import()
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
NANOGPT, ARROW = "nanoGPT, random crops of a memory map", "Hugging Face datasets, Arrow"
LOADERS: dict[str, Callable[[Path], Batches]] = {
    **{f"iterand.stream, uint8, `{preset}`": embedded(preset) for preset in NATIVE},
    "iterand.stream, cast to int64, `up-statistics`": widened,
    "StreamLoader, `up-statistics`": loader("up-statistics"),
    "StreamLoader, `up`": loader("up"),
    "StreamLoader, `up-statistics` from a server on another core": served,
    NANOGPT: nanogpt,
    "one memory map, read in order": sequential,
}
PEERS: dict[str, Callable[[Path], Batches]] = {
    ARROW: arrow,
    "MosaicML Streaming, MDS": mosaic,
    "litdata": litdata,
    "WebDataset": webdataset,
}


def write_dumps(folder: Path, peers: bool) -> None:
    """Those that an earlier run has not written."""
    done = folder / f"done{'-peers' if peers else ''}"
    if done.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows = iterand.read("up-statistics", range(SEQUENCES), length=LENGTH).astype(np.uint16)
    rows.tofile(folder / "tokens.bin")
    if peers:
        write_peers(folder, rows)
    (folder / "done").touch()
    done.touch()


def write_peers(folder: Path, rows: np.ndarray) -> None:
    _let_torchvision_import()
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


def _one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    iterand.set_threads(1)


def _rate(batches: Batches, seconds: float) -> float:
    """Tokens per second. The clock starts and stops where the segments of all lanes end, as in bench/preset_bench."""
    for _ in itertools.islice(batches, CYCLE):
        pass
    tokens, passed, begin = 0, 0.0, time.perf_counter()
    while passed < seconds:
        for batch in itertools.islice(batches, CYCLE):
            tokens += batch.size if isinstance(batch, np.ndarray) else batch.numel()
        passed = time.perf_counter() - begin
    return tokens / passed


def one_rate(name: str, folder: Path, seconds: float) -> None:
    print(_rate(({**LOADERS, **PEERS})[name](folder), seconds))


def one_wait(preset: str, rate: float, seconds: float) -> None:
    """Prints which share of the time a stream's consumer waits that takes `rate` tokens per second, which share of
    the pace it kept, the seconds of the median call, and the share of the time that longer calls took beyond those.

    The first two cycles do not count: in them the stream gets ahead of its consumer.
    """
    step = ROWS * LENGTH / rate
    calls: list[float] = []  # seconds of each
    with iterand.stream(preset, length=LENGTH, batch_size=ROWS, server=False) as stream:

        def run(first: int, end: float) -> int:
            """Takes batches at the trainer's pace until the time `end`. Returns how many were taken in all."""
            steps = first
            while (now := time.perf_counter()) < end:
                time.sleep(max(0.0, begin + steps * step - now))  # the trainer's device computes
                before = stream.waited
                next(stream)
                calls.append(stream.waited - before)
                steps += 1
            return steps

        begin = time.perf_counter()
        ahead = begin + 2 * CYCLE * step
        first = run(0, ahead)
        calls.clear()
        start = time.perf_counter()
        last = run(first, ahead + seconds)
        passed = time.perf_counter() - start
        median = statistics.median(calls)
        beyond = sum(max(0.0, call - median) for call in calls)
        print(sum(calls) / passed, (last - first) / passed * step, median, beyond / passed)


def one_memory(batches: int) -> None:
    """Prints the resident bytes after a hundredth of the batches and after all, and the peak."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    with iterand.stream("uniform", length=LENGTH, batch_size=ROWS, server=False) as stream:
        for _ in itertools.islice(stream, batches // 100):
            pass
        early, begin = resident(), time.perf_counter()
        for _ in itertools.islice(stream, batches - batches // 100):
            pass
        seconds = time.perf_counter() - begin
    print(early, resident(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, seconds)


def one_resume(preset: str, index: int) -> None:
    """Prints seconds from opening a stream at an index to its first batch in hand."""
    begin = time.perf_counter()
    with iterand.stream(preset, length=LENGTH, batch_size=ROWS, start=index, server=False) as stream:
        next(stream)
        print(time.perf_counter() - begin)


def one_index(how: str, seconds: float) -> None:
    """Prints tokens per second of `up-statistics` in batches: of a stream, or of a map-style data set in order."""
    if how == "stream":
        print(_rate(embedded("up-statistics")(Path()), seconds))
        return
    dataset: Any = iterand.IndexDataset("up-statistics", length=LENGTH, count=2**40, server=False)
    ranges = (range(first, first + ROWS) for first in itertools.count(0, ROWS))
    if how == "lists":
        print(_rate((dataset.batch(wanted)["tokens"] for wanted in ranges), seconds))
    elif how == "DataLoader, lists":
        from torch.utils.data import DataLoader

        items = iter(DataLoader(dataset, sampler=map(list, ranges), batch_size=None))
        print(_rate((item["tokens"] for item in items), seconds))
    else:
        from torch.utils.data import DataLoader, SequentialSampler

        items = iter(DataLoader(dataset, sampler=SequentialSampler(dataset), batch_size=ROWS))
        print(_rate((item["tokens"] for item in items), seconds))


ONE: dict[str, Callable[..., None]] = {
    "rate": lambda name, folder, seconds: one_rate(name, Path(folder), float(seconds)),
    "wait": lambda preset, rate, seconds: one_wait(preset, float(rate), float(seconds)),
    "memory": lambda batches: one_memory(int(batches)),
    "resume": lambda preset, index: one_resume(preset, int(index)),
    "index": lambda how, seconds: one_index(how, float(seconds)),
}


def run(what: str, *arguments: object) -> list[float]:
    """The figures that one of ONE prints in a process of its own. Errors: CalledProcessError."""
    command = [sys.executable, __file__, "--one", what, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.stderr.write(done.stderr)
        done.check_returncode()
    return [float(word) for word in done.stdout.split()]


def native_rate(preset: str, seconds: float) -> float:
    """Of bench/preset_bench: the C++ engine alone, one thread."""
    program = Path(__file__).resolve().parents[1] / "build/release/bench/preset_bench"
    info = iterand.describe(preset, length=LENGTH, server=False).stream
    assert info is not None
    core = str(min(os.sched_getaffinity(0)))
    command = ["taskset", "-c", core, str(program), "--recipe", json.dumps(info.recipe), "--seconds", str(seconds)]
    done = subprocess.run([*command, "--threads", "1"], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["tokens_per_second"])


def _alone(name: str) -> str | None:
    """The preset whose stream is compared with the C++ engine."""
    return next((preset for preset in NATIVE if name == f"iterand.stream, uint8, `{preset}`"), None)


def print_rates(options: argparse.Namespace, folder: Path) -> None:
    """All loaders in turn, `rounds` times."""
    names = [*LOADERS, *([] if options.no_peers else PEERS)]
    found: dict[str, list[float]] = {name: [] for name in names}
    native: dict[str, list[float]] = {preset: [] for preset in NATIVE}
    with iterand.Server(threads=1) as server:
        (folder / "address").write_text(server.address)
        assert server._running is not None
        os.sched_setaffinity(server._running.process.pid, {max(os.sched_getaffinity(0))})
        for _ in range(options.rounds):
            for name in names:
                found[name] += run("rate", name, folder, options.seconds)
                print(f"{name}: {found[name][-1] / 1e6:.1f} M tokens/s", file=sys.stderr)
                # Beside each other, since a shared machine drifts.
                if (preset := _alone(name)) is not None:
                    native[preset].append(native_rate(preset, options.seconds))
    rates = {name: statistics.median(values) for name, values in found.items()}
    print("| loader | M tokens/s | of nanoGPT's | of Arrow's | of the C++ engine's |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, rate in rates.items():
        preset = _alone(name)
        shares = [f"{rate / rates[other]:.2f}" if other in rates else "" for other in (NANOGPT, ARROW)]
        # Of each pair that ran one after the other.
        pairs = zip(found[name], native[preset], strict=True) if preset else []
        alone = [ours / theirs for ours, theirs in pairs]
        shares.append(f"{statistics.median(alone):.2f}" if alone else "")
        print(f"| {name} | {rate / 1e6:.1f} | {' | '.join(shares)} |")


def print_waits(options: argparse.Namespace, _: Path) -> None:
    print("| preset | M tokens/s taken | waits, % of the time | median call, us | beyond median calls, % of the time |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for preset in NATIVE:
        waits = []
        for _round in range(options.rounds):
            rate = native_rate(preset, options.seconds) / 2
            share, kept_pace, call, beyond = run("wait", preset, rate, max(5, options.seconds))
            waits.append((share, rate * kept_pace, call, beyond))
        share, rate, call, beyond = (statistics.median(values) for values in zip(*waits, strict=True))
        print(f"| `{preset}` | {rate / 1e6:.2f} | {share * 100:.2f} | {call * 1e6:.1f} | {beyond * 100:.2f} |")


def print_rest(options: argparse.Namespace, _: Path) -> None:
    early, late, peak, seconds = run("memory", options.batches)
    print(f"`uniform`, {options.batches // 100:,} batches: {early / 1e6:.1f} MB resident; {options.batches:,} batches:")
    print(
        f"{late / 1e6:.1f} MB ({(late / early - 1) * 100:+.2f} %), peak {peak / 1e6:.1f} MB, after {seconds:.0f} s more"
    )
    for preset in NATIVE:
        taken = [run("resume", preset, 10**12)[0] for _round in range(options.rounds)]
        print(f"first batch of `{preset}` at index 10^12: {statistics.median(taken):.3f} s")
    hows = ("stream", "lists", "DataLoader, lists", "DataLoader, items")
    found = {how: [run("index", how, options.seconds)[0] for _round in range(options.rounds)] for how in hows}
    rates = {how: statistics.median(values) for how, values in found.items()}
    for how, rate in rates.items():
        print(f"IndexDataset in order, {how}: {rate / 1e6:.1f} M tokens/s, {rate / rates['stream']:.2f} of a stream's")


PARTS = {"rates": print_rates, "waits": print_waits, "rest": print_rest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=10**6)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        _one_core()
        ONE[options.one[0]](*options.one[1:])
        return
    folder = Path(__file__).resolve().parents[1] / "build/loaders"
    for part in options.part or PARTS:
        if part == "rates":
            write_dumps(folder, not options.no_peers)
        PARTS[part](options, folder)


if __name__ == "__main__":
    main()
