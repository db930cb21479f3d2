"""What the study evaluates on: definitions pinned by published figures, tasks, baselines."""

from __future__ import annotations

import random

import numpy as np
import pytest

from iterand_study import compressors, config, evalsets, markov, tasks


@pytest.mark.parametrize("name", evalsets.LANGUAGES)
def test_markov_figures_pin_the_languages_down(name: str) -> None:
    found = markov.baseline(evalsets.windows(evalsets.text_of(name), 512, 100_000))
    published = evalsets.LANGUAGES[name].published_markov
    assert found.best == pytest.approx(min(published), abs=0.05)
    means = [bits * (100_000 - 512) / 100_000 for bits in published]
    assert [found.bits[order] for order in markov.ORDERS] == pytest.approx(means, abs=0.05)


def test_markov_counts_equal_plain_counting() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(97, 100, (5, 40), dtype=np.uint8)
    for position in (0, 3, 39):
        totals, hits = markov.context_counts(rows, position)
        for place, row in enumerate(rows):
            text = row.tobytes()
            for order in markov.ORDERS:
                if order > position:
                    assert totals[order, place] == hits[order, place] == 0
                    continue
                context = text[position - order : position]
                ends = [at for at in range(order, position) if text[at - order : at] == context]
                assert hits[order, place] == sum(text[at] == text[position] for at in ends)
                assert totals[order, place] == len(ends) + (order > 0)


def test_languages_are_what_they_say() -> None:
    rng = random.Random(1)
    for _ in range(50):
        digits = evalsets.champ(rng)
        assert digits.endswith("|")
        first = int(digits[:6], 16) if len(digits) == 256 * 6 + 1 else None
        if first is not None:
            assert digits[6:12] == f"{first + 1:06x}"
        brackets = evalsets.dyck(rng)[:-1]
        depths = np.cumsum([1 if bracket == "(" else -1 for bracket in brackets])
        assert depths[-1] == 0
        assert (depths[:-1] > 0).all()
        words = evalsets.bits(rng)[:-1]
        left, right, xor, both, either, equal = (int(words[at : at + 5], 2) for at in range(0, 30, 5))
        assert (xor, both, either, equal) == (left ^ right, left & right, left | right, 31 ^ left ^ right)
        word = evalsets.bitsrep(rng)
        assert word[:3] == word[3:6] == word[6:]
        flip = evalsets.bitsflip(rng)
        assert flip == flip[::-1]
        expression = evalsets.toy2(rng)[:-1].replace("^", "**")
        compile(expression, "expression", "eval")
    assert evalsets.ndfa(rng)[0] == "s"
    rows = evalsets.rep(3, 20, 4)
    assert (rows[:, 3:] == rows[:, :-3]).all()
    assert evalsets.text_of("bits", 1).tobytes() != evalsets.text_of("bits", 2).tobytes()


def test_tasks_have_answers_that_the_window_shows() -> None:
    assert {name.removesuffix("-first") for name in config.TASKS} == set(tasks.TASKS)
    for name in config.TASKS:
        tokens, mask = tasks.make(name, 8, 64)
        assert tokens.shape == mask.shape == (8, 64)
        assert mask.any(axis=1).all()
        assert not mask[:, :32].any()
        again, _ = tasks.make(name, 8, 64)
        np.testing.assert_array_equal(tokens, again)
    for name in ("copy", "reverse"):
        tokens, mask = tasks.make(name, 8, 128)
        same, first = tasks.make(f"{name}-first", 8, 128)
        np.testing.assert_array_equal(same, tokens)
        assert not (first & ~mask).any()
        for row, each in zip(tokens, first, strict=True):
            marks = row[:-1][each[1:]]  # what the answers follow
            assert len(marks) >= 3
            assert len(set(marks)) == 1
    tokens, mask = tasks.make("recall", 4, 64)
    for row, answers in zip(tokens, mask, strict=True):
        for place in np.flatnonzero(answers):
            earlier = np.flatnonzero(row[: place - 1] == row[place - 1])
            assert row[earlier[0] + 1] == row[place]


def _next_of_copy(window: list[int], backwards: bool) -> int | None:
    """What follows a window of the tasks copy and reverse, where the window alone tells: by its mark, the token that
    splits it into words of which every second repeats the one before."""
    for mark in window:
        *words, begun = "".join(map(chr, window)).split(chr(mark))
        pairs = zip(words[::2], words[1::2], strict=False)
        if len(words) >= 3 and all(again == (word[::-1] if backwards else word) for word, again in pairs):
            if len(words) % 2 == 0:
                return None  # a new word
            whole = words[-1][::-1] if backwards else words[-1]
            return ord(whole[len(begun)]) if len(begun) < len(whole) else mark
    return None


def _next_of_stack(window: list[int]) -> int | None:
    """What follows a window of the task stack that ends in a pop, whose mark is that by which all pops come out."""
    for pop in window:
        stack: list[int] = []
        popped = False
        for token in window:
            if popped and (not stack or stack.pop() != token):
                break
            if not popped and token != pop:
                stack.append(token)
            popped = not popped and token == pop
        else:
            if popped and len(stack) and window.count(pop) > 3:
                return stack[-1]
    return None


def test_a_rule_solves_the_tasks() -> None:
    rules = {
        "copy": lambda window: _next_of_copy(window, backwards=False),
        "reverse": lambda window: _next_of_copy(window, backwards=True),
        "stack": _next_of_stack,
    }
    for name, rule in rules.items():
        tokens, mask = tasks.make(name, 20, 128)
        places = [(row, place) for row, place in zip(*np.nonzero(mask), strict=True)]
        right = [rule(tokens[row, :place].tolist()) == tokens[row, place] for row, place in places]
        assert len(right) > 300
        assert np.mean(right) > 0.99, name


def test_compressors() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (4, 512), dtype=np.uint8)
    constant = np.zeros((4, 512), np.uint8)
    for name, bits in compressors.references(noise).items():
        assert 7.8 < bits < 9.5, name
    for name, bits in compressors.references(constant).items():
        assert bits < 0.3, name
    assert sum(compressors.ppm_bits(b"abracadabra" * 20)[110:]) < 20
    ends = (compressors.pitman_yor_bits(b"abracadabra abra" + bytes([byte]))[-1] for byte in range(256))
    assert sum(2**-bits for bits in ends) == pytest.approx(1)
    assert compressors.pitman_yor_bits(b"abracadabra abrac")[-1] < 2.5  # after "abra", c came once of two times
