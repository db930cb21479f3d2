"""How long the server's page waits for a preview, by preset, and what the page costs while nobody looks.

  bench/page.py [--preset NAME]... [--seeds N] [--unseen] [--binary PATH]

Starts a server with its page and asks /api/preview for the first 8 sequences, and then for all 64, as the editor does.
Each seed is a stream that the server has not made before. Prints a Markdown table of medians, in milliseconds from the
request to the answer, ordered by the time of all 64. A preview that is not ready within 10 seconds has no figure.

With --unseen: the rate of `up-statistics` from servers with and without a page, in turn, and the core time that they
use in five idle seconds. Medians of seven pairs.
"""

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import time
from pathlib import Path

import iterand
from iterand._server import ServerProcess

BINARY = Path(__file__).resolve().parent.parent / "build/release/clients/cli/iterand"


def milliseconds(port: int, preset: str, seed: int, count: int) -> float | None:
    """None if the server gave up."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"preset": preset, "seed": seed, "count": count})
    begin = time.perf_counter()
    connection.request("POST", "/api/preview", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    passed = 1000 * (time.perf_counter() - begin)
    connection.close()
    if answer.status == 504:
        return None
    if answer.status != 200:
        raise SystemExit(f"{preset}: status {answer.status}: {text.decode()}")
    return passed


def core_seconds(pid: int) -> float:
    """Core time of a process, of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def unseen(binary: str, arguments: list[str]) -> tuple[float, float]:
    """Tokens per second of a new server with these arguments, and its core seconds in five idle seconds."""
    with ServerProcess(binary, *arguments, stderr=subprocess.DEVNULL) as server:
        tokens = 0
        with iterand.stream("up-statistics", length=512, batch_size=64, server=server.address) as stream:
            rows = iter(stream)
            next(rows)
            begin = time.perf_counter()
            while (passed := time.perf_counter() - begin) < 3:
                tokens += next(rows).size
        time.sleep(1)  # what the stream had in progress ends
        before = core_seconds(server.process.pid)
        time.sleep(5)
        return tokens / passed, core_seconds(server.process.pid) - before


def report_unseen(binary: str) -> None:
    with_page, without = [], []
    for _ in range(7):
        with_page.append(unseen(binary, ["--http", "127.0.0.1:0"]))
        without.append(unseen(binary, []))
    print("| server | M tokens/s | core-seconds in 5 idle seconds |\n| --- | ---: | ---: |")
    for name, results in (("with a page", with_page), ("without", without)):
        rate = statistics.median(rate for rate, _ in results)
        idle = statistics.median(idle for _, idle in results)
        print(f"| {name} | {rate / 1e6:.1f} | {idle:.2f} |")
    ratio = statistics.median(a[0] / b[0] for a, b in zip(with_page, without, strict=True))
    print(f"\nRate with a page over the rate without: {ratio:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", action="append", help="only this one; may be repeated")
    parser.add_argument("--seeds", type=int, default=3, help="streams per preset")
    parser.add_argument("--binary", default=str(BINARY), help="the program iterand")
    parser.add_argument("--unseen", action="store_true", help="what the page costs while nobody looks, nothing else")
    options = parser.parse_args()
    if options.unseen:
        report_unseen(options.binary)
        return
    listed = subprocess.run([options.binary, "presets", "--json"], capture_output=True, check=True).stdout
    presets = options.preset or [preset["name"] for preset in json.loads(listed)["presets"]]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    rows: list[tuple[float, str]] = []
    with ServerProcess(options.binary, "--http", f"127.0.0.1:{port}", stderr=subprocess.DEVNULL):
        for preset in presets:
            texts = []
            for count in (8, 64):
                times = [milliseconds(port, preset, 100 + seed, count) for seed in range(options.seeds)]
                known = [passed for passed in times if passed is not None]
                texts.append(f"{statistics.median(known):.0f}" if len(known) == len(times) else "over 10 000")
            rows.append((max(known, default=float("inf")), f"| `{preset}` | {texts[0]} | {texts[1]} |"))
    print("| preset | first 8, ms | all 64, ms |\n| --- | ---: | ---: |")
    print("\n".join(text for _, text in sorted(rows)))


if __name__ == "__main__":
    main()
