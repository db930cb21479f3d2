"""Runs the benchmark programs in turn and prints two tables: presets, and peers beside them. See bench/run."""

import argparse
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

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "release"
PEER_PRESET = "up-paper"


def run_json(command: list[str]) -> dict[str, Any]:
    """Runs a program that prints one JSON object last."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(f"bench/run: {' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


@contextlib.contextmanager
def server(threads: int) -> Iterator[str]:
    """A server of our own on a free port, stopped at the end."""
    with tempfile.TemporaryDirectory() as folder:
        address_file = Path(folder) / "address"
        process = subprocess.Popen(
            [BUILD / "clients/cli/iterand", "serve", "--listen", "127.0.0.1:0", "--threads", str(threads),
             "--address-file", address_file],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while not address_file.exists():
                if time.monotonic() > deadline or process.poll() is not None:
                    sys.exit("bench/run: the server did not start")
                time.sleep(0.02)
            yield address_file.read_text().strip()
        finally:
            process.terminate()
            process.wait()


def median(rows: list[dict[str, Any]], key: str) -> float:
    """Median of a figure over repeated runs."""
    return statistics.median(row[key] for row in rows)


def measure_presets(names: list[str], repeats: int, seconds: float) -> list[dict[str, Any]]:
    """Every preset in-process on 1 and 2 threads and served, repeated in turn so that drift hits all alike."""
    program = str(BUILD / "bench/preset_bench")
    raw: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for _ in range(repeats):
        for name in names:
            base = [program, "--preset", name, "--seconds", str(seconds)]
            for threads in (1, 2):
                raw.setdefault((name, str(threads)), []).append(run_json([*base, "--threads", str(threads)]))
            with server(2) as address:
                raw.setdefault((name, "served"), []).append(run_json([*base, "--server", address]))
    presets = []
    for name in names:
        served = median(raw[name, "served"], "tokens_per_second")
        for threads in (1, 2):
            rows = raw[name, str(threads)]
            presets.append({
                "preset": name, "threads": threads,
                "tokens_per_second": median(rows, "tokens_per_second"),
                "flops_per_second": median(rows, "flops_per_second"),
                "peak_share": median(rows, "peak_share"),
                "bytes_per_second": median(rows, "bytes_per_second"),
                "served_tokens_per_second": served if threads == 2 else None,
                "first_batch_s": median(rows, "first_batch_s"),
                "served_first_batch_s": median(raw[name, "served"], "first_batch_s") if threads == 2 else None,
                "structured_share": median(rows, "structured_share"),
                "peak_memory_bytes": median(rows, "peak_memory_bytes"),
            })
    return presets


def measure_peers(repeats: int, quick: bool) -> list[dict[str, Any]]:
    """PyTorch's loop and ours, in turn, per core."""
    ours: list[float] = []
    theirs: dict[str, list[float]] = {}
    errors: dict[str, str] = {}
    for repeat in range(repeats):
        row = run_json([str(BUILD / "bench/preset_bench"), "--preset", PEER_PRESET, "--threads", "1", "--seconds", "2"])
        ours.append(row["tokens_per_second"])
        command = [sys.executable, str(ROOT / "bench/peers/lstm_torch.py"), "--repeats", "1",
                   "--steps", "128" if quick else "512"]
        if repeat == 0 and not quick:
            command.append("--compile")
        for name, value in run_json(command)["tokens_per_second"].items():
            if isinstance(value, float):
                theirs.setdefault(name, []).append(value)
            elif value is not None:
                errors[name] = value
    peers = []
    for name, values in theirs.items():
        tokens = statistics.median(values)
        peers.append({"preset": PEER_PRESET, "peer": f"PyTorch {name}", "peer_tokens_per_second": tokens,
                      "tokens_per_second": statistics.median(ours), "ratio": statistics.median(ours) / tokens})
    for name, error in errors.items():
        peers.append({"preset": PEER_PRESET, "peer": f"PyTorch {name}", "error": error})
    return peers


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


def show(report: dict[str, Any]) -> None:
    """Prints the tables."""
    console = Console(width=max(120, Console().width))
    table = Table(title=f"Presets ({report['machine']}), medians")
    for title in ("preset", "threads", "tokens/s", "FLOP/s", "of peak", "bytes/s", "served tokens/s", "first batch s",
                  "served", "structured", "memory"):
        table.add_column(title, justify="left" if title == "preset" else "right")
    for row in report["presets"]:
        flops = row["flops_per_second"]
        first = row["served_first_batch_s"]
        table.add_row(
            row["preset"], str(row["threads"]), big(row["tokens_per_second"]), big(flops) if flops else "-",
            f"{row['peak_share']:.0%}" if flops else "-", big(row["bytes_per_second"]),
            big(row["served_tokens_per_second"]), f"{row['first_batch_s']:.3f}",
            f"{first:.3f}" if first is not None else "", f"{row['structured_share']:.0%}", big(row["peak_memory_bytes"]))
    console.print(table)
    table = Table(title="Peers, same run, one thread of ours")
    for title in ("preset", "peer", "peer tokens/s", "iterand tokens/s", "ratio"):
        table.add_column(title, justify="left" if title in ("preset", "peer") else "right")
    for row in report["peers"]:
        if "error" in row:
            table.add_row(row["preset"], row["peer"], row["error"], "", "")
        else:
            table.add_row(row["preset"], row["peer"], big(row["peer_tokens_per_second"]), big(row["tokens_per_second"]),
                          f"{row['ratio']:.2f}")
    console.print(table)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short repetition: figures are rough")
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    parser.add_argument("--preset", action="append", help="only this preset; may be repeated")
    arguments = parser.parse_args()
    names = arguments.preset or sorted(path.stem for path in (ROOT / "iterate/presets").glob("*.json"))
    repeats, seconds = (1, 0.5) if arguments.quick else (3, 1.5)
    report = {"machine": processor(), "presets": measure_presets(names, repeats, seconds),
              "peers": measure_peers(repeats, arguments.quick)}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    show(report)


if __name__ == "__main__":
    main()
