"""How a sequence came about."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One program on the way from noise to a sequence.

    round: within the segment.
    row: of the program.
    program: the sampled parameters, as text.
    input: "noise", "constant", "the step before", or "nothing" if the family does not read.
    prompt_length: tokens of prompt; 0: none.
    prompt_offset: where the prompt was cut from its row.

    >>> iterand.explain("markov", 5).steps[-1].family
    'markov'
    """

    round: int
    row: int
    family: str
    program: str
    input: str
    prompt_length: int
    prompt_offset: int


@dataclass(frozen=True)
class Explanation:
    """Where a sequence is in its stream, and the programs that it passed through.

    offset: its place in the segment.
    round: in which the sequence was finished.
    family: that made it last.
    depth: programs passed through since it was noise.
    part: of a mixture, by name; empty if the recipe is not a mixture.
    reproduced: whether the row was made again alone, and its tokens are the stream's.
    steps: from noise to the sequence.

    >>> found = iterand.explain("up", 12345)
    >>> found.reproduced, len(found.steps) == found.depth
    (True, True)
    """

    index: int
    lane: int
    segment: int
    offset: int
    round: int
    row: int
    family: str
    depth: int
    part: str
    reproduced: bool
    steps: tuple[Step, ...]

    def _repr_html_(self) -> str:
        from iterand import _notebook

        return _notebook.of_explanation(self)
