"""How a sequence came about."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One program on the way from noise to a sequence."""

    round: int  # within the segment
    row: int  # of the program
    family: str
    program: str  # the sampled parameters
    input: str  # "noise", "constant", "the step before", or "nothing" if the family does not read
    prompt_length: int  # tokens of prompt; 0: none
    prompt_offset: int  # where the prompt was cut from its row


@dataclass(frozen=True)
class Explanation:
    """Where a sequence is in its stream, and the programs that it passed through."""

    index: int
    lane: int
    segment: int
    offset: int  # in the segment
    round: int  # in which the sequence was finished
    row: int
    family: str  # that made it last
    depth: int  # programs passed through since it was noise
    part: str  # of a mixture, by name; empty if the recipe is no mixture
    reproduced: bool  # the row was made again alone, and its tokens are the stream's
    steps: tuple[Step, ...]  # from noise to the sequence
