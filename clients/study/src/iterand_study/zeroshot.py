"""Zero-shot prediction: what a model that has seen no real data makes of languages and texts.

For each set: bits per token at the window's last position, and their mean over the second half of the window; beside
them the best context-Markov model at the same positions of the same windows, and the measure that compares across sets

    s = (8 - bits) / (8 - best context-Markov bits)        0: chance, 1: as good as the best Markov model of the window
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from iterand_study import compressors, config, evalsets, markov, tasks
from iterand_study.model import Transformer
from iterand_study.training import token_bits


@functools.lru_cache(maxsize=64)
def _windows(name: str, file: str | None, length: int, count: int, seed: int) -> evalsets.Bytes:
    return evalsets.evaluation_windows(name, length, count, seed, {name: file} if file else None)


@functools.lru_cache(maxsize=64)
def baselines(name: str, file: str | None, length: int, count: int, seed: int, references: bool) -> dict[str, Any]:
    """Context-Markov bits (and the compressors') of a set's windows: at the last position, and over the second half."""
    rows = _windows(name, file, length, count, seed)
    alphabet = len(np.unique(rows))
    last = markov.baseline(rows, alphabet=alphabet)
    half = markov.baseline(rows, range(length // 2, length), alphabet=alphabet)
    result: dict[str, Any] = {
        "markov_last": last.best,
        "markov_last_order": last.best_order,
        "markov_half": half.best,
        "markov_half_order": half.best_order,
        "markov_half_orders": [half.bits[order] for order in markov.ORDERS],
    }
    if references:
        result["compressors_half"] = compressors.references(rows)
    return result


def settings(options: config.Evaluation) -> dict[str, Any]:
    """What is measured, as plain data. Texts and languages count by their content (SHA-256), not by paths or names."""
    languages = [name for name in options.sets if name in evalsets.LANGUAGES]
    texts = {name: evalsets.language_sha256(name, options.seed) for name in languages}
    texts |= {name: evalsets.text_sha256(file) for name, file in options.texts.items()}
    kept = ("sets", "windows", "seed", "tasks", "references")
    return {**{key: getattr(options, key) for key in kept}, "texts": texts}


def comparable(before: dict[str, Any], now: dict[str, Any]) -> set[str]:
    """The sets, texts and tasks that two `settings` measure in the same way."""
    if any(before[key] != now[key] for key in ("windows", "seed")):
        return set()
    texts = {name for name, content in before["texts"].items() if now["texts"].get(name) == content}
    repetitions = (set(before["sets"]) & set(now["sets"])) - set(evalsets.LANGUAGES)
    return texts | repetitions | (set(before["tasks"]) & set(now["tasks"]))


def set_names(options: config.Evaluation) -> list[tuple[str, str | None]]:
    """The sets and texts of an evaluation, each with its file."""
    return [*options.texts.items(), *((name, None) for name in options.sets)]


def evaluate(model: Transformer, options: config.Evaluation, only: list[str] | None = None) -> dict[str, Any]:
    """{"sets": {name: {bits_last, bits_half, s_half, ...}}, "tasks": {name: accuracy}}; `only`: of these names."""
    length = model.shape.length
    sets: dict[str, dict[str, Any]] = {}
    for name, file in set_names(options):
        if only is not None and name not in only:
            continue
        rows = _windows(name, file, length, options.windows, options.seed)
        bits = token_bits(model, rows)
        per_window = bits[:, length // 2 - 1 :].mean(axis=1)
        known = baselines(name, file, length, options.windows, options.seed, options.references)
        mean = float(per_window.mean())
        sets[name] = {
            "bits_last": float(bits[:, -1].mean()),
            "bits_half": mean,
            "bits_half_error": float(per_window.std(ddof=1) / np.sqrt(len(per_window))) if len(per_window) > 1 else 0.0,
            "s_half": (8 - mean) / (8 - known["markov_half"]),
            **known,
        }
    scores = {
        name: tasks.accuracy(model, *tasks.make(name, options.windows, length, options.seed))
        for name in options.tasks
        if only is None or name in only
    }
    return {"sets": sets, "tasks": scores}
