"""How the cost of a stream grows: one knob of a recipe at a time, on one core, in one run.

The recipe is a chain of LSTMs: hidden 32, 2 layers, 6 rows per program, 512 tokens, alphabet 256, 32 lanes. Prints, for
each value of each knob, tokens/s, nanoseconds per token against the recipe's own, FLOP per token and share of the peak,
time to the first batch of 64 rows and peak memory.

  bench/cost.py [--seconds S] [--knob NAME]...

It needs no package; build/release/bench/preset_bench has to be built (bench/run builds it).
"""

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).resolve().parent.parent / "build/release/bench/preset_bench"
BASE = {"hidden": 32, "layers": 2, "rows": 6, "length": 512, "vocabulary": 256, "lanes": 32}
KNOBS = {
    "hidden": (16, 32, 64, 128, 256),
    "layers": (1, 2, 4, 8),
    "rows": (1, 2, 6, 24, 96),
    "length": (64, 512, 2048),
    "vocabulary": (16, 64, 256, 1024),
    "lanes": (2, 8, 32, 128),
}


def recipe(values: dict[str, int]) -> str:
    """The recipe with these values, as JSON."""
    return json.dumps(
        {
            "families": [{"lstm": {"hidden": {"fixed": values["hidden"]}, "layers": {"fixed": values["layers"]}}}],
            "chain": {"rows": {"fixed": values["rows"]}, "max_depth": {"fixed": 8}},
            "length": values["length"],
            "vocab_size": values["vocabulary"],
            "alphabet_size": values["vocabulary"],
            "lanes": values["lanes"],
        }
    )


def measure(values: dict[str, int], seconds: float) -> dict[str, Any]:
    """What preset_bench says of it."""
    command = [str(PROGRAM), "--recipe", recipe(values), "--seconds", str(seconds)]
    row: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return row


def main() -> None:
    """Prints one line for each value."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--knob", action="append", choices=KNOBS, help="only this knob; may be repeated")
    arguments = parser.parse_args()
    measure(BASE, arguments.seconds)  # warms up
    base = measure(BASE, arguments.seconds)
    print("| knob | value | tokens/s | time a token | FLOP a token | of peak | first batch s | memory MB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for knob in arguments.knob or KNOBS:
        for value in KNOBS[knob]:
            row = measure(BASE | {knob: value}, arguments.seconds)
            rate = row["tokens_per_second"]
            print(
                f"| {knob} | {value} | {rate:,.0f} | {base['tokens_per_second'] / rate:.2f} | "
                f"{row['flops_per_second'] / rate:,.0f} | {row['peak_share']:.0%} | {row['first_batch_s']:.3f} | "
                f"{row['peak_memory_bytes'] / 1e6:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
