"""In-context tasks: a window shows examples of a rule over random tokens, which the model must continue.

Each task makes rows x length tokens and a mask of the answers that count. Those are in the window's second half and
follow from what the window shows. Every row draws its own tokens, so the window is the only evidence. A model's score
is the share of the counted answers that it ranks first.

`copy-first` and `reverse-first` have the windows of `copy` and `reverse`. Only the first tokens of the answers count:
the others follow from those before them, the first ones only from the position in the window and the words before.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from iterand_study.model import Transformer

Rows = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
_Row = tuple[list[int], list[bool]]


def _symbols(rng: np.random.Generator, count: int) -> list[int]:
    return [int(symbol) for symbol in rng.permutation(256)[:count]]


def _copy(rng: np.random.Generator, length: int, backwards: bool = False) -> _Row:
    """word mark word mark, again and again, with new words of 4 to 8 tokens."""
    mark, *letters = _symbols(rng, 17)
    tokens: list[int] = []
    answer: list[bool] = []
    while len(tokens) < length:
        word = [letters[place] for place in rng.integers(0, len(letters), int(rng.integers(4, 9)))]
        again = word[::-1] if backwards else word
        tokens += [*word, mark, *again, mark]
        answer += [False] * (len(word) + 1) + [True] * len(word) + [False]
    return tokens, answer


def _reverse(rng: np.random.Generator, length: int) -> _Row:
    """word mark reversed-word mark, again and again."""
    return _copy(rng, length, backwards=True)


def _stack(rng: np.random.Generator, length: int) -> _Row:
    """Pushes of random tokens; a pop mark is followed by the token that it takes off the stack."""
    pop, *letters = _symbols(rng, 17)
    tokens: list[int] = []
    answer: list[bool] = []
    stack: list[int] = []
    while len(tokens) < length:
        if stack and (len(stack) >= 8 or rng.random() < 0.5):
            tokens += [pop, stack.pop()]
            answer += [False, True]
        else:
            stack.append(letters[int(rng.integers(len(letters)))])
            tokens.append(stack[-1])
            answer.append(False)
    return tokens, answer


def _recall(rng: np.random.Generator, length: int) -> _Row:
    """Associative recall: eight keys, each always followed by its own value, in random order."""
    symbols = _symbols(rng, 16)
    keys, values = symbols[:8], symbols[8:]
    tokens: list[int] = []
    answer: list[bool] = []
    seen: set[int] = set()
    while len(tokens) < length:
        pair = int(rng.integers(8))
        tokens += [keys[pair], values[pair]]
        answer += [False, pair in seen]
        seen.add(pair)
    return tokens, answer


def _sum(rng: np.random.Generator, length: int) -> _Row:
    """a b c, again and again, with c = a + b modulo 3; digits are random tokens. Sums shown before count."""
    digits = _symbols(rng, 3)
    tokens: list[int] = []
    answer: list[bool] = []
    seen: set[tuple[int, int]] = set()
    while len(tokens) < length:
        left, right = (int(digit) for digit in rng.integers(0, 3, 2))
        tokens += [digits[left], digits[right], digits[(left + right) % 3]]
        answer += [False, False, (left, right) in seen]
        seen.add((left, right))
    return tokens, answer


TASKS: dict[str, Callable[[np.random.Generator, int], _Row]] = {
    "copy": _copy,
    "reverse": _reverse,
    "stack": _stack,
    "recall": _recall,
    "sum": _sum,
}


def make(name: str, rows: int, length: int, seed: int = 0) -> tuple[Rows, Mask]:
    """Windows of a task and the mask of the answers that count. Errors: ValueError for an unknown name."""
    task = name.removesuffix("-first")
    rng = np.random.default_rng([seed, list(TASKS).index(task)])
    made = [TASKS[task](rng, length) for _ in range(rows)]
    tokens = np.array([row[:length] for row, _ in made], np.uint8)
    mask = np.array([row[:length] for _, row in made], np.bool_)
    if task != name:
        mask[:, 1:] &= ~mask[:, :-1]
    mask[:, : length // 2] = False
    return tokens, mask


@torch.no_grad()
def accuracy(model: Transformer, tokens: Rows, mask: Mask, batch_size: int = 64) -> float:
    """Share of the masked tokens that the model ranks first."""
    model.eval()
    device = next(model.parameters()).device
    right = 0
    for at in range(0, len(tokens), batch_size):
        batch = torch.from_numpy(tokens[at : at + batch_size].astype(np.int64)).to(device)
        guesses = model(batch[:, :-1]).argmax(-1)
        hits = (guesses == batch[:, 1:]).cpu().numpy()
        right += int((hits & mask[at : at + batch_size, 1:]).sum())
    return right / max(1, int(mask[:, 1:].sum()))
