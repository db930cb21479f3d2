"""Draws docs/pictures/NAME.png for every family: some sequences of the preset of that name.

    python docs/make_pictures.py [--iterand build/release/clients/cli/iterand] [PRESET ... | passes]

Needs numpy, Pillow and matplotlib, which the Python environment of ./check has. A line is a sequence, a column a token;
successive sequences come from different programs. The colour is the token's rank by frequency within its own sequence
(labels mean nothing), on a logarithmic scale: the most frequent is lightest. The lines of `curriculum` are far apart:
they span its schedule, from index 0 at the top.

passes.png, the picture of the README, has three panels: rows of noise, rows of `up` that one random program made of
noise, and the same rows after three programs.
"""

import argparse
import json
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
SEQUENCES, TOKENS = 20, 512
LINE_HEIGHT, GAP, SCALE = 8, 2, 2
STEPS = {"curriculum": 27648}  # from line to line, in sequences; other presets: 1
PASSES_ROWS, PASSES_TOKENS, PASSES_FROM = 16, 256, 6144  # lines and columns of a panel; sequences to choose from
PASSES_MARGIN, PASSES_TITLE = 32, 44  # pixels between panels and above them


def ranks(row: np.ndarray) -> np.ndarray:
    """Each token's rank among the row's tokens by falling frequency, from 0; equals by first occurrence."""
    _, first, inverse, counts = np.unique(row, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -counts))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[inverse]


def draw(rows: np.ndarray) -> Image.Image:
    """The picture of some sequences."""
    darkness = (np.log1p([ranks(row) for row in rows]) / np.log(257)) ** 0.6  # so that two tokens look different
    shades = np.minimum(254, darkness * 254).astype(np.uint8)
    lines = np.full((len(rows), LINE_HEIGHT + GAP, rows.shape[1]), 255, np.uint8)
    lines[:, :LINE_HEIGHT] = shades[:, None]
    picture = Image.fromarray(lines.reshape(-1, rows.shape[1])[:-GAP].repeat(SCALE, axis=1), mode="P")
    colours = (matplotlib.colormaps["magma_r"](np.linspace(0, 1, 255))[:, :3] * 255).astype(np.uint8)
    picture.putpalette([*colours.flatten().tolist(), 255, 255, 255])
    return picture


def sample(iterand: str, preset: str, count: int, length: int, step: int = 1) -> list[Any]:
    """Sequences 0, step, 2 step, ... of a preset, with provenance, as `iterand sample --format jsonl` writes them."""
    command = [iterand, "sample", "--recipe", preset, "--length", str(length), "--format", "jsonl"]
    lines: list[bytes] = []
    for start, rows in [(0, count)] if step == 1 else [(i * step, 1) for i in range(count)]:
        part = [*command, "--start", str(start), "--count", str(rows)]
        lines += subprocess.run(part, capture_output=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def began_with_noise(iterand: str, index: int) -> bool:
    """Whether the first program of a sequence of `up` read noise. The others read constants or nothing."""
    command = [iterand, "explain", "--recipe", "up", "--length", str(PASSES_TOKENS), "--index", str(index), "--json"]
    steps = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["steps"]
    return bool(steps[0]["input"] == "noise")


def rows_after_one_and_three(iterand: str) -> tuple[list[Any], list[Any]]:
    """Tokens of PASSES_ROWS rows of `up` at depth 1, and of the same rows at depth 3, each by other families."""
    chains: dict[tuple[int, ...], dict[int, Any]] = defaultdict(dict)
    for found in sample(iterand, "up", PASSES_FROM, PASSES_TOKENS):
        origin = found["provenance"]
        chain = (origin["lane"], origin["segment"], origin["row"], origin["round"] - origin["depth"])
        chains[chain][origin["depth"]] = found
    one: list[Any] = []
    three: list[Any] = []
    families: set[str] = set()
    for depths in chains.values():
        if len(one) == PASSES_ROWS or 1 not in depths or 3 not in depths:
            continue
        first, third = (depths[depth]["provenance"]["family"] for depth in (1, 3))
        if f"{first} {third}" not in families and began_with_noise(iterand, depths[1]["index"]):
            families.add(f"{first} {third}")
            one.append(depths[1]["tokens"])
            three.append(depths[3]["tokens"])
    return one, three


def draw_passes(iterand: str) -> Image.Image:
    """Three panels side by side, with titles."""
    noise = [found["tokens"] for found in sample(iterand, "uniform", PASSES_ROWS, PASSES_TOKENS)]
    one, three = rows_after_one_and_three(iterand)
    panels = [draw(np.array(rows)).convert("RGB") for rows in (noise, one, three)]
    width, height = panels[0].size
    picture = Image.new("RGB", (3 * width + 2 * PASSES_MARGIN, height + PASSES_TITLE), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=28)
    titles = ("noise", "after one random program", "after three")
    for i, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        left = i * (width + PASSES_MARGIN)
        pen.text((left, 0), title, fill="black", font=font)
        picture.paste(panel, (left, PASSES_TITLE))
    return picture.quantize(64)


def main() -> None:
    """Draws the presets that are named, or those of all families and passes.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterand", default=str(ROOT / "build/release/clients/cli/iterand"))
    parser.add_argument("preset", nargs="*")
    arguments = parser.parse_args()
    presets = {path.stem for path in (ROOT / "iterate/presets").glob("*.json")}
    # Their families have pictures.
    apart = {
        "statistics",
        "up",
        "up-noit",
        "up-paper",
        "up-reservoir",
        "up-statistics",
        "up-transformer",
        "up-zero-shot",
    }
    out = ROOT / "docs/pictures"
    out.mkdir(exist_ok=True)
    for preset in arguments.preset or [*sorted(presets - apart), "passes"]:
        if preset == "passes":
            picture = draw_passes(arguments.iterand)
        else:
            rows = sample(arguments.iterand, preset, SEQUENCES, TOKENS, STEPS.get(preset, 1))
            picture = draw(np.array([found["tokens"] for found in rows]))
        picture.save(out / f"{preset}.png", optimize=True)
        print(f"docs/pictures/{preset}.png: {(out / f'{preset}.png').stat().st_size} bytes")


if __name__ == "__main__":
    main()
