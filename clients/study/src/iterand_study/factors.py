"""What the gain of streams depends on: the model's size, the number of synthetic tokens, and the amount of real text.

A cell is a choice of all three. In each, streams are compared by their gains (leaderboard.py), paired over seeds. Two
cells that differ in one of the three show what that one changes.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
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
    """The gains of each stream in each cell: the mean over the texts that all arms have, of the seeds that have them.

    Only arms whose settings are otherwise equal are compared: those of the settings that most arms have. A stream of
    which several arms are in one cell is left out.
    """
    runs = {name: arm[0] for name, arm in records.by_variant(record).items()}
    settings = {name: json.dumps(records.apart_from_size(run), sort_keys=True) for name, run in runs.items()}
    usual = [name for name, _ in Counter(settings.values()).most_common(1)]
    # Not starts that draw weights again.
    rows = [row for name, row in leaderboard.rows(record).items() if name == row.variant and settings[name] in usual]
    stages = {
        entry["stage"]: (entry["text"], entry["settings"]["tokens"])
        for entry in record["finetuning"]
        if entry.get("settings")
    }
    begun = [{stage for gains in row.gains.values() for stage in gains if stage in stages} for row in rows]
    texts = set.intersection(*({stages[stage][0] for stage in own} for own in begun)) if begun else set()
    found: dict[Cell, dict[str, Gains]] = {}
    several: set[str] = set()
    for row, own in zip(rows, begun, strict=True):
        run = runs[row.variant]
        common = [stage for stage in own if stages[stage][0] in texts]
        for tokens in sorted({stages[stage][1] for stage in common}):
            gains = row.all_gains([stage for stage in common if stages[stage][1] == tokens])
            if gains:
                streams = found.setdefault(Cell(run["parameters"], run["tokens"], tokens), {})
                stream = labels.recipe_name(run["recipe"])
                if stream in streams:
                    several.add(stream)
                streams[stream] = gains
    return {
        cell: {stream: gains for stream, gains in found[cell].items() if stream not in several}
        for cell in sorted(found)
    }


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
        "Gains in bits, the mean over the texts that all have, with 95 % intervals and the seeds in brackets. "
        + (f"{first} over another stream is the difference of their gains, paired over seeds." if others else ""),
        Table([*_FACTORS, *(f"gain of {name}" for name in streams), *over], lines),
        "What changes from one cell to another, paired over seeds:",
        Table(["changed", "at", *(f"gain of {name}" for name in streams), *over], changes),
    ]
