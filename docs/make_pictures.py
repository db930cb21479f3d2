"""Draws docs/pictures/NAME.png for every family: some sequences of the preset of that name.

    python docs/make_pictures.py [--iterand build/release/clients/cli/iterand] [PRESET ...]

Needs numpy, Pillow and matplotlib, which the Python environment of ./check has. A line is a sequence, a column a token;
successive sequences come from different programs. The colour is the token's rank by frequency within its own sequence
(labels mean nothing), on a logarithmic scale: the commonest is lightest. Of `curriculum` the lines are as far apart as
its schedule is long, from index 0 at the top.
"""

import argparse
import json
import subprocess
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SEQUENCES, TOKENS = 20, 512
LINE_HEIGHT, GAP, SCALE = 8, 2, 2
STEPS = {"curriculum": 27648}  # from line to line, in sequences; other presets: 1


def ranks(row: np.ndarray) -> np.ndarray:
    """Each token's rank among the row's tokens by falling frequency, from 0; equals by first occurrence."""
    _, first, inverse, counts = np.unique(row, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -counts))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[inverse]


def draw(rows: np.ndarray) -> Image.Image:
    """The picture of some sequences."""
    darkness = (np.log1p([ranks(row) for row in rows]) / np.log(257)) ** 0.6  # so that two tokens are told apart well
    shades = np.minimum(254, darkness * 254).astype(np.uint8)
    lines = np.full((len(rows), LINE_HEIGHT + GAP, rows.shape[1]), 255, np.uint8)
    lines[:, :LINE_HEIGHT] = shades[:, None]
    picture = Image.fromarray(lines.reshape(-1, rows.shape[1])[:-GAP].repeat(SCALE, axis=1), mode="P")
    colours = (matplotlib.colormaps["magma_r"](np.linspace(0, 1, 255))[:, :3] * 255).astype(np.uint8)
    picture.putpalette([*colours.flatten().tolist(), 255, 255, 255])
    return picture


def sample(iterand: str, preset: str) -> np.ndarray:
    """The sequences of a picture."""
    command = [iterand, "sample", "--recipe", preset, "--length", str(TOKENS), "--format", "jsonl"]
    step = STEPS.get(preset, 1)
    ranges = [(0, SEQUENCES)] if step == 1 else [(i * step, 1) for i in range(SEQUENCES)]
    rows = []
    for start, count in ranges:
        part = [*command, "--start", str(start), "--count", str(count)]
        rows += subprocess.run(part, capture_output=True, check=True).stdout.splitlines()
    return np.array([json.loads(line)["tokens"] for line in rows])


def main() -> None:
    """Draws the presets that are named, or those of all families."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterand", default=str(ROOT / "build/release/clients/cli/iterand"))
    parser.add_argument("preset", nargs="*")
    arguments = parser.parse_args()
    presets = {path.stem for path in (ROOT / "iterate/presets").glob("*.json")}
    # Their families have pictures.
    apart = {"statistics", "up-noit", "up-paper", "up-reservoir", "up-statistics", "up-transformer", "up-zero-shot"}
    out = ROOT / "docs/pictures"
    out.mkdir(exist_ok=True)
    for preset in arguments.preset or sorted(presets - apart):
        draw(sample(arguments.iterand, preset)).save(out / f"{preset}.png", optimize=True)
        print(f"docs/pictures/{preset}.png: {(out / f'{preset}.png').stat().st_size} bytes")


if __name__ == "__main__":
    main()
