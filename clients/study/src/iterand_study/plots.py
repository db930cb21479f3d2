"""The plots of a report, as PNG files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from iterand_study import labels
from iterand_study import record as records
from iterand_study.intervals import mean_and_interval

Result = dict[str, Any]
Finish = Callable[[Any, str, str], None]

_LINES = ("-", "--", ":", "-.")


def draw(out: Path, record: Result) -> list[tuple[str, str]]:
    """Writes the plots of a record into `out`; returns their files' names and captions."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pictures: list[tuple[str, str]] = []

    def finish(figure: Any, name: str, caption: str) -> None:
        figure.savefig(out / name, dpi=110)
        pyplot.close(figure)
        pictures.append((name, caption))

    _pretraining(record, finish)
    _zero_shot(record, finish)
    _widths(record, finish)
    _tracks(record, finish)
    taken: set[str] = set()
    for stage in records.stages(record):
        _finetuning(record, stage, _file("finetune-" + slug(stage), taken), finish)
    _data_saved(record, finish)
    _sizes(record, finish)
    return pictures


def slug(name: str) -> str:
    """A name that is safe in a Markdown link and in a shell."""
    return re.sub("[^a-z0-9.]+", "-", name.lower()).strip("-")


def _file(base: str, taken: set[str]) -> str:
    """A file name of its own, even if slugs are equal."""
    number = 1
    while (name := base if number == 1 else f"{base}-{number}") in taken:
        number += 1
    taken.add(name)
    return f"{name}.png"


def _style(number: int) -> Result:
    """The style of the curve with this number. The first forty differ."""
    return {"color": f"C{number % 10}", "linestyle": _LINES[number // 10 % len(_LINES)]}


def _figure(lines: int = 1, columns: int = 1, width: float = 8, height: float = 4.5) -> tuple[Any, Any]:
    from matplotlib import pyplot

    return pyplot.subplots(lines, columns, figsize=(width, height), squeeze=False, layout="constrained")


def _panels(names: list[str], label: str) -> tuple[Any, list[Any]]:
    """A figure with a panel for each name, four in a line."""
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    figure, grid = _figure(lines, columns, 3.2 * columns + 0.6, 2.6 * lines + 0.8)
    for axes in grid.flat[len(names) :]:
        axes.axis("off")
    for name, axes in zip(names, grid.flat, strict=False):
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
    for axes in grid.flat[max(0, len(names) - columns) : len(names)]:
        axes.set_xlabel(label, fontsize=8)
    return figure, list(grid.flat[: len(names)])


def _count_tokens(axes: Any, log: bool = False) -> None:
    """An x axis of tokens, such as 200 k, 1 M."""
    from matplotlib import ticker

    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.xaxis.set_major_formatter(ticker.EngFormatter())


def _legend(figure: Any, axes: Any) -> None:
    """One legend for all panels, below them. Enlarges the figure."""
    found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    width, height = figure.get_size_inches()
    columns = max(1, min(len(found), int(14 * width // (max(map(len, found), default=1) + 8))))
    figure.set_size_inches(width, height + 0.16 * -(-len(found) // columns))
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=columns, fontsize=7)


def _pretraining(record: Result, finish: Finish) -> None:
    figure, grid = _figure()
    axes = grid[0, 0]
    for number, (variant, runs) in enumerate(records.by_variant(record).items()):
        for place, run in enumerate(runs):
            tokens, bits = zip(*run["curve"], strict=True)
            axes.plot(tokens, bits, alpha=0.8, label=variant if place == 0 else None, **_style(number))
    axes.set(xlabel="tokens of the stream", ylabel="bits per token", title="Loss on the stream itself")
    _count_tokens(axes, log=True)
    _legend(figure, axes)
    finish(figure, "pretraining.png", "Loss on the stream against its tokens")


def _zero_shot(record: Result, finish: Finish) -> None:
    """Against tokens if a run was evaluated before its end; otherwise s of each set at the end."""
    variants = records.by_variant(record)
    evaluations = [each for run in record["runs"] for each in run["evaluations"]]
    names = list(dict.fromkeys(name for each in evaluations for name in each["sets"]))
    if not names:
        return
    if all(len(run["evaluations"]) <= 1 for run in record["runs"]):
        figure, grid = _figure(width=max(8, 1.1 * len(names)))
        axes = grid[0, 0]
        for number, (variant, runs) in enumerate(variants.items()):
            shift = 0.7 * ((number + 0.5) / len(variants) - 0.5)
            found = [
                (place + shift, each["sets"][name]["s_half"])
                for place, name in enumerate(names)
                for run in runs
                for each in run["evaluations"]
                if name in each["sets"]
            ]
            if found:
                marker = "osD^"[number // 10 % 4]
                axes.plot(*zip(*found, strict=True), marker, color=f"C{number % 10}", markersize=4, label=variant)
        for level, line in ((0, ":"), (1, "--")):
            axes.axhline(level, color="grey", linestyle=line, linewidth=1)
        for place in range(1, len(names)):
            axes.axvline(place - 0.5, color="gainsboro", linewidth=0.8)
        axes.set_xticks(range(len(names)), names, fontsize=8)
        axes.set(ylabel="s", xlim=(-0.5, len(names) - 0.5), title="Zero-shot at the end of pretraining")
        _legend(figure, axes)
        caption = "Zero-shot s at the end of pretraining, a mark a seed; dashed: best context-Markov, dotted: chance"
        finish(figure, "zero-shot.png", caption)
        return
    figure, panels = _panels(names, "tokens of the stream")
    for name, axes in zip(names, panels, strict=True):
        for number, (variant, runs) in enumerate(variants.items()):
            for place, run in enumerate(runs):
                points = [each for each in run["evaluations"] if name in each["sets"]]
                axes.plot(
                    [each["tokens"] for each in points],
                    [each["sets"][name]["bits_half"] for each in points],
                    marker="o",
                    markersize=3,
                    label=variant if place == 0 else None,
                    **_style(number),
                )
        axes.axhline(record["baselines"][name]["markov_half"], color="grey", linestyle="--", linewidth=1)
        axes.axhline(8, color="grey", linestyle=":", linewidth=1)
        _count_tokens(axes)
    _legend(figure, panels[0])
    caption = "Zero-shot bits per token (second half) against tokens; dashed: best context-Markov, dotted: chance"
    finish(figure, "zero-shot.png", caption)


def _widths(record: Result, finish: Finish) -> None:
    """Zero-shot loss against width, for runs that differ only in width."""
    groups: dict[str, list[Result]] = {}
    for run in record["runs"]:
        if run["evaluations"]:
            model = {key: value for key, value in run["model"].items() if key != "width"}
            others = [run["recipe"], run["tokens"], run["batch_size"], run["optimizer"], model]
            groups.setdefault(json.dumps(others, sort_keys=True), []).append(run)
    drawn = [runs for runs in groups.values() if len({run["model"]["width"] for run in runs}) > 1]
    if not drawn:
        return
    widths = sorted({run["model"]["width"] for runs in drawn for run in runs})
    names = list(dict.fromkeys(name for runs in drawn for run in runs for name in run["evaluations"][-1]["sets"]))
    recipes = [labels.recipe_name(runs[0]["recipe"]) for runs in drawn]
    figure, panels = _panels(names, "width")
    for name, axes in zip(names, panels, strict=True):
        for number, (recipe, runs) in enumerate(zip(recipes, drawn, strict=True)):
            by_width: dict[int, list[float]] = {}
            for run in runs:
                if name in run["evaluations"][-1]["sets"]:
                    bits = run["evaluations"][-1]["sets"][name]["bits_half"]
                    by_width.setdefault(run["model"]["width"], []).append(bits)
            label = recipe if recipes.count(recipe) == 1 else f"{recipe}: {', '.join(_variants(runs))}"
            means = [float(np.mean(by_width[width])) for width in sorted(by_width)]
            axes.plot(sorted(by_width), means, marker="o", markersize=4, label=label, **_style(number))
        axes.set_xscale("log", base=2)
        axes.set_xticks(widths, [str(width) for width in widths])
        axes.minorticks_off()
    _legend(figure, panels[0])
    finish(figure, "width.png", "Zero-shot bits per token (second half) against the model's width, means over seeds")


def _sizes(record: Result, finish: Finish) -> None:
    """Data saved at scratch's final loss against the model's parameters, for streams that models of several widths or
    depths were trained on: every seed, and where all reach the loss their mean with its 95 % interval. A seed that
    never reaches it is a cross.
    """
    streams: dict[str, list[Result]] = {}
    for run in record["runs"]:
        key = json.dumps([run["recipe"], run["tokens"], records.apart_from_size(run)], sort_keys=True)
        streams.setdefault(key, []).append(run)
    sizes = {  # name of the stream -> variant -> parameters
        f"{labels.recipe_name(runs[0]['recipe'])}, {runs[0]['tokens'] / 1e6:.2g} M tokens": {
            run["variant"]: run["parameters"] for run in runs
        }
        for runs in streams.values()
        if len({run["parameters"] for run in runs}) > 1
    }
    drawn: dict[str, dict[str, list[tuple[int, list[float | None]]]]] = {}  # stage -> stream -> parameters, shares
    for stage in records.stages(record):
        for arm in labels.stage_arms(record, stage):
            ends = [entry["comparison"]["levels"][-1] for entry in arm.entries if entry.get("comparison")]
            shares = [end.get("saved_share") for end in ends]
            for name, models in sizes.items():
                if arm.kind == "pretrained" and arm.variant in models and shares:
                    points = drawn.setdefault(stage, {}).setdefault(name, [])
                    points.append((models[arm.variant], shares))
    # A stream that only models of one size have, on a text, shows no dependence on size there.
    for stage, found in drawn.items():
        drawn[stage] = {name: points for name, points in found.items() if len({size for size, _ in points}) > 1}
    drawn = {stage: found for stage, found in drawn.items() if found}
    if not drawn:
        return
    names = [name for name in sizes if any(name in found for found in drawn.values())]
    figure, panels = _panels(list(drawn), "parameters")
    for found, axes in zip(drawn.values(), panels, strict=True):
        ticks = sorted({size for points in found.values() for size, _ in points})
        every = [share for points in found.values() for _, shares in points for share in shares if share is not None]
        for number, name in enumerate(names):
            shift, color = 1 + 0.04 * (number - (len(names) - 1) / 2), _style(number)["color"]  # side by side
            means = []
            for size, shares in sorted(found.get(name, [])):
                reached = [100 * share for share in shares if share is not None]
                axes.plot([shift * size] * len(reached), reached, "o", color=color, alpha=0.4, markersize=4)
                if None in shares:
                    axes.plot(shift * size, 0, "x", color=color)
                else:
                    mean, width = mean_and_interval(reached)
                    bar = None if np.isnan(width) else width
                    axes.errorbar(shift * size, mean, bar, marker="_", markersize=12, capsize=3, color=color)
                    means.append((shift * size, mean))
            axes.plot([at for at, _ in means], [mean for _, mean in means], label=name, **_style(number))
        # Of an interval that is wider than what was measured the ends are left out.
        axes.set_ylim(100 * min(every, default=0) - 20, 100 * max(every, default=0) + 20)
        axes.axhline(0, color="grey", linewidth=1)
        axes.set(xscale="log", xlim=(ticks[0] / 1.5, ticks[-1] * 1.5))
        axes.set_xticks(ticks, [f"{size / 1e6:.2g} M" for size in ticks])
        axes.minorticks_off()
    panels[0].set_ylabel("real data saved, %", fontsize=8)
    _legend(figure, panels[0])
    caption = (
        "Real data saved at scratch's final loss against the model's parameters: every seed, and means with 95 % "
        "intervals; crosses: seeds that never reach it"
    )
    finish(figure, "size.png", caption)


def _variants(runs: list[Result]) -> list[str]:
    return list(dict.fromkeys(run["variant"] for run in runs))


def _tracks(record: Result, finish: Finish) -> None:
    names = records.tracked_names(record)
    if not names:
        return
    figure, panels = _panels(names, "tokens of the stream")
    for name, axes in zip(names, panels, strict=True):
        for number, (variant, runs) in enumerate(records.by_variant(record).items()):
            for place, run in enumerate(runs):
                points = [point for point in run.get("track", []) if name in point]
                axes.plot(
                    [point["tokens"] for point in points],
                    [point[name] for point in points],
                    linewidth=1.2,
                    label=variant if place == 0 else None,
                    **_style(number),
                )
        _count_tokens(axes)
    _legend(figure, panels[0])
    finish(figure, "track.png", "s of sets and share of right answers of tasks against tokens of the stream")


def _finetuning(record: Result, stage: str, file: str, finish: Finish) -> None:
    """Validation curves, and their differences to the mean of scratch."""
    arms = labels.stage_arms(record, stage)
    alone = [arm for arm in arms if arm.kind == "scratch"]
    variants = list(dict.fromkeys(arm.variant for arm in arms if arm.kind != "scratch"))
    means = {arm.name: _mean(arm) for arm in alone}
    figure, grid = _figure(1, 2 if alone else 1, 12 if alone else 8, 5)
    left, right = grid[0, 0], grid[0, -1]
    for arm in arms:
        if arm.kind == "scratch":
            style: Result = {"color": ("black", "grey", "silver")[alone.index(arm) % 3], "linestyle": "-"}
        else:
            number = variants.index(arm.variant)
            style = {**_style(number), **({"linestyle": (0, (1, 2))} if arm.kind == "fresh" else {})}
        for place, entry in enumerate(arm.entries):
            tokens, bits = zip(*entry["curve"][1:], strict=True)
            left.plot(tokens, bits, label=arm.name if place == 0 else None, **style)
        if arm.scratch:
            mean = means[arm.scratch]
            curves = [{at: bits - mean[at] for at, bits in entry["curve"] if at in mean} for entry in arm.entries]
            # Only the last nine tenths of the tokens: earlier, curves fall too fast for their differences to be seen.
            common = [at for at in curves[0] if at >= max(mean) / 10 and all(at in curve for curve in curves)]
            over_seeds = [[curve[at] for curve in curves] for at in common]
            right.plot(common, [float(np.mean(values)) for values in over_seeds], marker="o", markersize=3, **style)
            if len(curves) > 1:
                lowest, highest = [min(values) for values in over_seeds], [max(values) for values in over_seeds]
                right.fill_between(common, lowest, highest, color=style["color"], alpha=0.15, linewidth=0)
    left.set(xlabel="real tokens", ylabel="validation bits per token", title=f"Finetuning on {stage}")
    if alone:
        right.set(xlabel="real tokens", ylabel="the same, less mean scratch's", title="Difference to scratch")
        _count_tokens(right)
    _count_tokens(left, log=True)
    _legend(figure, left)
    caption = f"Validation loss on {stage} against real tokens"
    note = "; right: less mean scratch's, mean and range over seeds" if alone else ""
    finish(figure, file, caption + note)


def _mean(arm: labels.Arm) -> dict[float, float]:
    """Tokens -> mean over seeds of an arm's validation bits, at the tokens that all curves have."""
    curves = [dict(entry["curve"]) for entry in arm.entries]
    return {
        at: float(np.mean([curve[at] for curve in curves])) for at in curves[0] if all(at in curve for curve in curves)
    }


def _data_saved(record: Result, finish: Finish) -> None:
    """Data saved at scratch's final loss against FLOPs paid. A run that never reaches that loss is a cross."""
    paid = {(run["variant"], run["seed"]): records.synthetic_flops(run) for run in record["runs"]}
    drawn: dict[str, list[tuple[labels.Arm, float, float | None]]] = {}  # stage -> start, FLOPs, share
    for stage in records.stages(record):
        for arm in labels.stage_arms(record, stage):
            for entry in arm.entries:
                flops = paid.get((arm.variant, entry["seed"]))
                if flops is not None and entry.get("comparison"):
                    share = entry["comparison"]["levels"][-1].get("saved_share")
                    drawn.setdefault(stage, []).append((arm, flops, share))
    if not drawn:
        return
    numbers = {variant: number for number, variant in enumerate(records.by_variant(record))}
    marks: dict[str, Result] = {}
    figure, panels = _panels(list(drawn), "synthetic FLOPs (generation and training)")
    for (_, found), axes in zip(drawn.items(), panels, strict=True):
        for arm, flops, share in found:
            kinds = "o^" if arm.kind == "pretrained" else "sD"
            number = numbers[arm.variant]
            mark = {"marker": kinds[number // 10 % 2], "color": f"C{number % 10}", "linestyle": "", "markersize": 5}
            marks[arm.name] = mark
            axes.plot(flops, 100 * (share or 0), **{**mark, **({"marker": "x"} if share is None else {})})
        axes.axhline(0, color="grey", linewidth=1)
        axes.set_xscale("log")
    panels[0].set_ylabel("real data saved, %", fontsize=8)
    for name, mark in marks.items():
        panels[0].plot([], [], label=name, **mark)
    if any(share is None for found in drawn.values() for _, _, share in found):
        panels[0].plot([], [], "x", color="black", label="never reaches scratch's final loss")
    _legend(figure, panels[0])
    caption = "Real data saved at scratch's final loss against synthetic compute; crosses: never reached"
    finish(figure, "data-saved.png", caption)
