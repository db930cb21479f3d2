"""Files that hold secrets of this client: a token, or the private key of its certificate."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import stat
from pathlib import Path

from iterand import errors

_log = logging.getLogger("iterand")

_MAX_FILE_BYTES = 64 << 10
_MAX_TOKEN_BYTES = 4096


def checked_token(token: str) -> str:
    """A token without the white space around it. Errors: InvalidArgument if no header can carry it."""
    if not isinstance(token, str):
        raise errors.InvalidArgument(f"token is a {type(token).__name__}; it must be a str")
    token = token.strip()
    if not token or not (token.isascii() and token.isprintable()) or len(token) > _MAX_TOKEN_BYTES:
        raise errors.InvalidArgument(
            f"token must be printable ASCII in one line, of 1 to {_MAX_TOKEN_BYTES} characters; "
            "token_file= reads the first one of a file"
        )
    return token


def read_token(path: str | os.PathLike[str]) -> str:
    """The first token of a file, which may have the form of a server's token file.

    That has one token per line. White space around tokens, empty lines and lines that begin with # are ignored.
    Logs a warning if every user of the machine may read the file. Errors: InvalidArgument, without any token's text.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, TypeError, ValueError) as error:
        raise errors.InvalidArgument(f"token file {path}: cannot be read ({error})") from error
    if len(data) > _MAX_FILE_BYTES:
        raise errors.InvalidArgument(f"token file {path}: is too large, may have at most {_MAX_FILE_BYTES} bytes")
    warn_if_readable_by_all(path)
    for number, line in enumerate(data.decode("latin-1").split("\n"), 1):
        token = line.strip(" \t\n\v\f\r")
        if not token or token.startswith("#"):
            continue
        if not (token.isascii() and token.isprintable()) or len(token) > _MAX_TOKEN_BYTES:
            raise errors.InvalidArgument(
                f"token file {path}, line {number}: a token must be printable ASCII of at most "
                f"{_MAX_TOKEN_BYTES} characters"
            )
        return token
    raise errors.InvalidArgument(
        f"token file {path}: holds no token; one per line is needed, beside empty lines and lines that begin with #"
    )


def warn_if_readable_by_all(path: str | os.PathLike[str]) -> None:
    """Logs a warning, once per file, if every user of the machine may read the secret in it."""
    # A worker has the same files as the process that started it.
    if multiprocessing.parent_process() is None:
        _warn_once(os.fspath(path))


@functools.cache
def _warn_once(path: str) -> None:
    try:
        status = Path(path).stat()
    except OSError:
        return
    if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH:
        mode = stat.S_IMODE(status.st_mode)
        _log.warning(
            "every user of this machine may read the secret in %s (mode %04o): chmod o-r ends that", path, mode
        )
