"""Curves of real tokens against loss, compared: how much real data one start of finetuning saves against another."""

from __future__ import annotations

from typing import Any

import numpy as np

Curve = list[dict[str, float]]  # of points {"tokens", "bits"}


def tokens_to_reach(curve: Curve, bits: float) -> float | None:
    """Tokens at which a validation curve first comes down to `bits`, interpolated between its points; None: never."""
    previous: dict[str, float] | None = None
    for point in curve:
        if point["bits"] <= bits:
            if previous is None:
                return point["tokens"]
            share = (previous["bits"] - bits) / (previous["bits"] - point["bits"])
            return previous["tokens"] + share * (point["tokens"] - previous["tokens"])
        if previous is None or point["bits"] < previous["bits"]:
            previous = point
        else:
            previous = {"tokens": point["tokens"], "bits": previous["bits"]}
    return None


def compare(scratch: Curve, other: Curve, synthetic_flops: float | None) -> dict[str, Any]:
    """Data saved and exchange rate of a start, at the losses that scratch has after 1/8, 1/4, 1/2 and all tokens.

    A level's exchange rate is None where no token is saved, or where the FLOPs are not known.
    """
    total = scratch[-1]["tokens"]
    levels = []
    for share in (0.125, 0.25, 0.5, 1.0):
        seen = [point for point in scratch if point["tokens"] <= share * total * 1.0001]
        bits = min(point["bits"] for point in seen)
        needed_by_scratch = tokens_to_reach(scratch, bits)
        needed = tokens_to_reach(other, bits)
        level: dict[str, Any] = {"bits": bits, "scratch_tokens": needed_by_scratch, "tokens": needed}
        if needed is not None and needed_by_scratch:
            level["saved_tokens"] = needed_by_scratch - needed
            level["saved_share"] = 1 - needed / needed_by_scratch
            saved = needed_by_scratch - needed
            level["exchange_flops_per_token"] = (
                synthetic_flops / saved if synthetic_flops is not None and saved > 0 else None
            )
        levels.append(level)
    return {
        "levels": levels,
        "final_difference_bits": other[-1]["bits"] - scratch[-1]["bits"],
        "scratch_reaches_its_final_loss_at": tokens_to_reach(scratch, other[-1]["bits"]),
    }


def bits_at(curve: Curve, tokens: float) -> float:
    """The bits of a curve after this many tokens, interpolated between its points; its ends beyond them."""
    return float(np.interp(tokens, [point["tokens"] for point in curve], [point["bits"] for point in curve]))


def saved_at(scratch: Curve, other: Curve, tokens: float) -> float | None:
    """The share of `tokens` that another curve needs less to reach the loss that scratch has there (negative: it needs
    more); None: it never does."""
    needed = tokens_to_reach(other, bits_at(scratch, tokens))
    return None if needed is None else 1 - needed / tokens
