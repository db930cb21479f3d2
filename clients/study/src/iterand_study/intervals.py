"""Means over seeds with 95 % intervals (Student's t)."""

from __future__ import annotations

import math

import numpy as np

# 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t for this many degrees of freedom (at least 1), to three decimals."""
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


def shown(values: list[float], digits: int = 2) -> str:
    if not values:
        return "-"
    mean, width = mean_and_interval(values)
    return f"{mean:.{digits}f}" if math.isnan(width) else f"{mean:.{digits}f} ± {width:.{digits}f}"


def shown_paired(values: list[float]) -> str:
    """Differences, signed, with the interval and the number of pairs."""
    if not values:
        return "-"
    mean, width = mean_and_interval(values)
    return f"{mean:+.3f}" + ("" if math.isnan(width) else f" ± {width:.3f}") + f" ({len(values)})"


def shown_shares(found: list[float | None]) -> str:
    """Shares of data saved, in per cent: mean and interval, or seed by seed if one did not reach the loss (None)."""
    if found and None in found:
        return " / ".join("never" if share is None else f"{100 * share:.0f} %" for share in found)
    return shown([100 * share for share in found if share is not None], 0) + (" %" if found else "")
