"""Refuses processors that the native module cannot run on, with a sentence instead of an illegal instruction."""

from __future__ import annotations

import os

_NEEDED = ("avx2", "fma")


def check() -> None:
    """Errors: ImportError if this processor lacks AVX2 or FMA."""
    if os.uname().machine == "x86_64":
        refuse_without(processor_flags())


def processor_flags(file: str = "/proc/cpuinfo") -> frozenset[str] | None:
    """The features that the first processor reports; None if the system does not report them."""
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:  # noqa: PTH123 (pathlib takes 3 ms to import)
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() == "flags":
                    return frozenset(value.split())
    except OSError:
        pass
    return None


def refuse_without(flags: frozenset[str] | None) -> None:
    """Errors: ImportError if `flags` are known and lack what is needed."""
    if flags is None or flags.issuperset(_NEEDED):
        return
    raise ImportError(
        "iterand: this processor lacks AVX2 or FMA; x86-64 processors need both (level x86-64-v3: Intel Haswell of "
        "2013, AMD Zen of 2017, or later)"
    )
