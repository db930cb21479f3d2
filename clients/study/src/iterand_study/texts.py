"""Makes the texts on which no recipe was chosen: English prose and Python.

    prose.txt    the Jargon File, public domain, of the Debian package jargon-text; white space collapsed
    python.py    the standard library of the Python that runs this, without its tests

Texts are not kept in the repository. A record identifies them by SHA-256.
"""

from __future__ import annotations

import gzip
import hashlib
import sysconfig
from pathlib import Path

from iterand_study.config import ConfigError

JARGON = Path("/usr/share/doc/jargon-text/jargon.txt.gz")
LARGEST = 4_000_000  # bytes of python.py

# Folders of the standard library whose files are no modules of it, or are tests.
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "ensurepip", "pydoc_data"}


def prose(source: Path = JARGON) -> bytes:
    """The Jargon File in ASCII: words separated by one space, other characters left out.

    Errors: ConfigError if the file is absent, or is not a gzip file of UTF-8 text.
    """
    try:
        text = gzip.decompress(source.read_bytes()).decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no {source}: install the Debian package jargon-text, or name its jargon.txt.gz by --jargon "
            "(without Debian: apt-get download jargon-text, then dpkg-deb -x)"
        ) from None
    except (gzip.BadGzipFile, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source} is not the jargon.txt.gz of the package jargon-text: {error}") from None
    return " ".join(text.encode("ascii", "ignore").decode("ascii").split()).encode("ascii")


def python(folder: Path | None = None) -> bytes:
    """Files of the standard library, at most LARGEST bytes: shuffled by the SHA-256 of their names, so that training,
    validation and test parts are of one kind. folder: of the library; default: that of this Python."""
    folder = Path(sysconfig.get_path("stdlib")) if folder is None else folder
    names = [file.relative_to(folder) for file in folder.rglob("*.py")]
    kept = [name for name in names if not _LEFT_OUT.intersection(name.parts)]
    parts: list[bytes] = []
    size = 0
    for name in sorted(kept, key=lambda name: hashlib.sha256(name.as_posix().encode()).digest()):
        content = (folder / name).read_bytes()
        if size + len(content) > LARGEST:
            break
        parts.append(content)
        size += len(content)
    return b"".join(parts)
