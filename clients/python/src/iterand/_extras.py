"""Names the extra to install if an optional package is missing."""

from __future__ import annotations


def missing(user: str, package: str, extra: str, error: ImportError) -> ImportError:
    """The error for `user`, which needs `package` of the optional dependencies `extra`; `error` came from importing."""
    return type(error)(
        f"{user} needs the package {package}, which cannot be imported ({error}): pip install 'iterand[{extra}]' "
        f"(from a clone: pip install '.[{extra}]')",
        name=package,
    )
