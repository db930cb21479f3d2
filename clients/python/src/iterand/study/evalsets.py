"""Evaluation sets for zero-shot prediction: small languages and words repeated.

Some have a family of noise that resembles them, so that a model may have read their like: `dyck` the family dyck,
`ndfa` and `aut` the family automaton, `rep-n` the family repeat. The others no family was made to resemble.

Each is one long text of ASCII from which windows are cut at random. Unless its description says otherwise, the text is
a series of strings, each followed by `|`. A text is a pure function of its name and seed. Definitions: Bloem 2025
(arXiv 2506.20057) and its published code.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

END = "|"


def champ(rng: random.Random) -> str:
    """Champernowne's sequence: 256 successive integers, from a random start below 2^24 - 256, in hexadecimal digits."""
    start = rng.randrange(2**24 - 256)
    return "".join(f"{start + offset:x}" for offset in range(256)) + END


def dyck(rng: random.Random) -> str:
    """Balanced brackets: after the first, each opens with probability 7/16; ends when all are closed."""
    brackets, depth = ["("], 1
    while depth:
        opens = rng.random() < 7 / 16
        brackets.append("(" if opens else ")")
        depth += 1 if opens else -1
    return "".join(brackets) + END


def ndfa(rng: random.Random) -> str:
    """s, then one of three words repeated until a coin with probability 1/4 stops it (perhaps at once), then s."""
    word = rng.choice(("abc!", "uvw!", "klm!"))
    repeats = 0
    while rng.random() >= 1 / 4:
        repeats += 1
    return "s" + word * repeats + "s" + END


# A rule is a list of (weight, symbols); what is no key of the grammar stands for itself.
_Grammar = dict[str, list[tuple[float, tuple[str, ...]]]]

_ENGLISH: _Grammar = {
    "S": [
        (1, ("S", " ", "Adv")),
        (2, ("NP", " ", "VP")),
        (1, ("NP", " ", "VP", " ", "Prep", " ", "NP")),
        (1, ("NP", " ", "VP", " (", "Prep", " ", "NP", ")")),
        (1, ("NP", " ", "VP", " ", "Con", " ", "S")),
        (1, ("NP", " ", "VP", " (", "Con", " ", "S", ")")),
    ],
    "NP": [(2, ("Det", " ", "N")), (1, ("Det", " ", "Adj", " ", "N"))],
    "VP": [(1, ("V", " ", "NP")), (1, ("V",))],
    "Det": [(1, (word,)) for word in ("a", "the")],
    "N": [(1, (word,)) for word in ("cat", "dog", "man", "woman", "bird", "house", "tree", "river")],
    "V": [(1, (word,)) for word in ("sees", "hears", "likes", "knows", "finds", "leaves")],
    "Adj": [(1, (word,)) for word in ("big", "old", "red", "quiet")],
    "Adv": [(1, (word,)) for word in ("slowly", "today", "often", "again")],
    "Prep": [(1, (word,)) for word in ("in", "near", "with", "under")],
    "Con": [(1, (word,)) for word in ("and", "but", "while")],
}

_ARITHMETIC: _Grammar = {
    "exp": [(0.2, ("exp", " + ", "add")), (0.2, ("exp", " - ", "add")), (0.6, ("add",))],
    "add": [(0.2, ("add", " * ", "mul")), (0.2, ("add", " / ", "mul")), (0.6, ("mul",))],
    "mul": [(0.2, ("group", " ^ ", "mul")), (0.8, ("group",))],
    "group": [(0.8, ("var",)), (0.2, ("(", "exp", ")"))],
    "var": [(1, ("x",)), (1, ("y",)), (1, ("z",))],
}


def _derive(grammar: _Grammar, start: str, rng: random.Random) -> str:
    stack, text = [start], []
    while stack:
        symbol = stack.pop()
        rules = grammar.get(symbol)
        if rules is None:
            text.append(symbol)
            continue
        left = rng.random() * sum(weight for weight, _ in rules)
        chosen = rules[-1][1]
        for weight, body in rules:
            left -= weight
            if left < 0:
                chosen = body
                break
        stack.extend(reversed(chosen))
    return "".join(text)


def toy(rng: random.Random) -> str:
    """Sentences of a small grammar that resembles English. The lexicon is our own."""
    return _derive(_ENGLISH, "S", rng) + END


def toy2(rng: random.Random) -> str:
    """Arithmetic expressions over x, y and z, a space on either side of an operator."""
    return _derive(_ARITHMETIC, "exp", rng) + END


def bits(rng: random.Random) -> str:
    """Two random 5-bit words, then their xor, and, or, and bitwise equality."""
    left, right = rng.getrandbits(5), rng.getrandbits(5)
    words = (left, right, left ^ right, left & right, left | right, 31 ^ left ^ right)
    return "".join(f"{word:05b}" for word in words) + END


def bitsrep(rng: random.Random) -> str:
    """A random 3-bit word three times, without a mark."""
    return f"{rng.getrandbits(3):03b}" * 3


def bitsflip(rng: random.Random) -> str:
    """Six random bits, then the same reversed, without a mark."""
    word = f"{rng.getrandbits(6):06b}"
    return word + word[::-1]


# From each of 5 states: (next state, symbol), each as likely.
_AUTOMATON = (
    ((1, "a"), (2, "b")),
    ((2, "c"), (3, "a")),
    ((0, "b"), (4, "c")),
    ((4, "a"), (1, "b")),
    ((0, "c"), (3, "c")),
)


def aut(rng: random.Random) -> str:
    """A stretch of a walk on one fixed automaton of 5 states over 3 symbols, without a mark. The automaton is ours."""
    state, text = 0, []
    for _ in range(4096):
        state, symbol = _AUTOMATON[state][rng.getrandbits(1)]
        text.append(symbol)
    return "".join(text)


@dataclass(frozen=True)
class Language:
    """A generator of strings, and the figure that pins it down."""

    generate: Callable[[random.Random], str]
    published_markov: float  # best context-Markov bits of the published set, window 512
    characters: int = 500_000  # of its text
    own: str = ""  # what of it is not published, so that ours cannot be expected to give the published figure


LANGUAGES: dict[str, Language] = {
    "champ": Language(champ, 2.42, 8_000_000),
    "dyck": Language(dyck, 1.01),
    "ndfa": Language(ndfa, 0.37),
    "toy": Language(toy, 1.97, own="its lexicon"),
    "toy2": Language(toy2, 1.68),
    "bits": Language(bits, 1.19),
    "bitsrep": Language(bitsrep, 0.69),
    "bitsflip": Language(bitsflip, 1.01),
    "aut": Language(aut, 1.16, own="its automaton"),
}


@functools.lru_cache(maxsize=32)
def text_of(name: str, seed: int = 0) -> Bytes:
    """A language's text, as bytes: at least so many characters as the language says."""
    rng = random.Random(f"{name}/{seed}")
    generate = LANGUAGES[name].generate
    parts: list[str] = []
    size = 0
    while size < LANGUAGES[name].characters:
        parts.append(generate(rng))
        size += len(parts[-1])
    return np.frombuffer("".join(parts).encode("ascii"), np.uint8)


def windows(text: Bytes, length: int, count: int, seed: int = 0) -> Bytes:
    """`count` windows (count x length) cut at random places of a text."""
    if len(text) < length:
        raise ValueError(f"text has {len(text)} bytes; a window wants {length}")
    starts = np.random.default_rng(seed).integers(0, len(text) - length + 1, count)
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(text, length)[starts])


def rep(period: int, length: int, count: int, seed: int = 0) -> Bytes:
    """`rep-n`: rows of n random bytes repeated to fill the window (count x length)."""
    words = np.random.default_rng(seed).integers(0, 256, (count, period), dtype=np.uint8)
    repeated: Bytes = np.tile(words, (1, -(-length // period)))[:, :length]
    return np.ascontiguousarray(repeated)


@functools.lru_cache(maxsize=32)
def read_text(path: str | Path) -> Bytes:
    """A file's bytes, read once: for a process a text stays what it was when it was first asked for."""
    return np.frombuffer(Path(path).read_bytes(), np.uint8)


@functools.lru_cache(maxsize=32)
def text_sha256(path: str | Path) -> str:
    """What a text is, whatever its path: the SHA-256 of read_text, in hexadecimal digits."""
    return hashlib.sha256(read_text(path).tobytes()).hexdigest()


def evaluation_windows(name: str, length: int, count: int, seed: int = 0, files: dict[str, Any] | None = None) -> Bytes:
    """Windows of a language, of `rep-n`, or of a text that `files` names. Errors: KeyError for an unknown name."""
    if files and name in files:
        return windows(read_text(files[name]), length, count, seed)
    if name.startswith("rep-"):
        return rep(int(name.removeprefix("rep-")), length, count, seed)
    return windows(text_of(name, seed), length, count, seed)
