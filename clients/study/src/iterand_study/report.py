"""One page about a sweep: report.md, report.html and the plots as PNG files.

Everything is made from a record (record.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from iterand_study import comparison, config, factors, labels, plots
from iterand_study import record as records
from iterand_study.document import Heading, Part, Picture, Table, html_page, markdown
from iterand_study.intervals import shown, shown_paired, shown_shares

Result = dict[str, Any]

# Levels of the tracked curves: s of the published model after 256 M, 768 M and 1 536 M tokens; a solved task.
LEVELS = {"s": (0.31, 0.60, 0.73), "task": (0.5, 0.95)}


def tokens_to_level(points: list[Result], name: str, level: float) -> float | None:
    """Tokens at which a tracked curve first reaches `level`, interpolated from 0 at no tokens; None: never."""
    tokens, value = 0.0, 0.0
    for point in points:
        if point[name] >= level:
            share = (level - value) / (point[name] - value) if point[name] > value else 1.0
            return float(tokens + share * (point["tokens"] - tokens))
        tokens, value = point["tokens"], point[name]
    return None


def _millions(values: list[float | None]) -> str:
    return " / ".join("never" if value is None else f"{value / 1e6:.2f} M" for value in values) or "-"


def _whole(number: float) -> str:
    return f"{number:,.0f}".replace(",", " ")


def _track(run: Result, name: str) -> list[Result]:
    return [point for point in run["track"] if name in point]


def _tracked(record: Result) -> list[Part]:
    """The tokens at which each run's curves reached the levels, seed by seed."""
    names = records.tracked_names(record)
    runs = [run for run in record["runs"] if run.get("track")]
    columns = [(name, level) for name in names for level in LEVELS["task" if name in config.TASKS else "s"]]
    if not columns:
        return []
    return [
        Heading("When it comes"),
        "Tokens of the stream after which s of a set, or a share of right answers of a task, is reached, seed by seed.",
        Table(
            ["variant", *(f"{name} {level:g}" for name, level in columns)],
            [
                [
                    variant,
                    *(
                        _millions(
                            [tokens_to_level(curve, name, level) for run in found if (curve := _track(run, name))]
                        )
                        for name, level in columns
                    ),
                ]
                for variant, found in records.by_variant({"runs": runs}).items()
            ],
        ),
    ]


# Settings of runs: their names in a report, and their keys in a record. Settings that are equal in all runs are listed
# once.
_SETTINGS: dict[str, tuple[str, ...]] = {
    "engine version": ("engine_version",),
    "head width": ("model", "head_width"),
    "base width": ("model", "base_width"),
    "vocabulary": ("model", "vocab_size"),
    "dropout": ("model", "dropout"),
    "first weights": ("start",),
    "loss of marked tokens alone": ("masked",),
    "sequences per batch": ("batch_size",),
    "learning rate of pretraining": ("optimizer", "learning_rate"),
    "warm-up, share of the steps": ("optimizer", "warmup_share"),
    "last learning rate, share": ("optimizer", "final_share"),
    "weight decay": ("optimizer", "weight_decay"),
    "beta 1, beta 2": ("optimizer", "beta1", "beta2"),
    "gradients clipped at": ("optimizer", "clip"),
    "precision of training": ("precision",),
    "compiled": ("compile",),
    "device": ("hardware", "device"),
    "threads (0: PyTorch's choice)": ("threads",),
    "processes": ("processes",),
    "windows a set": ("windows",),
}


def _setting(run: Result, keys: tuple[str, ...]) -> str:
    if keys == ("start",):
        start = run.get("start")
        if start is None:
            return "random"
        seen = "unknown" if start["tokens"] is None else _whole(start["tokens"])
        return f"{start['sha256'][:8]}, after {seen} tokens"
    table = run if keys[0] not in ("model", "optimizer", "hardware") else run[keys[0]]
    values = [table.get(key) for key in (keys if table is run else keys[1:])]
    return ", ".join("-" if value is None else f"{value:g}" if type(value) is float else str(value) for value in values)


def _runs(record: Result) -> list[Part]:
    """The variants, and the settings that all runs share."""
    runs, variants = record["runs"], records.by_variant(record)
    differing = [name for name, keys in _SETTINGS.items() if len({_setting(run, keys) for run in runs}) > 1]

    def values(found: list[Result], name: str) -> str:
        return " / ".join(dict.fromkeys(_setting(run, _SETTINGS[name]) for run in found))

    def generation(run: Result) -> str:
        cost = run["generation_flops"]
        return "-" if cost is None else "integer work" if cost == 0 else f"{cost:.2g}"

    header = ("variant", "recipe", "seeds", "width x depth", "length", "tokens", "final loss", "tokens/s", "waited")
    rows = [
        [
            variant,
            labels.recipe_name(found[0]["recipe"]),
            ", ".join(str(run["seed"]) for run in found),
            labels.model_name(found[0]["model"]),
            str(found[0]["model"]["length"]),
            _whole(found[0]["tokens"]),
            shown([run["curve"][-1][1] for run in found]),
            f"{np.mean([run['tokens'] / run['seconds'] for run in found]):.0f}",
            f"{100 * np.mean([run['waited_seconds'] / run['seconds'] for run in found]):.1f} %",
            f"{found[0]['training_flops']:.2g}",
            generation(found[0]),
            *(values(found, name) for name in differing),
        ]
        for variant, found in variants.items()
    ]
    same = [[name, values(runs, name)] for name in _SETTINGS if name not in differing]
    parts: list[Part] = [
        Heading("Runs"),
        Table([*header, "training FLOPs", "generation FLOPs", *differing], rows),
    ]
    if any(run["generation_flops"] is None for run in runs):
        parts.append("Generation FLOPs are not known (-) where a dump was read: it does not say what it cost.")
    if any(run["generation_flops"] == 0 for run in runs):
        parts.append("Integer work: the stream is made without floating point, so its FLOPs are counted as none.")
    return [*parts, Heading("Setting"), "The same for all runs; - is not recorded.", Table(["", "all runs"], same)]


def _sets(evaluations: list[Result]) -> list[str]:
    return list(dict.fromkeys(name for each in evaluations for name in each["sets"]))


def _tasks(evaluations: list[Result]) -> list[str]:
    return list(dict.fromkeys(name for each in evaluations for name in each["tasks"]))


def _s(evaluations: list[Result], names: list[str]) -> list[str]:
    """One cell per set: s. A set that no evaluation has gets `-`, as in all tables."""
    return [shown([each["sets"][name]["s_half"] for each in evaluations if name in each["sets"]]) for name in names]


def _right(evaluations: list[Result], tasks: list[str]) -> list[str]:
    """One cell per task: the share of right answers, in per cent."""
    return [shown([100 * each["tasks"][task] for each in evaluations if task in each["tasks"]], 1) for task in tasks]


def _zero_shot(record: Result) -> list[Part]:
    """What pretrained models predict of sets and tasks."""
    found = {
        variant: [run["evaluations"][-1] for run in runs if run["evaluations"]]
        for variant, runs in records.by_variant(record).items()
    }
    found = {variant: evaluations for variant, evaluations in found.items() if evaluations}
    if not found:
        return []
    all_of_them = [each for evaluations in found.values() for each in evaluations]
    names, tasks, baselines = _sets(all_of_them), _tasks(all_of_them), record["baselines"]
    others = dict.fromkeys(other for name in names for other in baselines[name].get("compressors_half", {}))

    def bits(evaluations: list[Result], name: str) -> str:
        return shown([each["sets"][name]["bits_half"] for each in evaluations if name in each["sets"]])

    def compressed(name: str, other: str) -> str:
        known = baselines[name].get("compressors_half")
        return f"{known[other]:.2f}" if known else "-"

    parts: list[Part] = [
        Heading("Zero-shot"),
        "Bits per token over the second half of the window, at the end of pretraining; chance is 8.",
        Table(
            ["variant", *names],
            [[variant, *(bits(each, name) for name in names)] for variant, each in found.items()]
            + [["best context-Markov", *(f"{baselines[name]['markov_half']:.2f}" for name in names)]]
            + [[other, *(compressed(name, other) for name in names)] for other in others],
        ),
        "s = (8 - bits) / (8 - best context-Markov bits): 0 is chance, 1 is the best Markov model of the window.",
        Table(["variant", *names], [[variant, *_s(each, names)] for variant, each in found.items()]),
    ]
    if tasks:
        parts += [
            Heading("In-context tasks"),
            "Share of the answers in the second half of the window that the model ranks first, in per cent.",
            Table(["variant", *tasks], [[variant, *_right(each, tasks)] for variant, each in found.items()]),
        ]
    return parts


def mean_curve(arm: labels.Arm) -> comparison.Curve:
    """The mean over seeds of an arm's validation curves, at the tokens that all of them have."""
    curves = [dict(entry["curve"]) for entry in arm.entries]
    common = [tokens for tokens in curves[0] if all(tokens in curve for curve in curves)]
    return [{"tokens": tokens, "bits": float(np.mean([curve[tokens] for curve in curves]))} for tokens in common]


def exchange(levels: list[Result]) -> str:
    """The mean exchange rate of the levels of all seeds; `never` if one of them saved nothing."""
    rates = [level.get("exchange_flops_per_token") for level in levels]
    paid = [rate for rate in rates if rate is not None]
    return f"{np.mean(paid):.2g}" if len(paid) == len(rates) else "never"


def differences(arm: labels.Arm, other: labels.Arm) -> list[float]:
    """Final bits of an arm minus those of another, for each seed that both have."""
    beside = {entry["seed"]: entry["final_bits"] for entry in other.entries}
    return [entry["final_bits"] - beside[entry["seed"]] for entry in arm.entries if entry["seed"] in beside]


_FINETUNING = (
    "Start: scratch is a model that was not pretrained, pretrained has all weights of the pretrained one, fresh its "
    "layers between embedding and head. Learning rates are the best of the list for each start.",
    "Data saved: real tokens needed less than scratch needs for the loss that it has after an eighth, a quarter, half "
    "and all of its tokens (negative: more are needed), beside scratch of its own seed; and at the end beside the mean "
    "curve of all scratch runs of the same model and stage, which is taken as exact: how far it may be off is not in "
    "that interval. Where a seed never reaches the loss, the seeds are listed one by one.",
    "Exchange rate: synthetic FLOPs, of training and generation, for each real token saved at scratch's final loss; "
    "never: a seed saved none; -: what generation cost is not known.",
    "Differences are of final validation bits, with the same seed (negative: better), with the number of pairs in "
    "brackets; the best is the start with the lowest mean. Scratch gets there: after which share of its own tokens "
    "scratch has the loss that the start ends with; never: not with all of them.",
    "Kept elsewhere: s of the other texts and sets, and per cent of right answers of tasks, before and after "
    "finetuning.",
)


def _stage(record: Result, stage: str) -> list[Part]:
    """A finetuning stage's tables."""
    arms = labels.stage_arms(record, stage)
    runs = {(run["variant"], run["seed"]): run for run in record["runs"]}
    scratch = {arm.name: arm for arm in arms if arm.kind == "scratch"}
    pretrained = [arm for arm in arms if arm.kind != "scratch"]
    best = min(pretrained, key=lambda arm: np.mean([entry["final_bits"] for entry in arm.entries]), default=None)
    rows: list[list[str]] = []
    compared_rows: list[list[str]] = []
    for arm in arms:
        compared = [entry["comparison"] for entry in arm.entries if entry.get("comparison")]
        levels = [found["levels"] for found in compared]
        saved = [[level[place].get("saved_share") for level in levels] for place in range(4)]
        mean = mean_curve(scratch[arm.scratch]) if compared and arm.scratch else None
        against = (
            [comparison.compare(mean, records.points(entry), None)["levels"][-1] for entry in arm.entries]
            if mean
            else []
        )
        saved.append([level.get("saved_share") for level in against])
        beside = [runs.get((arm.variant, entry["seed"]), {}) for entry in arm.entries]
        paid = all(records.synthetic_flops(run) is not None for run in beside)
        seeds = ", ".join(str(entry["seed"]) for entry in arm.entries)
        rows.append(
            [
                arm.name,
                seeds,
                ", ".join(sorted({f"{entry['learning_rate']:g}" for entry in arm.entries})),
                shown([entry["final_bits"] for entry in arm.entries], 3),
                shown([entry["test_bits"] for entry in arm.entries], 3),
                *(shown_shares(each) for each in saved),
                exchange([level[-1] for level in levels]) if levels and paid else "-",
            ]
        )
        if arm.kind != "scratch":
            total = arm.entries[0]["curve"][-1][0]
            there = [found["scratch_reaches_its_final_loss_at"] for found in compared]
            compared_rows.append(
                [
                    arm.name,
                    seeds,
                    shown_paired(differences(arm, scratch[arm.scratch])) if arm.scratch else "-",
                    shown_paired(differences(arm, best)) if best is not None and best is not arm else "-",
                    " / ".join("never" if at is None else f"{100 * at / total:.0f} %" for at in there) or "-",
                ]
            )
    totals = dict.fromkeys(_whole(entry["curve"][-1][0]) for arm in arms for entry in arm.entries)
    rates = dict.fromkeys(f"{each['learning_rate']:g}" for arm in arms for e in arm.entries for each in e["tried"])
    settings = [entry["settings"] for arm in arms for entry in arm.entries if "settings" in entry]
    shared = [
        f"; {name}: {', '.join(dict.fromkeys(str(each[key]) for each in settings))}"
        for name, key in (("sequences per batch", "batch_size"), ("validation windows", "validation_windows"))
        if settings
    ]
    header = ["start", "seeds", "learning rate", "final bits", "test bits"]
    parts: list[Part] = [
        Heading(f"Finetuning on {stage}", 3),
        f"{' or '.join(totals)} real tokens; learning rates tried: {', '.join(rates)}{''.join(shared)}.",
        Table([*header, "saved 1/8", "1/4", "1/2", "all", "all, mean scratch", "exchange rate"], rows),
    ]
    if compared_rows:
        best_name = f"against {best.name}" if best is not None else "-"
        parts.append(Table(["start", "seeds", "against scratch", best_name, "scratch gets there"], compared_rows))
    return parts + _elsewhere(runs, arms)


def _elsewhere(runs: dict[tuple[str, int], Result], arms: list[labels.Arm]) -> list[Part]:
    """What a stage's models predict of other texts, sets and tasks."""
    after = [entry["elsewhere"] for arm in arms for entry in arm.entries]
    # Leaves out the text itself. Older records include it and do not name it, but stages mostly have its name.
    own = {entry.get("text", entry["stage"]) for arm in arms for entry in arm.entries}
    names, tasks = [name for name in _sets(after) if name not in own], _tasks(after)
    if not names and not tasks:
        return []

    def row(name: str, evaluations: list[Result]) -> list[str]:
        return [name, *_s(evaluations, names), *_right(evaluations, tasks)]

    rows = []
    listed: set[str] = set()
    for arm in arms:
        if arm.kind != "scratch" and arm.variant not in listed:
            listed.add(arm.variant)
            found = [
                run["evaluations"][-1:] for entry in arm.entries if (run := runs.get((arm.variant, entry["seed"])))
            ]
            rows.append(row(f"{arm.variant}, before", [each for evaluations in found for each in evaluations]))
        rows.append(row(f"{arm.name}, after", [entry["elsewhere"] for entry in arm.entries]))
    return ["Kept elsewhere:", Table(["model", *names, *(f"{task}, %" for task in tasks)], rows)]


def _opening(record: Result, title: str, front: list[Part]) -> list[Part]:
    machines = [run["hardware"] for run in record["runs"]]
    hardware = dict.fromkeys("{name}, {cores} cores, PyTorch {torch}".format(**machine) for machine in machines)
    return [
        Heading(title, 1),
        f"Hardware: {'; '.join(hardware)}. Values are means over seeds with 95 % intervals where there are several.",
        *front,
        *factors.parts(record),
    ]


def tables(record: Result, title: str, front: list[Part]) -> list[Part]:
    """The tables that compare the arms of a record, `front` after the title: what docs/results has of a leaderboard."""
    return [*_opening(record, title, front), *_zero_shot(record)]


def build(record: Result, out: Path, title: str, front: list[Part]) -> list[Part]:
    """The page's parts, `front` after the title; writes the plots into `out`."""
    parts = [*_opening(record, title, front), *_runs(record), *_zero_shot(record), *_tracked(record)]
    stages = records.stages(record)
    if stages:
        parts += [Heading("Finetuning"), *_FINETUNING]
    for stage in stages:
        parts += _stage(record, stage)
    return [*parts, Heading("Plots"), *(Picture(*each) for each in plots.draw(out, record))]


def write(record: Result, out: Path, title: str, front: list[Part] | None = None) -> Path:
    """Writes report.md, report.html and results.json, the record itself, into `out`; returns the first.

    front: parts of the page that come first.
    """
    out.mkdir(parents=True, exist_ok=True)
    parts = build(record, out, title, front or [])
    records.write(out / "results.json", record)
    (out / "report.md").write_text(markdown(parts))
    (out / "report.html").write_text(html_page(parts, out, title))
    return out / "report.md"
