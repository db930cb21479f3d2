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

from iterand.study import finetune, record

Result = dict[str, Any]

# 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom.
_STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


def mean_and_interval(values: list[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval; the width is nan for one value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan
    quantile = _STUDENT[len(values) - 2] if len(values) - 2 < len(_STUDENT) else 2.0
    return mean, quantile * float(np.std(values, ddof=1)) / math.sqrt(len(values))


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
    """Results by variant, and finetuning results by (variant, stage); each list has one entry a seed."""
    pretrained: dict[str, list[Result]] = {}
    finetuned: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for file in sorted(out.glob("**/pretrain.json")):
        variant = str(file.parent.parent.relative_to(out))
        pretrained.setdefault(variant, []).append(json.loads(file.read_text()))
        for stage in sorted(file.parent.glob("finetune-*.json")):
            found = json.loads(stage.read_text())
            finetuned[variant, found["name"]].append(found)
    return pretrained, dict(finetuned)


def _recipe_name(recipe: Any) -> str:
    return recipe if isinstance(recipe, str) else "own recipe"


def _start_name(variant: str, kind: str, stage: Result) -> str:
    """Scratch runs are the same for all variants of one model shape."""
    return (
        f"{variant}, {kind}" if kind != "scratch" else "scratch, {width} x {depth}".format(**stage["config"]["model"])
    )


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


def _plots(
    out: Path, pretrained: dict[str, list[Result]], finetuned: dict[tuple[str, str], list[Result]]
) -> list[Picture]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pictures: list[Picture] = []

    def finish(figure: Any, name: str, caption: str) -> None:
        figure.tight_layout()
        figure.savefig(out / name, dpi=110)
        pyplot.close(figure)
        pictures.append(Picture(name, caption))

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for number, (variant, runs) in enumerate(pretrained.items()):
        for seed, run in enumerate(runs):
            points = run["curve"]
            axes.plot(
                [point["tokens"] for point in points],
                [point["bits"] for point in points],
                color=f"C{number}",
                alpha=0.8,
                label=variant if seed == 0 else None,
            )
    axes.set(xlabel="tokens of the stream", ylabel="bits a token", xscale="log", title="Loss on the stream itself")
    axes.legend(fontsize=8)
    finish(figure, "pretraining.png", "Loss on the stream against its tokens")

    first = next(iter(pretrained.values()))[0]
    if first["evaluations"]:
        names = list(first["evaluations"][-1]["sets"])
        columns = min(4, len(names))
        lines = -(-len(names) // columns)
        figure, grid = pyplot.subplots(lines, columns, figsize=(3.2 * columns, 2.6 * lines), squeeze=False)
        for axes in grid.flat[len(names) :]:
            axes.axis("off")
        for name, axes in zip(names, grid.flat, strict=False):
            for number, (variant, runs) in enumerate(pretrained.items()):
                for seed, run in enumerate(runs):
                    points = [point for point in run["evaluations"] if name in point["sets"]]
                    axes.plot(
                        [point["tokens"] for point in points],
                        [point["sets"][name]["bits_half"] for point in points],
                        "o-",
                        color=f"C{number}",
                        markersize=3,
                        label=variant if seed == 0 else None,
                    )
            known = first["evaluations"][-1]["sets"].get(name)
            if known:
                axes.axhline(known["markov_half"], color="grey", linestyle="--", linewidth=1)
            axes.axhline(8, color="grey", linestyle=":", linewidth=1)
            axes.set_title(name, fontsize=9)
            axes.tick_params(labelsize=7)
        grid[0, 0].legend(fontsize=6)
        caption = "Zero-shot bits a token (second half) against tokens; dashed: best context-Markov, dotted: chance"
        finish(figure, "zero-shot.png", caption)

        shapes = {run["config"]["model"]["width"] for runs in pretrained.values() for run in runs}
        if len(shapes) > 1:
            figure, axes = pyplot.subplots(figsize=(8, 4.5))
            for name in names:
                by_width: dict[int, list[float]] = defaultdict(list)
                for runs in pretrained.values():
                    for run in runs:
                        by_width[run["config"]["model"]["width"]].append(
                            run["evaluations"][-1]["sets"][name]["bits_half"]
                        )
                widths = sorted(by_width)
                axes.plot(widths, [float(np.mean(by_width[width])) for width in widths], "o-", label=name)
            axes.set(xlabel="width", ylabel="bits a token", xscale="log", title="Zero-shot loss against width")
            axes.legend(fontsize=7)
            finish(figure, "width.png", "Zero-shot loss against the model's width")

    if first.get("track"):
        names = [name for name in first["track"][0] if name != "tokens"]
        figure, grid = pyplot.subplots(1, len(names), figsize=(3.6 * len(names), 3.2), squeeze=False)
        for name, axes in zip(names, grid.flat, strict=True):
            for number, (variant, runs) in enumerate(pretrained.items()):
                for seed, run in enumerate(runs):
                    points = [point for point in run.get("track", []) if name in point]
                    axes.plot(
                        [point["tokens"] for point in points],
                        [point[name] for point in points],
                        color=f"C{number % 10}",
                        linestyle="-" if number < 10 else "--",
                        label=variant if seed == 0 else None,
                    )
            axes.set_title(name, fontsize=9)
            axes.tick_params(labelsize=7)
            axes.set_xlabel("tokens of the stream", fontsize=7)
        grid[0, 0].legend(fontsize=6)
        finish(figure, "track.png", "s of sets and share of right answers of tasks against tokens of the stream")

    for text in sorted({text for _, text in finetuned}):
        figure, axes = pyplot.subplots(figsize=(8, 4.5))
        drawn_scratch: set[str] = set()
        number = 0
        for (variant, of_text), runs in finetuned.items():
            if of_text != text:
                continue
            for kind in runs[0]["starts"]:
                label = _start_name(variant, kind, runs[0])
                if label in drawn_scratch:
                    continue
                colour = ("black", "grey", "silver")[len(drawn_scratch) % 3] if kind == "scratch" else f"C{number}"
                for seed, run in enumerate(runs):
                    points = run["starts"][kind]["curve"][1:]
                    axes.plot(
                        [point["tokens"] for point in points],
                        [point["bits"] for point in points],
                        color=colour,
                        linestyle="--" if kind == "fresh" else "-",
                        label=label if seed == 0 else None,
                    )
                if kind == "scratch":
                    drawn_scratch.add(label)
            number += 1
        axes.set(xlabel="real tokens", ylabel="validation bits a token", xscale="log", title=f"Finetuning on {text}")
        axes.legend(fontsize=7)
        finish(figure, f"finetune-{text}.png", f"Validation loss on {text} against real tokens")

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    drawn = False
    for number, ((variant, text), runs) in enumerate(finetuned.items()):
        for kind in runs[0]["comparisons"]:
            shares = [run["comparisons"][kind]["levels"][-1].get("saved_share") for run in runs]
            paid = [run["synthetic_flops"] for run in runs]
            points = [(flops, 100 * share) for flops, share in zip(paid, shares, strict=True) if share is not None]
            if points:
                drawn = True
                marker = "o" if kind == "pretrained" else "s"
                label = f"{variant}, {text}, {kind}"
                axes.plot(*zip(*points, strict=True), marker, color=f"C{number % 10}", label=label)
    if drawn:
        axes.axhline(0, color="grey", linewidth=1)
        axes.set(xlabel="synthetic FLOPs (generation and training)", ylabel="real data saved, %", xscale="log")
        axes.set_title("Data saved at scratch's final loss against compute")
        axes.legend(fontsize=7)
        finish(figure, "data-saved.png", "Real data saved against synthetic compute")
    else:
        pyplot.close(figure)
    return pictures


_FINETUNE_COLUMNS = (
    *("start", "learning rate", "final bits", "test bits"),
    *("saved 1/8", "1/4", "1/2", "all", "all, mean scratch", "exchange rate"),
)


def _scratch_curves(stages: list[Result]) -> dict[str, finetune.Curve]:
    """The mean over seeds of scratch's validation curve, for each model shape (_start_name)."""
    curves: dict[str, dict[int, finetune.Curve]] = defaultdict(dict)
    for stage in stages:
        if "scratch" in stage["starts"]:
            curves[_start_name("", "scratch", stage)][stage["config"]["seed"]] = stage["starts"]["scratch"]["curve"]
    return {
        name: [
            {"tokens": points[0]["tokens"], "bits": float(np.mean([point["bits"] for point in points]))}
            for points in zip(*of_seed.values(), strict=True)
        ]
        for name, of_seed in curves.items()
    }


def _shares(shares: list[float | None]) -> str:
    """Shares of data saved, in per cent; `never` if a run did not reach the loss."""
    known = [100 * share for share in shares if share is not None]
    if len(known) < len(shares):
        return "never"
    return _shown(known, 0) + (" %" if known else "")


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
                "width x depth, length",
                "tokens",
                "final loss",
                "tokens/s",
                "waited",
                "FLOPs",
            ],
            [
                [
                    variant,
                    _recipe_name(of_variant[0]["config"]["pretrain"]["recipe"]),
                    ", ".join(str(run["config"]["seed"]) for run in of_variant),
                    "{width} x {depth}, {length}".format(**of_variant[0]["config"]["model"]),
                    f"{of_variant[0]['tokens']:,}".replace(",", " "),
                    _shown([run["curve"][-1]["bits"] for run in of_variant]),
                    f"{np.mean([run['tokens'] / run['seconds'] for run in of_variant]):.0f}",
                    f"{100 * np.mean([run['waited_seconds'] / run['seconds'] for run in of_variant]):.1f} %",
                    f"{of_variant[0]['training_flops'] + of_variant[0]['generation_flops']:.2g}",
                ]
                for variant, of_variant in pretrained.items()
            ],
        ),
    ]
    evaluated = {name: [run["evaluations"][-1] for run in rs if run["evaluations"]] for name, rs in pretrained.items()}
    evaluated = {name: found for name, found in evaluated.items() if found}
    if evaluated:
        names = list(next(iter(evaluated.values()))[0]["sets"])
        known = next(iter(evaluated.values()))[0]["sets"]
        parts += [
            Heading("Zero-shot"),
            "Bits a token over the second half of the window, at the end of pretraining; chance is 8.",
            Table(
                ["variant", *names],
                [
                    [variant, *(_shown([one["sets"][name]["bits_half"] for one in found]) for name in names)]
                    for variant, found in evaluated.items()
                ]
                + [["best context-Markov", *(f"{known[name]['markov_half']:.2f}" for name in names)]]
                + [
                    [other, *(f"{known[name]['compressors_half'][other]:.2f}" for name in names)]
                    for other in known[names[0]].get("compressors_half", {})
                ],
            ),
            "s = (8 - bits) / (8 - best context-Markov bits): 0 is chance, 1 is the best Markov model of the window.",
            Table(
                ["variant", *names],
                [
                    [variant, *(_shown([one["sets"][name]["s_half"] for one in found]) for name in names)]
                    for variant, found in evaluated.items()
                ],
            ),
        ]
        tasks = list(next(iter(evaluated.values()))[0]["tasks"])
        if tasks:
            parts += [
                Heading("In-context tasks"),
                "Share of the answers in the second half of the window that the model ranks first, in per cent.",
                Table(
                    ["variant", *tasks],
                    [
                        [variant, *(_shown([100 * one["tasks"][task] for one in found], 1) for task in tasks)]
                        for variant, found in evaluated.items()
                    ],
                ),
            ]
    parts += _tracked(pretrained)
    for text in sorted({text for _, text in finetuned}):
        rows: list[list[str]] = []
        told_scratch: set[str] = set()
        means = _scratch_curves(
            [stage for (_, of_text), stages in finetuned.items() if of_text == text for stage in stages]
        )
        for (variant, of_text), stages in finetuned.items():
            if of_text != text:
                continue
            for kind in stages[0]["starts"]:
                name = _start_name(variant, kind, stages[0])
                if name in told_scratch:
                    continue
                if kind == "scratch":
                    told_scratch.add(name)
                starts = [stage["starts"][kind] for stage in stages]
                compared = [stage["comparisons"][kind]["levels"] for stage in stages if kind in stage["comparisons"]]
                saved = [[level[place].get("saved_share") for level in compared] for place in range(4)]
                mean = means.get(_start_name("", "scratch", stages[0])) if compared else None
                if mean is not None:
                    against = [finetune.compare(mean, start["curve"], 0.0)["levels"][-1] for start in starts]
                    saved.append([level.get("saved_share") for level in against])
                else:
                    saved.append([])
                rates = [level[-1].get("exchange_flops_per_token") for level in compared]
                paid = [rate for rate in rates if rate is not None]
                rows.append(
                    [
                        name,
                        ", ".join(sorted({f"{start['learning_rate']:g}" for start in starts})),
                        _shown([start["final_bits"] for start in starts], 3),
                        _shown([start["test_bits"] for start in starts], 3),
                        *(_shares(shares) for shares in saved),
                        f"{np.mean(paid):.2g}" if paid else "-",
                    ]
                )
        parts += [
            Heading(f"Finetuning on {text}"),
            "Data saved: real tokens needed less than scratch needs for the loss that it has after an eighth, "
            "a quarter, half and all of its tokens (negative: more are needed), beside scratch of its own seed, "
            "and at the end beside the mean curve of all scratch runs. Exchange rate: synthetic FLOPs for each real "
            "token saved at scratch's final loss. Learning rates are the best of the list for each start.",
            Table([*_FINETUNE_COLUMNS], rows),
        ]
    parts += [Heading("Plots"), *_plots(out, pretrained, finetuned)]
    return parts


def write(out: Path, title: str) -> Path:
    """Writes report.md, report.html and results.json into `out`; returns the first."""
    parts = build(out, title)
    record.write(out / "results.json", record.build(*collect(out)))
    (out / "report.md").write_text(markdown(parts))
    (out / "report.html").write_text(page(parts, out, title))
    return out / "report.md"
