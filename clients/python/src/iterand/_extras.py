"""Names the extra to install where an optional package is absent."""

from __future__ import annotations


def missing(user: str, package: str, extra: str) -> ModuleNotFoundError:
    """The error for `user`, which needs `package` of the optional dependencies `extra`."""
    return ModuleNotFoundError(
        f"{user} needs the package {package}, which is not installed: pip install 'iterand[{extra}]' "
        f"(from a clone: pip install 'clients/python[{extra}]')",
        name=package,
    )
