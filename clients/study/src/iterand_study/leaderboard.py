"""The leaderboard: what each arm saves of real data, on equal terms, with intervals over seeds.

An arm is a variant of a study. Its gain is scratch's final bits minus its own, for the same seed; the gain of several
texts is the mean over them. Two arms are compared by the differences of their gains, paired over seeds. Everything is
made from a record (record.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from iterand_study import comparison, config, labels
from iterand_study import record as records
from iterand_study.document import Heading, Part, Table
from iterand_study.intervals import mean_and_interval, shown, shown_paired, shown_shares, student

Result = dict[str, Any]

SHARES = (0.1, 0.3, 1.0)  # of the real data, after which arms are compared
# An arm is not worse than another if its mean is at most the first worse, and the end of the interval the second. Bits.
NOT_WORSE = (0.03, 0.08)
MOST_SEEDS = 1000  # seeds_needed looks no further


@dataclass(frozen=True)
class Row:
    """One arm: the values of every text, for each seed. An arm is a variant with one of its starts."""

    variant: str
    gains: dict[int, dict[str, float]]  # seed -> stage -> bits below scratch at the end
    early: dict[int, dict[str, list[float]]]  # the same after each of SHARES
    saved: dict[int, dict[str, list[float | None]]]  # shares of the data saved at each of SHARES; None: never
    flops: dict[int, dict[str, float | None]]  # synthetic FLOPs for each real byte saved at the end; None: none saved

    def gain(self, seed: int, stages: list[str]) -> float | None:
        """The mean gain over the stages; None if the seed lacks one of them."""
        found = self.gains.get(seed, {})
        return float(np.mean([found[stage] for stage in stages])) if all(stage in found for stage in stages) else None

    def all_gains(self, stages: list[str]) -> dict[int, float]:
        """The mean gain over the stages of each seed that has all of them."""
        found = {seed: self.gain(seed, stages) for seed in sorted(self.gains)}
        return {seed: gain for seed, gain in found.items() if gain is not None}


def rows(record: Result) -> dict[str, Row]:
    """The rows of all arms that have a scratch run beside them: variants whose weights are kept, by their names, and
    starts that draw some again, by variant and start."""
    runs = {(run["variant"], run["seed"]): run for run in record["runs"]}
    found: dict[str, Row] = {}
    for stage in records.stages(record):
        arms = labels.stage_arms(record, stage)
        scratch = {arm.name: {entry["seed"]: entry for entry in arm.entries} for arm in arms if arm.kind == "scratch"}
        for arm in arms:
            if arm.kind == "scratch":
                continue
            name = arm.variant if arm.kind == "pretrained" else arm.name
            row = found.setdefault(name, Row(arm.variant, {}, {}, {}, {}))
            for entry in arm.entries:
                base, run = scratch.get(arm.scratch, {}).get(entry["seed"]), runs.get((arm.variant, entry["seed"]))
                if base is not None and run is not None:
                    _add(row, stage, base, entry, records.synthetic_flops(run))
    return {name: row for name, row in found.items() if row.gains}


def _add(row: Row, stage: str, base: Result, entry: Result, flops: float | None) -> None:
    seed, scratch, own = entry["seed"], records.points(base), records.points(entry)
    total = scratch[-1]["tokens"]
    early = [comparison.bits_at(scratch, share * total) - comparison.bits_at(own, share * total) for share in SHARES]
    saved = [comparison.saved_at(scratch, own, share * total) for share in SHARES]
    row.gains.setdefault(seed, {})[stage] = base["final_bits"] - entry["final_bits"]
    row.early.setdefault(seed, {})[stage] = early
    row.saved.setdefault(seed, {})[stage] = saved
    last = saved[-1]
    paid = flops / (last * total) if flops is not None and last is not None and last > 0 else None
    row.flops.setdefault(seed, {})[stage] = paid


@dataclass(frozen=True)
class Difference:
    """An arm beside another: how many bits it is worse, one value per seed that both have."""

    values: list[float]

    @classmethod
    def of(cls, arm: Row, other: Row, stages: list[str]) -> Difference:
        own, beside = arm.all_gains(stages), other.all_gains(stages)
        return cls([beside[seed] - own[seed] for seed in own if seed in beside])

    @property
    def interval(self) -> tuple[float, float]:
        """Mean and half the width of its 95 % interval (nan for one seed)."""
        return mean_and_interval(self.values) if self.values else (math.nan, math.nan)

    @property
    def distinguished(self) -> bool:
        """Whether the interval leaves out 0. With one seed it never does."""
        mean, width = self.interval
        return abs(mean) > width  # false for nan

    @property
    def verdict(self) -> str:
        mean, width = self.interval
        if len(self.values) < 2:
            return "one seed" if self.values else "no seed in common"
        if self.distinguished:
            return "worse" if mean > 0 else "better"
        not_worse = mean < NOT_WORSE[0] and mean + width < NOT_WORSE[1]
        return "not worse" if not_worse else "not distinguished"


def seeds_needed(values: list[float]) -> int | None:
    """How many seeds would distinguish this mean difference from 0, if it and its deviation are as in these values.

    None: not with MOST_SEEDS, or there are fewer than two values.
    """
    if len(values) < 2:
        return None
    mean, deviation = abs(float(np.mean(values))), float(np.std(values, ddof=1))
    return next(
        (count for count in range(2, MOST_SEEDS + 1) if student(count - 1) * deviation < mean * math.sqrt(count)), None
    )


@dataclass(frozen=True)
class Stages:
    """The finetuning stages of a study: those that recipes are chosen on, and those held out."""

    choosing: list[str]
    held_out: list[str]

    @classmethod
    def of(cls, study: config.Study) -> Stages:
        names = {stage.name or stage.text: stage.held_out for stage in study.finetune}
        return cls([name for name in names if not names[name]], [name for name in names if names[name]])


def reference(found: dict[str, Row], stages: list[str]) -> str | None:
    """The arm that others are compared with: `up` if it has a gain on these stages, else the best of those with most
    seeds. None: no arm has.
    """
    ranked = ranking(found, stages)
    if not ranked or "up" in ranked:
        return "up" if ranked else None
    return max(ranked, key=lambda name: len(found[name].all_gains(stages)))  # the first of several


def ranking(found: dict[str, Row], stages: list[str]) -> list[str]:
    """The arms that have a gain on all of these stages, the largest mean gain first."""
    gains = {name: list(row.all_gains(stages).values()) for name, row in found.items()}
    return sorted((name for name in gains if gains[name]), key=lambda name: -float(np.mean(gains[name])))


def _on_most_runs(found: dict[str, Row], stages: list[str]) -> list[str]:
    """The stages that have at least half as many runs as the stage with most.

    A text that is only begun would otherwise remove every run without it from the means.
    """
    runs = {stage: sum(stage in gains for row in found.values() for gains in row.gains.values()) for stage in stages}
    return [stage for stage in stages if 2 * runs[stage] >= max(runs.values())]


def _needed(values: list[float]) -> str:
    count = seeds_needed(values)
    return str(count) if count is not None else f"more than {MOST_SEEDS}" if len(values) > 1 else "-"


def _summary(record: Result, found: dict[str, Row], stages: Stages, beside: str) -> list[Part]:
    """One line per arm: its gain on both kinds of texts, and beside another arm."""
    runs = records.by_variant(record)

    def generation(row: Row) -> str:
        seconds = [run["generation_seconds"] for run in runs[row.variant] if run.get("generation_seconds") is not None]
        return f"{np.mean(seconds):.2g}" if seconds else "-"

    lines = []
    for name in ranking(found, stages.choosing):
        row = found[name]
        difference = Difference.of(row, found[beside], stages.choosing)
        own = name == beside
        lines.append(
            [
                name,
                str(len(row.all_gains(stages.choosing))),
                shown(list(row.all_gains(stages.choosing).values()), 3),
                shown(list(row.all_gains(stages.held_out).values()), 3) if stages.held_out else "-",
                "-" if own else shown_paired(difference.values),
                "-" if own else difference.verdict,
                "-" if own else _needed(difference.values),
                generation(row),
            ]
        )
    texts, others = " and ".join(stages.choosing), " and ".join(stages.held_out)
    held_out = f"Held out: the same over {others}. " if others else ""
    return [
        f"Gain: final bits below scratch of the same seed, mean over {texts}, on which recipes are chosen. {held_out}"
        "Worse by: bits on the choosing texts, paired over seeds (their number in brackets). Not worse: the mean is "
        f"below {NOT_WORSE[0]:g} bits and the end of the interval below {NOT_WORSE[1]:g}. Seeds needed to distinguish "
        "the two, if mean and deviation stay as they are. Generator: core-seconds for the stream.",
        Table(
            [
                "arm",
                "seeds",
                "gain",
                "gain, held out",
                f"worse than {beside} by",
                "so it is",
                "seeds needed",
                "generator",
            ],
            lines,
        ),
    ]


def _alike(found: dict[str, Row], stages: list[str]) -> list[Part]:
    """The pairs of arms that are not distinguished, by arm."""
    names = ranking(found, stages)
    lines = []
    for place, name in enumerate(names):
        others = [
            other for other in names[place + 1 :] if not Difference.of(found[name], found[other], stages).distinguished
        ]
        if others:
            lines.append([name, "; ".join(others)])
    if not lines:
        return []
    return ["Pairs that are not distinguished (each pair once):", Table(["arm", "and"], lines)]


def _trained_again(record: Result) -> list[Part]:
    """The stages whose weights are not those that the other stages of their run started from."""
    seeds: dict[tuple[str, str], list[str]] = {}
    for entry in record["finetuning"]:
        if "trained_again" in entry:
            seeds.setdefault((entry["variant"], entry["stage"]), []).append(str(entry["seed"]))
    if not seeds:
        return []
    stages: dict[tuple[str, str], list[str]] = {}
    for (name, stage), numbers in seeds.items():
        stages.setdefault((name, ", ".join(numbers)), []).append(stage)
    return [
        "Trained again for stages that were missing, perhaps on another kind of processor, where weights differ by the "
        "rounding of sums:",
        Table(["arm", "stages", "seeds"], [[name, "; ".join(found), of] for (name, of), found in stages.items()]),
    ]


def _stage(found: dict[str, Row], stage: str) -> list[Part]:
    lines = []
    for name in ranking(found, [stage]):
        row = found[name]
        seeds = [seed for seed in sorted(row.gains) if stage in row.gains[seed]]
        paid = [row.flops[seed][stage] for seed in seeds]
        known = [each for each in paid if each is not None]
        lines.append(
            [
                name,
                str(len(seeds)),
                *(shown([row.early[seed][stage][place] for seed in seeds], 3) for place in range(len(SHARES))),
                *(shown_shares([row.saved[seed][stage][place] for seed in seeds]) for place in range(len(SHARES))),
                f"{np.mean(known):.2g}" if len(known) == len(paid) else "-",
            ]
        )
    if not lines:
        return []
    header = [f"{kind} {100 * share:g} %" for kind in ("gain,", "saved,") for share in SHARES]
    return [Heading(stage, 3), Table(["arm", "seeds", *header, "FLOPs per token"], lines)]


def parts(record: Result, stages: Stages, beside: str | None = None) -> list[Part]:
    """The leaderboard as parts of a page. beside: the arm that others are compared with; default: `reference`.

    Errors: ValueError if there is no such arm with a result on the choosing texts.
    """
    found = rows(record)
    choosing = _on_most_runs(found, stages.choosing)
    few = [stage for stage in stages.choosing if stage not in choosing]
    beside = beside or reference(found, choosing)
    ranked = ranking(found, choosing)
    if beside is None or beside not in ranked:
        raise ValueError(
            f"there is no leaderboard yet: no seed of {beside or 'any arm'} is finished on {', '.join(choosing)}"
        )
    missing = [name for name in found if name not in ranked]
    return [
        Heading("Leaderboard"),
        *([f"Most runs are not finished on {' and '.join(few)}, so the means leave these texts out."] if few else []),
        *_summary(record, found, Stages(choosing, stages.held_out), beside),
        *([f"{'; '.join(missing)}: no seed is finished on all of these texts yet."] if missing else []),
        *_alike(found, choosing),
        *_trained_again(record),
        "Of each text, after these shares of the real data: the gain (bits below scratch), and the share of the data "
        "that is not needed for the loss that scratch has there; never: the arm does not reach it. Last: synthetic "
        "FLOPs, of training and generation, for each real token saved at the end (a byte, unless the text is in byte "
        "pairs); -: a seed saved none, or the cost is not known.",
        *(part for stage in (*stages.choosing, *stages.held_out) for part in _stage(found, stage)),
    ]
