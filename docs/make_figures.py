"""Writes docs/families/figures.md: what `iterand inspect` measures of every preset.

    python docs/make_figures.py [--iterand build/release/clients/cli/iterand]

Takes about ten minutes on two cores, most of them for the pools of up-transformer and up-paper. Figures do not depend
on the machine.
"""

import argparse
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/families/figures.md"
COUNT = 256
PAPER = "--start 3120 --count 18720"
HEAD = f"""# Families: figures of every preset

What each preset is made of, by its first {COUNT} sequences of seed 0. `python docs/make_figures.py` writes this page by

```
iterand inspect --compare PRESET ... --count {COUNT} --json
```

[Reports](../inspect.md) defines the columns. Bits are in-context code lengths per token, for contexts of 0 to 3 tokens.
Noise of 256 symbols needs 8. It takes up to 9.5 here, since the model begins with nothing.
A preset without a band has no share in it. A part's band counts for the sequences of that part.

"""
COLUMNS = [
    "bits, orders 0 to 3", "structured", "in band", "complexity", "distinct", "repeats", "periodic", "constant",
    "duplicates",
]  # fmt: skip
PAPER_HEAD = f"""
The pools of `up-paper`, `up-noit`, `up-reservoir` and `up-transformer` hold only constants at first
([papers.md](papers.md)), and `curriculum` begins with noise. The first sequences of these presets are not typical.

## `up-paper` beside the published program

```
iterand inspect up-paper {PAPER} --json
iterand inspect up-paper {PAPER} --seed 1 --json
```

These are 18 720 sequences after 60 rounds. The published program was run and measured in the same way, with two seeds;
its figures are those that `tests/iterate/statistics_test.cc` also holds `up-paper` to, as far as they have a bound.

| | published program | `up-paper`, seed 0 | seed 1 |
| --- | ---: | ---: | ---: |
"""
PAPER_NOTE = """
All rows of a round come from one program, so 18 720 sequences are of about 360 programs. Seeds differ for that reason.
"""


def inspect(binary: str, *arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run([binary, "inspect", *arguments, "--json"], stdout=subprocess.PIPE, check=True)
    return [{"name": stream["name"], **stream["statistics"]} for stream in json.loads(done.stdout)["streams"]]


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def numbers(values: list[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)


def row(found: dict[str, Any]) -> str:
    periodic = percent(found["periodic_share"])
    if found["periodic_share"]:
        periodic += f" ({found['median_period']:.0f})"
    cells = [
        f"`{found['name']}`",
        numbers(found["markov_bits"]),
        percent(found["structured_share"]),
        percent(found["band_share"]) if "band_share" in found else "-",
        f"{sorted(found['complexity'])[(found['sequences'] - 1) // 2]:.2f}",
        f"{found['median_distinct_tokens']:.0f}",
        percent(found["repeat_share"]),
        periodic,
        percent(found["constant_share"]),
        percent(found["duplicate_share"]),
    ]
    return f"| {' | '.join(cells)} |\n"


def paper_rows(seeds: list[dict[str, Any]]) -> str:
    """The measures that are known of the published program, and ours."""
    rows: list[tuple[str, str, Callable[[dict[str, Any]], str]]] = [
        ("one repeated token", "24 %", lambda found: percent(found["constant_share"])),
        ("order-0 entropy above 7 bits", "51 %", lambda found: percent(found["high_entropy_share"])),
        ("zlib ratio within (0.06, 0.9)", "5.6 %", lambda found: percent(found["structured_share"])),
        ("exact duplicates", "37 %", lambda found: percent(found["duplicate_share"])),
        ("median distinct tokens", "171", lambda found: f"{found['median_distinct_tokens']:.0f}"),
        (
            "order-0 entropy at 5, 25, 50, 75, 95 %, bits",
            "0.00 0.12 7.00 7.25 7.62",
            lambda found: numbers(found["entropy_quantiles"]),
        ),
        ("in-context Markov, orders 0 to 3, bits", "6.0 5.6 5.3 5.4", lambda found: numbers(found["markov_bits"])),
    ]
    return "".join(f"| {name} | {known} | {' | '.join(ours(seed) for seed in seeds)} |\n" for name, known, ours in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterand", default=str(ROOT / "build/release/clients/cli/iterand"))
    binary = parser.parse_args().iterand
    listed = subprocess.run([binary, "presets", "--json"], capture_output=True, check=True).stdout
    presets = [preset["name"] for preset in json.loads(listed)["presets"]]
    every = inspect(binary, "--count", str(COUNT), "--compare", *presets)
    seeds = [inspect(binary, "up-paper", *PAPER.split(), "--seed", str(seed))[0] for seed in (0, 1)]
    table = f"| preset | {' | '.join(COLUMNS)} |\n| --- |{' ---: |' * len(COLUMNS)}\n" + "".join(map(row, every))
    PAGE.write_text(HEAD + table + PAPER_HEAD + paper_rows(seeds) + PAPER_NOTE)


if __name__ == "__main__":
    main()
