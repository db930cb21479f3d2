"""The program `iterand`, which comes with the package."""

from __future__ import annotations

import os
import sys


def path() -> str:
    """Where the program is: what $ITERAND_BINARY names, or the package's own.

    Errors: FileNotFoundError if it does not exist.
    """
    program = os.environ.get("ITERAND_BINARY") or os.path.join(os.path.dirname(__file__), "bin", "iterand")  # noqa: PTH118, PTH120
    if not os.access(program, os.X_OK):
        raise FileNotFoundError(
            f"{program}: the program `iterand` does not exist. A wheel has it, and what `pip install .` installs; "
            "$ITERAND_BINARY names another one"
        )
    return program


def main() -> None:
    """Becomes the program. The command `iterand` that pip installs, and `python -m iterand`."""
    try:
        program = path()
    except FileNotFoundError as error:
        sys.exit(f"iterand: {error}")
    os.execv(program, ["iterand", *sys.argv[1:]])
