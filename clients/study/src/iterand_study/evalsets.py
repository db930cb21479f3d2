"""Evaluation sets for zero-shot prediction: small languages and words repeated.

Some have a family of noise that resembles them, so that a model may have read their like: `dyck` the family dyck,
`ndfa` and `aut` the family automaton, `rep-n` the family repeat. The others no family was made to resemble.

Each is one long text from which windows are cut at random. Unless its description says otherwise, the text is
a series of strings of ASCII, each followed by `|`. A text is a pure function of its name and seed. Definitions,
grammars and the automaton included: Bloem 2025 (arXiv 2506.20057) and its published code, https://github.com/pbloem/up
(up/data/sequential.py).
"""

from __future__ import annotations

import functools
import hashlib
import random
import re
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


# A rule is a list of (weight, symbols); what is not a key of the grammar stands for itself.
_Grammar = dict[str, list[tuple[float, tuple[str, ...]]]]


def _evenly(*bodies: str) -> list[tuple[float, tuple[str, ...]]]:
    """Rules of equal weight. A body is words and the blanks between them, which are part of the text."""
    return [(1, tuple(re.split("( )", body))) for body in bodies]


_ENGLISH: _Grammar = {
    "S": _evenly("S Adv", "NP VP", "NP VP Prep NP", "NP VP ( Prep NP )", "NP VP Con S", "NP VP ( Con S )"),
    "NP": _evenly("a Noun", "the Noun", "a Adj Noun", "the Adj Noun"),
    "VP": _evenly("walked", "walks", "ran", "runs", "goes", "went"),
    "Noun": _evenly("mouse", "bunny", "cat", "dog", "man", "woman", "person"),
    "Adj": _evenly("short", "quick", "busy", "nice", "gorgeous"),
    "Adv": _evenly("briefly", "quickly", "impatiently"),
    "Prep": _evenly("on", "with", "to"),
    "Con": _evenly("while", "but"),
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
    """Sentences of a small grammar that resembles English."""
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


# Of each of 5 states the edges: next state and symbol, each edge as likely.
_AUTOMATON: dict[int, tuple[tuple[int, int], ...]] = {
    0: ((0, 122), (1, 122), (2, 248), (3, 248), (4, 224)),
    1: ((1, 224), (3, 224)),
    2: ((3, 248),),
    3: ((4, 248),),
    4: ((0, 248), (2, 122), (3, 224)),
}


def aut(rng: random.Random) -> str:
    """512 steps on one fixed automaton of 5 states over 3 symbols, from its first state, without a mark."""
    state, text = 0, []
    for _ in range(512):
        state, symbol = rng.choice(_AUTOMATON[state])
        text.append(chr(symbol))
    return "".join(text)


@dataclass(frozen=True)
class Language:
    """A generator of strings, and the figures that pin it down."""

    generate: Callable[[random.Random], str]
    # Context-Markov bits of orders 0-5 from the published code: means of 100 000 windows of 512, but divided by 99 488,
    # so that they are half a percent too high.
    published_markov: tuple[float, ...]
    characters: int = 500_000  # of its text


LANGUAGES: dict[str, Language] = {
    "champ": Language(champ, (3.37, 2.42, 2.70, 3.31, 3.93, 4.33), 8_000_000),
    "dyck": Language(dyck, (1.39, 1.16, 1.18, 1.01, 1.07, 1.18)),
    "ndfa": Language(ndfa, (3.51, 0.73, 0.37, 0.39, 0.44, 0.53)),
    "toy": Language(toy, (4.28, 2.61, 1.97, 2.43, 2.87, 3.36), 2_000_000),
    "toy2": Language(toy2, (2.97, 1.89, 1.68, 2.13, 2.81, 3.35)),
    "bits": Language(bits, (1.19, 1.20, 1.22, 1.27, 1.34, 1.43)),
    "bitsrep": Language(bitsrep, (1.01, 1.01, 1.02, 0.69, 0.70, 0.74)),
    "bitsflip": Language(bitsflip, (1.01, 1.01, 1.02, 1.03, 1.06, 1.10)),
    "aut": Language(aut, (1.33, 1.30, 1.16, 1.18, 1.19, 1.29)),
}


@functools.lru_cache(maxsize=32)
def text_of(name: str, seed: int = 0) -> Bytes:
    """A language's text, as bytes: at least as many characters as the language says."""
    rng = random.Random(f"{name}/{seed}")
    generate = LANGUAGES[name].generate
    parts: list[str] = []
    size = 0
    while size < LANGUAGES[name].characters:
        parts.append(generate(rng))
        size += len(parts[-1])
    return np.frombuffer("".join(parts).encode("latin-1"), np.uint8)


@functools.lru_cache(maxsize=32)
def language_sha256(name: str, seed: int = 0) -> str:
    """SHA-256 of text_of, in hexadecimal digits."""
    return hashlib.sha256(text_of(name, seed).tobytes()).hexdigest()


def windows(text: Bytes, length: int, count: int, seed: int = 0) -> Bytes:
    """`count` windows (count x length) cut at random places of a text."""
    if len(text) < length:
        raise ValueError(f"text has {len(text)} bytes; a window needs {length}")
    starts = np.random.default_rng(seed).integers(0, len(text) - length + 1, count)
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(text, length)[starts])


def rep(period: int, length: int, count: int, seed: int = 0) -> Bytes:
    """`rep-n`: rows of n random bytes repeated to fill the window (count x length)."""
    words = np.random.default_rng(seed).integers(0, 256, (count, period), dtype=np.uint8)
    repeated: Bytes = np.tile(words, (1, -(-length // period)))[:, :length]
    return np.ascontiguousarray(repeated)


@functools.lru_cache(maxsize=32)
def read_text(path: str | Path) -> Bytes:
    """A file's bytes, read once: later changes of the file are not seen by this process."""
    return np.frombuffer(Path(path).read_bytes(), np.uint8)


@functools.lru_cache(maxsize=32)
def text_sha256(path: str | Path) -> str:
    """SHA-256 of read_text, in hexadecimal digits: identifies a text independently of its path."""
    return hashlib.sha256(read_text(path).tobytes()).hexdigest()


def evaluation_windows(name: str, length: int, count: int, seed: int = 0, files: dict[str, Any] | None = None) -> Bytes:
    """Windows of a language, of `rep-n`, or of a text that `files` names. Errors: KeyError for an unknown name."""
    if files and name in files:
        return windows(read_text(files[name]), length, count, seed)
    if name.startswith("rep-"):
        return rep(int(name.removeprefix("rep-")), length, count, seed)
    return windows(text_of(name, seed), length, count, seed)
