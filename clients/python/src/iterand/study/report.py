"""One page about a sweep: report.md, report.html and the plots as PNG files; results.json has its numbers (record.py).

Everything stands on the JSON files of the sweep's folder. Means are over seeds, with 95 % intervals (Student's t).
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iterand.study import finetune, labels, plots, record

Result = dict[str, Any]

# 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t for so many degrees of freedom (at least 1), to three decimals."""
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    z = 1.959964  # of the normal distribution; Abramowitz and Stegun 26.7.5
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def mean_and_interval(values: list[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval; the width is nan for one value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan
    return mean, student(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def _shown(values: list[float], digits: int = 2) -> str:
    if not values:
        return "-"
    mean, width = mean_and_interval(values)
    return f"{mean:.{digits}f}" if math.isnan(width) else f"{mean:.{digits}f} ± {width:.{digits}f}"


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Table:
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Picture:
    file: str
    caption: str


Part = Heading | Table | Picture | str


def markdown(parts: list[Part]) -> str:
    lines: list[str] = []
    for part in parts:
        if isinstance(part, Heading):
            lines += ["#" * part.level + " " + part.text, ""]
        elif isinstance(part, Table):
            lines += ["| " + " | ".join(part.header) + " |", "|" + " --- |" * len(part.header)]
            lines += ["| " + " | ".join(row) + " |" for row in part.rows] + [""]
        elif isinstance(part, Picture):
            lines += [f"![{part.caption}]({part.file})", ""]
        else:
            lines += [part, ""]
    return "\n".join(lines).rstrip() + "\n"


_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;font-size:14px;display:block;overflow-x:auto}
td,th{border:1px solid #ccc;padding:.25em .6em;text-align:right}td:first-child,th:first-child{text-align:left}
img{max-width:100%}"""


def page(parts: list[Part], folder: Path, title: str) -> str:
    """The same as one HTML file, pictures and all."""
    body: list[str] = []
    for part in parts:
        if isinstance(part, Heading):
            body.append(f"<h{part.level}>{html.escape(part.text)}</h{part.level}>")
        elif isinstance(part, Table):
            head = "".join(f"<th>{html.escape(cell)}</th>" for cell in part.header)
            rows = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in part.rows)
            body.append(f"<table><tr>{head}</tr>{rows}</table>")
        elif isinstance(part, Picture):
            data = base64.b64encode((folder / part.file).read_bytes()).decode()
            body.append(f'<p><img alt="{html.escape(part.caption)}" src="data:image/png;base64,{data}"></p>')
        else:
            body.append(f"<p>{html.escape(part)}</p>")
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


def collect(out: Path) -> tuple[dict[str, list[Result]], dict[tuple[str, str], list[Result]]]:
    """Results by variant, and finetuning results by (variant, stage); each list has one entry a seed.

    A sweep has a variant's results in VARIANT/seed-N; a folder of another name is a variant of its own, and one that
    `pretrain` wrote may be `out` itself.
    """
    pretrained: dict[str, list[Result]] = {}
    finetuned: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for file in sorted(out.glob("**/pretrain.json")):
        folder = file.parent
        if folder != out and folder.name.startswith("seed-"):
            folder = folder.parent
        variant = str(folder.relative_to(out)) if folder != out else out.resolve().name
        pretrained.setdefault(variant, []).append(json.loads(file.read_text()))
        for stage in sorted(file.parent.glob("finetune-*.json")):
            found = json.loads(stage.read_text())
            finetuned[variant, found["name"]].append(found)
    return pretrained, dict(finetuned)


# Asked of the tracked curves: s of the published model after 256 M, 768 M and 1 536 M tokens; a task done.
LEVELS = {"s": (0.31, 0.60, 0.73), "task": (0.5, 0.95)}


def reached(points: list[Result], name: str, level: float) -> float | None:
    """Tokens at which a tracked curve first comes up to `level`, interpolated from 0 at no tokens; None: never."""
    tokens, value = 0.0, 0.0
    for point in points:
        if point[name] >= level:
            share = (level - value) / (point[name] - value) if point[name] > value else 1.0
            return float(tokens + share * (point["tokens"] - tokens))
        tokens, value = point["tokens"], point[name]
    return None


def _millions(values: list[float | None]) -> str:
    return " / ".join("never" if value is None else f"{value / 1e6:.2f} M" for value in values) or "-"


def _tracked(pretrained: dict[str, list[Result]]) -> list[Part]:
    """At which tokens each run's curves came up to the levels, seed by seed."""
    tracked = {variant: [run for run in runs if run.get("track")] for variant, runs in pretrained.items()}
    tracked = {variant: runs for variant, runs in tracked.items() if runs}
    if not tracked:
        return []
    first = next(iter(tracked.values()))[0]
    tasks = first["config"]["evaluation"]["tasks"]
    names = [name for name in first["track"][0] if name != "tokens"]
    columns = [(name, level) for name in names for level in LEVELS["task" if name in tasks else "s"]]
    return [
        Heading("When it comes"),
        "Tokens of the stream after which s of a set, or a share of right answers of a task, is reached, seed by seed.",
        Table(
            ["variant", *(f"{name} {level:g}" for name, level in columns)],
            [
                [
                    variant,
                    *(
                        _millions([reached(run["track"], name, level) for run in runs if name in run["track"][0]])
                        for name, level in columns
                    ),
                ]
                for variant, runs in tracked.items()
            ],
        ),
    ]


_FINETUNE_COLUMNS = (
    *("start", "learning rate", "final bits", "test bits"),
    *("saved 1/8", "1/4", "1/2", "all", "all, mean scratch", "exchange rate"),
)


def _mean_curve(scratch: labels.Arm) -> finetune.Curve:
    """The mean over seeds of scratch's validation curve."""
    curves = [stage["starts"]["scratch"]["curve"] for stage in scratch.stages]
    return [
        {"tokens": points[0]["tokens"], "bits": float(np.mean([point["bits"] for point in points]))}
        for points in zip(*curves, strict=True)
    ]


def _shares(shares: list[float | None]) -> str:
    """Shares of data saved, in per cent; `never` if a run did not reach the loss."""
    known = [100 * share for share in shares if share is not None]
    if len(known) < len(shares):
        return "never"
    return _shown(known, 0) + (" %" if known else "")


def exchange(levels: list[Result]) -> str:
    """The mean exchange rate of the levels of all seeds; `never` if one of them saved nothing."""
    rates = [level.get("exchange_flops_per_token") for level in levels]
    paid = [rate for rate in rates if rate is not None]
    return f"{np.mean(paid):.2g}" if len(paid) == len(rates) else "never"


def _finetuning(finetuned: dict[tuple[str, str], list[Result]], text: str) -> list[Part]:
    """A stage's table."""
    arms = labels.arms(finetuned, text)
    means = {arm.name: _mean_curve(arm) for arm in arms if arm.kind == "scratch"}
    rows: list[list[str]] = []
    for arm in arms:
        starts = [stage["starts"][arm.kind] for stage in arm.stages]
        compared = [
            stage["comparisons"][arm.kind]["levels"] for stage in arm.stages if arm.kind in stage["comparisons"]
        ]
        saved = [[level[place].get("saved_share") for level in compared] for place in range(4)]
        mean = means.get(arm.scratch) if compared else None
        against = [finetune.compare(mean, start["curve"], None)["levels"][-1] for start in starts] if mean else []
        saved.append([level.get("saved_share") for level in against])
        known = compared and all(stage["synthetic_flops"] is not None for stage in arm.stages)
        rows.append(
            [
                arm.name,
                ", ".join(sorted({f"{start['learning_rate']:g}" for start in starts})),
                _shown([start["final_bits"] for start in starts], 3),
                _shown([start["test_bits"] for start in starts], 3),
                *(_shares(shares) for shares in saved),
                exchange([level[-1] for level in compared]) if known else "-",
            ]
        )
    return [
        Heading(f"Finetuning on {text}"),
        "Data saved: real tokens needed less than scratch needs for the loss that it has after an eighth, "
        "a quarter, half and all of its tokens (negative: more are needed), beside scratch of its own seed, "
        "and at the end beside the mean curve of all scratch runs of the same model and stage, which is taken as "
        "exact: how far it may be off is not in that interval. Exchange rate: synthetic FLOPs, of training and "
        "generation, for each real token saved at scratch's final loss; never: a seed saved none; -: what generation "
        "cost is not known. "
        "Learning rates are the best of the list for each start.",
        Table([*_FINETUNE_COLUMNS], rows),
    ]


def build(out: Path, title: str) -> list[Part]:
    """The page's parts; writes the plots into `out`. Errors: ValueError if there are no results."""
    pretrained, finetuned = collect(out)
    if not pretrained:
        raise ValueError(f"{out} has no results: no pretrain.json in any folder below it")
    runs = [run for of_variant in pretrained.values() for run in of_variant]
    machines = [run["hardware"] for run in runs]
    hardware = sorted({"{name}, {cores} cores, PyTorch {torch}".format(**machine) for machine in machines})
    parts: list[Part] = [
        Heading(title, 1),
        f"Hardware: {'; '.join(hardware)}. Values are means over seeds with 95 % intervals where there are several.",
        Heading("Runs"),
        Table(
            [
                "variant",
                "recipe",
                "seeds",
                "width x depth",
                "length",
                "tokens",
                "final loss",
                "tokens/s",
                "waited",
                "training FLOPs",
                "generation FLOPs",
            ],
            [
                [
                    variant,
                    labels.recipe_name(of_variant[0]["config"]["pretrain"]["recipe"]),
                    ", ".join(str(run["config"]["seed"]) for run in of_variant),
                    labels.model_name(of_variant[0]["config"]["model"]),
                    str(of_variant[0]["config"]["model"]["length"]),
                    f"{of_variant[0]['tokens']:,}".replace(",", " "),
                    _shown([run["curve"][-1]["bits"] for run in of_variant]),
                    f"{np.mean([run['tokens'] / run['seconds'] for run in of_variant]):.0f}",
                    f"{100 * np.mean([run['waited_seconds'] / run['seconds'] for run in of_variant]):.1f} %",
                    f"{of_variant[0]['training_flops']:.2g}",
                    "-" if of_variant[0]["generation_flops"] is None else f"{of_variant[0]['generation_flops']:.2g}",
                ]
                for variant, of_variant in pretrained.items()
            ],
        ),
    ]
    if any(run["generation_flops"] is None for run in runs):
        parts.append("Generation FLOPs are not known (-) where a dump was read: it does not say what it cost.")
    evaluated = {name: [run["evaluations"][-1] for run in rs if run["evaluations"]] for name, rs in pretrained.items()}
    evaluated = {name: found for name, found in evaluated.items() if found}
    if evaluated:
        # Variants may be evaluated on sets of their own; what one lacks is left open.
        all_of_them = [one for found in evaluated.values() for one in found]
        known = {name: values for one in all_of_them for name, values in one["sets"].items()}
        others = dict.fromkeys(other for values in known.values() for other in values.get("compressors_half", {}))

        def by_set(key: str) -> list[list[str]]:
            return [
                [variant, *(_shown([one["sets"][name][key] for one in found if name in one["sets"]]) for name in known)]
                for variant, found in evaluated.items()
            ]

        def compressed(values: Result, other: str) -> str:
            return f"{values['compressors_half'][other]:.2f}" if "compressors_half" in values else "-"

        parts += [
            Heading("Zero-shot"),
            "Bits a token over the second half of the window, at the end of pretraining; chance is 8.",
            Table(
                ["variant", *known],
                by_set("bits_half")
                + [["best context-Markov", *(f"{values['markov_half']:.2f}" for values in known.values())]]
                + [[other, *(compressed(values, other) for values in known.values())] for other in others],
            ),
            "s = (8 - bits) / (8 - best context-Markov bits): 0 is chance, 1 is the best Markov model of the window.",
            Table(["variant", *known], by_set("s_half")),
        ]
        tasks = dict.fromkeys(task for one in all_of_them for task in one["tasks"])
        if tasks:
            rights = {
                variant: [[100 * one["tasks"][task] for one in found if task in one["tasks"]] for task in tasks]
                for variant, found in evaluated.items()
            }
            parts += [
                Heading("In-context tasks"),
                "Share of the answers in the second half of the window that the model ranks first, in per cent.",
                Table(
                    ["variant", *tasks],
                    [[variant, *(_shown(shares, 1) for shares in found)] for variant, found in rights.items()],
                ),
            ]
    parts += _tracked(pretrained)
    for text in sorted({text for _, text in finetuned}):
        parts += _finetuning(finetuned, text)
    parts += [Heading("Plots"), *(Picture(*each) for each in plots.draw(out, pretrained, finetuned))]
    return parts


def write(out: Path, title: str) -> Path:
    """Writes report.md, report.html and results.json into `out`; returns the first."""
    parts = build(out, title)
    record.write(out / "results.json", record.build(*collect(out)))
    (out / "report.md").write_text(markdown(parts))
    (out / "report.html").write_text(page(parts, out, title))
    return out / "report.md"
