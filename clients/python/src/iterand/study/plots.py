"""The plots of a report, as PNG files."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from iterand.study import labels

Result = dict[str, Any]


def draw(
    out: Path, pretrained: dict[str, list[Result]], finetuned: dict[tuple[str, str], list[Result]]
) -> list[tuple[str, str]]:
    """Writes the plots of what report.collect found into `out`; returns their files' names and captions."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pictures: list[tuple[str, str]] = []

    def finish(figure: Any, name: str, caption: str) -> None:
        figure.tight_layout()
        figure.savefig(out / name, dpi=110)
        pyplot.close(figure)
        pictures.append((name, caption))

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
    last = [run["evaluations"][-1] for runs in pretrained.values() for run in runs if run["evaluations"]]
    sets = {name: values for found in last for name, values in found["sets"].items()}
    if sets:
        names = list(sets)
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
            axes.axhline(sets[name]["markov_half"], color="grey", linestyle="--", linewidth=1)
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
                        for found in run["evaluations"][-1:]:
                            if name in found["sets"]:
                                by_width[run["config"]["model"]["width"]].append(found["sets"][name]["bits_half"])
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
        arms = labels.arms(finetuned, text)
        alone = [arm.name for arm in arms if arm.kind == "scratch"]
        variants = list(dict.fromkeys(arm.variant for arm in arms if arm.kind != "scratch"))
        for arm in arms:
            if arm.kind == "scratch":
                colour = ("black", "grey", "silver")[alone.index(arm.name) % 3]
            else:
                colour = f"C{variants.index(arm.variant) % 10}"
            for seed, run in enumerate(arm.stages):
                points = run["starts"][arm.kind]["curve"][1:]
                axes.plot(
                    [point["tokens"] for point in points],
                    [point["bits"] for point in points],
                    color=colour,
                    linestyle="--" if arm.kind == "fresh" else "-",
                    label=arm.name if seed == 0 else None,
                )
        axes.set(xlabel="real tokens", ylabel="validation bits a token", xscale="log", title=f"Finetuning on {text}")
        axes.legend(fontsize=7)
        finish(figure, f"finetune-{text}.png", f"Validation loss on {text} against real tokens")

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    drawn = False
    for number, ((variant, text), runs) in enumerate(finetuned.items()):
        for kind in runs[0]["comparisons"]:
            shares = [run["comparisons"][kind]["levels"][-1].get("saved_share") for run in runs]
            paid = [run["synthetic_flops"] for run in runs]
            points = [
                (flops, 100 * share)
                for flops, share in zip(paid, shares, strict=True)
                if share is not None and flops is not None
            ]
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
