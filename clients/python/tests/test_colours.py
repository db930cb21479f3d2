"""Sequences in the colours of a terminal: `iterand sample` and the live view."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from server_program import binary

import iterand
from iterand import live
from iterand._picture import rank_colour, ranks
from terminal import cells, in_terminal

SAMPLE = [binary(), "sample", "--recipe", "mix", "--count", "3", "--length"]
ENCODINGS = {
    "truecolor": {"COLORTERM": "truecolor"},
    "256": {},
    "standard": {"TERM": "xterm"},
}


def selected(name: str, ground: bool) -> str:
    """The SGR parameters of one of rich's colours."""
    kind = "48" if ground else "38"
    if name.startswith("#"):
        return ";".join([kind, "2", *map(str, bytes.fromhex(name[1:]))])
    number = int(name.removeprefix("color(").removesuffix(")"))
    if number >= 16:
        return f"{kind};5;{number}"
    return str((30 if number < 8 else 82) + number + (10 if ground else 0))


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize("system", ENCODINGS)
def test_sample_draws_the_sequences(system: str, light: bool) -> None:
    length = 300
    variables = {**ENCODINGS[system], **({"COLORFGBG": "0;15"} if light else {})}
    status, output = in_terminal([*SAMPLE, str(length)], variables=variables, columns=80)
    assert status == 0
    lines = output.replace("\r", "").splitlines()
    palette = live.palette(system, light)
    tokens = iterand.read("mix", range(3), length=length, server=False)
    assert len(lines) == 3 * 4  # label, program, and 2 x 75 cells in each of two lines
    for index in range(3):
        label, program, *drawn = lines[4 * index : 4 * index + 4]
        explained = iterand.explain("mix", index, length=length)
        distinct = len(np.unique(tokens[index]))
        words = f"{explained.family}, depth {explained.depth}, {distinct} different tokens"
        assert label == f"\x1b[1m{index}: {words}\x1b[0m"
        wanted = explained.steps[-1].program
        assert program == f"\x1b[2m{wanted if len(wanted) <= 80 else wanted[:77] + '...'}\x1b[0m"
        shown = [colour for line in drawn for place in (1, 2) for colour in selection_of(line, place)]
        assert shown == [selected(palette[min(rank, 255)], ground=False) for rank in ranks(tokens[index]).tolist()]


def selection_of(line: str, place: int) -> list[str]:
    """The colours of the upper cells of a line, or of the lower ones, as of letters."""
    found = []
    for character, *selections in cells(line):
        assert character == "▀"
        selection = selections[place - 1]
        if place == 2 and selection != "49":
            selection = f"3{selection[1:]}" if selection.startswith("4") else f"9{selection[2:]}"
        if selection != "49":
            found.append(selection)
    return found


def test_sample_says_the_part_of_a_mixture() -> None:
    command = [binary(), "sample", "--recipe", "up", "--count", "2", "--length", "64"]
    _, output = in_terminal(command)
    provenance = iterand.stream("up", length=64, batch_size=2, provenance=True, server=False).next_batch().provenance
    for index, origin in enumerate(provenance):
        assert f"{index}: part {origin.part}, {origin.family}, depth {origin.depth}, " in output


def test_sample_of_a_server_shows_the_same(address: str) -> None:
    command = [*SAMPLE, "64"]
    _, here = in_terminal(command)
    status, there = in_terminal([*command, "--server", address])
    assert status == 0
    assert there == here
    assert "\x1b[2m" in here


def test_a_terminal_without_utf_8_has_one_cell_per_character() -> None:
    _, output = in_terminal(
        [binary(), "sample", "--count", "1", "--length", "160"], variables={"LANG": "C"}, columns=80
    )
    lines = output.replace("\r", "").splitlines()
    drawn = [cells(line) for line in lines[-2:]]
    assert [len(line) for line in drawn] == [80, 80]
    assert all(character == " " and ground for line in drawn for character, _, ground in line)
    assert output.isascii()


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({"NO_COLOR": "1", "COLORTERM": "truecolor"}, []),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, []),
        ({"TERM": "vt100"}, []),
        ({"COLORTERM": "truecolor"}, ["--format", "text"]),
        ({"COLORTERM": "truecolor"}, ["--format", "jsonl"]),
    ],
)
def test_sample_prints_the_same_as_into_a_pipe(variables: dict[str, str], options: list[str]) -> None:
    command = [*SAMPLE, "64", *options]
    piped = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    status, output = in_terminal(command, variables=variables)
    assert status == 0
    assert output.replace("\r\n", "\n") == piped
    assert "\x1b" not in output


def test_sample_into_a_pipe_has_no_colours() -> None:
    environment = {"COLORTERM": "truecolor", "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    done = subprocess.run([*SAMPLE, "64"], env=environment, capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith("# 0: ")


def test_sample_gives_up_programs_that_take_long() -> None:
    slow = '{"families": [{"lstm": {"hidden": 512}}], "chain": {"rows": 1}, "lanes": 1, "segment_sequences": 1}'
    command = [binary(), "sample", "--recipe", slow, "--length", "4096", "--count", "2"]
    status, output = in_terminal(command)
    assert status == 0
    assert "▀" in output
    assert re.search(r"\x1b\[2miterand explain has the programs from sequence [01] on\.\x1b\[0m\r\n$", output)


@pytest.mark.parametrize("system", ENCODINGS)
def test_the_live_view_draws_in_the_same_colours(address: str, system: str) -> None:
    command = [sys.executable, "-m", "iterand.live", "--server", address, "--recipe", "markov", "--length", "64"]
    status, output = in_terminal([*command, "--batches", "1"], variables=ENCODINGS[system])
    assert status == 0
    first = iterand.read("markov", 0, length=64, server=False)[0]
    palette = live.palette(system, light=False)
    wanted = [selected(palette[min(rank, 255)], ground=False) for rank in ranks(first).tolist()]
    drawn = next(line for line in output.splitlines() if "▀" in line)
    blocks = [cell for cell in cells(drawn) if cell[0] == "▀"]
    assert [colour for _, colour, _ in blocks] == wanted[:32]
    assert len(blocks) == 32


def test_the_live_view_says_what_made_the_rows(address: str) -> None:
    command = [sys.executable, "-m", "iterand.live", "--server", address, "--recipe", "up", "--length", "64"]
    status, output = in_terminal([*command, "--batches", "1", "--batch-size", "1"], columns=120)
    assert status == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output)
    explained = iterand.explain("up", 0, length=64)
    assert f"sequence 0  part {explained.part}, {explained.family}, depth {explained.depth}, " in plain
    assert explained.steps[-1].program[:60] in plain


def test_the_colours_of_the_page_are_in_24_bits() -> None:
    assert live.palette("truecolor", light=False)[0] == "#{:02x}{:02x}{:02x}".format(*rank_colour(0, light=False))
    assert live.has_light_ground({"COLORFGBG": "0;default;15"})
    assert not live.has_light_ground({"COLORFGBG": "15;0"})
    assert not live.has_light_ground({})
