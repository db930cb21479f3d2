"""Runs the benchmark programs in turn and prints tables: presets, peers beside them, the wire. See bench/run."""

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import iterand
from arguments import PARTS, ROOT, all_presets, parse
from iterand._server import ServerProcess
from rich.console import Console
from rich.table import Table

BUILD = ROOT / "build" / "release"
Row = dict[str, Any]


def run_json(command: list[str], limit: float | None = None) -> Row:
    """Runs a program that prints one JSON object last. Errors: TimeoutExpired after `limit` seconds."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=limit)
    if done.returncode != 0:
        sys.exit(f"bench/run: {' '.join(command)} failed:\n{done.stderr}")
    row: Row = json.loads(done.stdout.strip().splitlines()[-1])
    return row


def server(threads: int) -> ServerProcess:
    """A server of our own on a free port, stopped at the end of its `with` block."""
    program = BUILD / "clients/cli/iterand"
    try:
        return ServerProcess(program, "--threads", str(threads), stderr=subprocess.DEVNULL)
    except (iterand.Error, OSError) as error:
        sys.exit(f"bench/run: {error}")


def median(rows: list[Row], key: str) -> float | None:
    """Median of a figure over repeated runs, if there were any."""
    return statistics.median(row[key] for row in rows) if rows else None


def measure_presets(names: list[str], repeats: int, seconds: float, slow: float, limit: float) -> list[Row]:
    """Every preset in-process and served, on 1 and on 2 threads, repeated in turn so that drift affects all equally.

    What takes longer than `slow` is not repeated; what takes longer than `limit` has no figures.
    """
    program = str(BUILD / "bench/preset_bench")
    raw: dict[tuple[str, int, bool], list[Row]] = {}
    done: set[tuple[str, int, bool]] = set()  # not to be repeated
    too_long: set[str] = set()
    for _ in range(repeats):
        for name in names:
            for threads in (1, 2):
                for served in (False, True):
                    key = (name, threads, served)
                    found = raw.setdefault(key, [])
                    if key in done or name in too_long:
                        continue
                    command = [program, "--preset", name, "--seconds", str(seconds), "--threads", str(threads)]
                    start = time.monotonic()
                    try:
                        if served:
                            with server(threads) as running:
                                found.append(run_json([*command, "--server", running.address], limit))
                        else:
                            found.append(run_json(command, limit))
                    except subprocess.TimeoutExpired:
                        too_long.add(name)
                    if time.monotonic() - start > slow:
                        done.add(key)
    presets = []
    for name in names:
        for threads in (1, 2):
            rows, served_rows = raw[name, threads, False], raw[name, threads, True]
            presets.append(
                {
                    "preset": name,
                    "threads": threads,
                    **{
                        key: median(rows, key)
                        for key in (
                            "tokens_per_second",
                            "flops_per_second",
                            "peak_share",
                            "bytes_per_second",
                            "first_batch_s",
                            "structured_share",
                            "peak_memory_bytes",
                        )
                    },
                    "served_tokens_per_second": median(served_rows, "tokens_per_second"),
                    "served_first_batch_s": median(served_rows, "first_batch_s"),
                }
            )
    return presets


def peer_commands(quick: bool) -> list[tuple[str, str, list[str]]]:
    """Preset, name of the peer and its program."""
    python, folder = sys.executable, ROOT / "bench/peers"
    lstm = [python, str(folder / "lstm_torch.py"), "--repeats", "1", "--steps", "128" if quick else "512"]
    seconds = "1" if quick else "3"
    return [
        ("up-paper", "PyTorch", lstm),
        ("brainphoque", "plain Python", [python, str(folder / "brainphoque_python.py"), "--seconds", seconds]),
        ("nca", "JAX", [python, str(folder / "nca_jax.py"), "--seconds", seconds]),
    ]


def peer_rates(row: Row) -> dict[str, float | str | None]:
    """Settings of a peer with their rates, or with what went wrong."""
    rates = row["tokens_per_second"]
    return rates if isinstance(rates, dict) else {"": rates}


def measure_peers(repeats: int, quick: bool) -> list[Row]:
    """Peers and our preset on one thread, in turn."""
    ours: dict[str, list[float]] = {}
    theirs: dict[tuple[str, str], list[float]] = {}
    errors: dict[tuple[str, str], str] = {}
    for repeat in range(repeats):
        for preset, peer, command in peer_commands(quick):
            program = [str(BUILD / "bench/preset_bench"), "--preset", preset, "--threads", "1", "--seconds", "1"]
            ours.setdefault(preset, []).append(run_json(program)["tokens_per_second"])
            compiles = peer == "PyTorch" and repeat == 0 and not quick
            for setting, value in peer_rates(run_json([*command, *(["--compile"] if compiles else [])])).items():
                key = (preset, f"{peer} {setting}".strip())
                if isinstance(value, str):
                    errors[key] = value
                elif value is not None:
                    theirs.setdefault(key, []).append(value)
    peers = []
    for (preset, peer), values in theirs.items():
        own, other = statistics.median(ours[preset]), statistics.median(values)
        peers.append(
            {
                "preset": preset,
                "peer": peer,
                "tokens_per_second": own,
                "peer_tokens_per_second": other,
                "ratio": own / other,
            }
        )
    return peers + [{"preset": preset, "peer": peer, "error": error} for (preset, peer), error in errors.items()]


def measure_wire(repeats: int, seconds: float) -> Row:
    """C++ and Python clients against bare streams, serving against in-process, a trainer that waits."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        command = [str(BUILD / "bench/serve_bench"), "--repeats", str(repeats), "--seconds", str(seconds)]
        subprocess.run([*command, "--json", str(report)], check=True, capture_output=True)
        result = json.loads(report.read_text())
    python = [sys.executable, str(ROOT / "bench/wire.py"), "--repeats", str(repeats), "--seconds", str(seconds)]
    return {**result, "python": run_json(python)["wire"]}


def processor() -> str:
    """Name of the processor, with its cores."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{name}, {os.cpu_count()} cores"


def big(value: float | None) -> str:
    """A number with a unit letter, three figures."""
    if value is None:
        return ""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.3g}"


def table(title: str, columns: list[str], rows: list[list[str]], words: int) -> Table:
    """A table whose first `words` columns are words and whose others are figures."""
    result = Table(title=title)
    for i, column in enumerate(columns):
        result.add_column(column, justify="left" if i < words else "right")
    for row in rows:
        result.add_row(*row)
    return result


PRESET_COLUMNS = [
    "preset",
    "threads",
    "tokens/s",
    "FLOP/s",
    "of peak",
    "bytes/s",
    "served tokens/s",
    "first batch s",
    "served",
    "structured",
    "memory",
]


def preset_rows(presets: list[Row]) -> Iterator[list[str]]:
    """Rows of the first table."""
    for row in presets:
        if row["tokens_per_second"] is None:
            yield [row["preset"], str(row["threads"]), "over the time limit"]
            continue
        flops, served_first = row["flops_per_second"], row["served_first_batch_s"]
        yield [
            row["preset"],
            str(row["threads"]),
            big(row["tokens_per_second"]),
            big(flops) if flops else "-",
            f"{row['peak_share']:.0%}" if flops else "-",
            big(row["bytes_per_second"]),
            big(row["served_tokens_per_second"]),
            f"{row['first_batch_s']:.3f}",
            "" if served_first is None else f"{served_first:.3f}",
            f"{row['structured_share']:.0%}",
            big(row["peak_memory_bytes"]),
        ]


def peers_table(peers: list[Row]) -> Table:
    rows = [
        [row["preset"], row["peer"], row["error"]]
        if "error" in row
        else [
            row["preset"],
            row["peer"],
            big(row["peer_tokens_per_second"]),
            big(row["tokens_per_second"]),
            f"{row['ratio']:.2f}",
        ]
        for row in peers
    ]
    columns = ["preset", "peer", "peer tokens/s", "iterand tokens/s", "ratio"]
    return table("Peers, same run, one thread of ours", columns, rows, 2)


def wire_table(cpp: list[Row], python: list[Row]) -> Table:
    rows = []
    for row in cpp:
        base, many = row["bare_bytes"]["per_second"], row["bare_many_bytes"]["per_second"]
        for kind in ("cached", "generated"):
            rate = row[f"{kind}_bytes"]["per_second"]
            figures = [big(base), big(many), big(rate), f"{rate / base:.2f}", f"{rate / many:.2f}"]
            rows.append(["C++", kind, str(row["batch_size"]), *figures])
    for row in python:
        base, rate = big(row["bare_bytes_per_second"]), big(row["cached_bytes_per_second"])
        rows.append(["Python", "cached", str(row["batch_size"]), base, "", rate, f"{row['ratio']:.2f}"])
    columns = ["client", "rows come", "batch size", "bare bytes/s", "many", "iterand bytes/s", "ratio", "to many"]
    return table("Wire: against a bare gRPC stream of equal messages", columns, rows, 2)


def serving_table(serving: list[Row]) -> Table:
    rows = []
    for served in serving:
        one, two, remote = (served[f"{key}_tokens"]["per_second"] for key in ("one_thread", "two_threads", "served"))
        rows.append([served["preset"], big(one), big(two), f"{two / one:.2f}", big(remote), f"{remote / two:.3f}"])
    columns = ["preset", "1 thread", "2 threads", "scaling", "served", "of 2 threads"]
    return table("Serving: tokens/s", columns, rows, 1)


def trainer_table(trainer: list[Row]) -> Table:
    rows = [
        [
            row["preset"],
            big(row["tokens_per_second"]),
            str(row["prefetch"]),
            f"{row['wait_share']:.2%}",
            f"{1e3 * row['longest_wait_s']:.1f}",
        ]
        for row in trainer
    ]
    columns = ["preset", "takes tokens/s", "ahead", "waits", "longest, ms"]
    return table("Trainer, in batches of 64: share of its time that it waits", columns, rows, 1)


def show(report: Row) -> None:
    """Prints the tables of the parts that were measured."""
    console = Console(width=max(140, Console().width))
    if "presets" in report:
        title = f"Presets ({report['machine']}), medians"
        console.print(table(title, PRESET_COLUMNS, list(preset_rows(report["presets"])), 1))
    if "peers" in report:
        console.print(peers_table(report["peers"]))
    if "wire" in report:
        wire = report["wire"]
        console.print(wire_table(wire["wire"], wire["python"]))
        console.print(serving_table(wire["serving"]))
        console.print(trainer_table(wire["trainer"]))


def main() -> None:
    """Measures and prints."""
    arguments = parse()
    names = arguments.preset or all_presets()
    parts = arguments.part or PARTS
    repeats, seconds, slow, limit = (1, 0.3, 8.0, 8.0) if arguments.quick else (3, 0.7, 15.0, 90.0)
    report: Row = {"machine": processor()}
    if "presets" in parts:
        report["presets"] = measure_presets(names, repeats, seconds, slow, limit)
    if "peers" in parts:
        report["peers"] = measure_peers(repeats, arguments.quick)
    if "wire" in parts:
        report["wire"] = measure_wire(repeats, 0.3 if arguments.quick else 0.6)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    show(report)


if __name__ == "__main__":
    main()
