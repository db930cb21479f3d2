"""The native module, or why it is missing."""

from __future__ import annotations

try:
    from iterand import _core as core
except ImportError as error:
    raise ImportError(
        f"iterand: the native module cannot be imported ({error}). `pip install .` builds it; in a clone that is used "
        "as it is, `cmake --build build/release --target iterand_python` does (CONTRIBUTING.md)"
    ) from error

__all__ = ["core"]
