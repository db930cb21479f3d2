"""How long the server's page waits for a preview, by preset.

  bench/page.py [--preset NAME]... [--seeds N] [--binary PATH]

Starts a server with its page and asks /api/preview for the first 8 sequences, and then for all 64, as the editor does.
Each seed is a stream that the server has not made before. Prints a Markdown table of medians, in milliseconds from the
request to the answer, ordered by the time of all 64. A preview that is not ready within 10 seconds has no figure.
"""

import argparse
import http.client
import json
import socket
import statistics
import subprocess
import time
from pathlib import Path

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", action="append", help="only this one; may be repeated")
    parser.add_argument("--seeds", type=int, default=3, help="streams per preset")
    parser.add_argument("--binary", default=str(BINARY), help="the program iterand")
    options = parser.parse_args()
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
