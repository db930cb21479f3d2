"""What the gain of streams depends on: the model's size, the number of synthetic tokens, and the amount of real text.

A cell is a choice of all three. In each, streams are compared by their gains (leaderboard.py), paired over seeds. Two
cells that differ in one of the three show what that one changes.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from iterand_study import labels, leaderboard
from iterand_study import record as records
from iterand_study.document import Heading, Part, Table
from iterand_study.intervals import shown_paired

Result = dict[str, Any]
Gains = dict[int, float]  # by seed


class Cell(NamedTuple):
    parameters: int
    synthetic: int  # tokens
    real: int  # tokens

    def shown(self) -> list[str]:
        return [f"{value / 1e6:.2g} M" for value in self]


_FACTORS = ("parameters", "synthetic tokens", "real tokens")


def cells(record: Result) -> dict[Cell, dict[str, Gains]]:
    """The gains of each stream in each cell, the mean over the cell's texts, of the seeds that have them all."""
    runs = records.by_variant(record)
    real = {entry["stage"]: entry["settings"]["tokens"] for entry in record["finetuning"] if entry.get("settings")}
    found: dict[Cell, dict[str, Gains]] = {}
    for name, row in leaderboard.rows(record).items():
        if name != row.variant:  # a start that draws weights again
            continue
        run = runs[row.variant][0]
        begun = {stage for gains in row.gains.values() for stage in gains if stage in real}
        for tokens in sorted({real[stage] for stage in begun}):
            gains = row.all_gains([stage for stage in begun if real[stage] == tokens])
            if gains:
                cell = Cell(run["parameters"], run["tokens"], tokens)
                found.setdefault(cell, {})[labels.recipe_name(run["recipe"])] = gains
    return dict(sorted(found.items()))


def _difference(one: Gains, other: Gains) -> Gains:
    return {seed: one[seed] - other[seed] for seed in one if seed in other}


def _shown(values: Gains) -> str:
    return shown_paired(list(values.values()))


def parts(record: Result) -> list[Part]:
    """Two tables of the streams that are in several cells: their gains in each, and what each factor changes. Nothing
    unless two cells differ in one factor alone."""
    found = cells(record)
    everywhere = [name for gains in found.values() for name in gains]
    streams = [name for name in dict.fromkeys(everywhere) if everywhere.count(name) > 1]
    streams.sort(key=lambda name: name != "up")  # the default first, others by their order
    pairs = [
        (first, second)
        for first, second in itertools.combinations(found, 2)
        if sum(one != other for one, other in zip(first, second, strict=True)) == 1
    ]
    if not pairs or not streams:
        return []
    first, others = streams[0], streams[1:]
    lines = []
    for cell, gains in found.items():
        own = gains.get(first, {})
        between = [_shown(_difference(own, gains.get(other, {}))) for other in others]
        lines.append([*cell.shown(), *(_shown(gains.get(name, {})) for name in streams), *between])
    changes = []
    for low, high in pairs:
        place = next(place for place in range(3) if low[place] != high[place])
        rest = [
            f"{value} {name}" for at, (value, name) in enumerate(zip(low.shown(), _FACTORS, strict=True)) if at != place
        ]
        gains = {name: _difference(found[high].get(name, {}), found[low].get(name, {})) for name in streams}
        between = [_shown(_difference(gains[first], gains[other])) for other in others]
        changes.append(
            [
                f"{_FACTORS[place]}: {low.shown()[place]} to {high.shown()[place]}",
                ", ".join(rest),
                *(_shown(gains[name]) for name in streams),
                *between,
            ]
        )
    over = [f"{first} over {other}" for other in others]
    return [
        Heading("What the gain depends on"),
        "Gains in bits, the mean over the texts of one amount, with 95 % intervals and the seeds in brackets. "
        f"{first} over another stream is the difference of their gains, paired over seeds.",
        Table([*_FACTORS, *(f"gain of {name}" for name in streams), *over], lines),
        "What changes from one cell to another, paired over seeds:",
        Table(["changed", "at", *(f"gain of {name}" for name in streams), *over], changes),
    ]
