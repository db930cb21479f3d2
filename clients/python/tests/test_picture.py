"""Pictures of sequences, and what notebooks show of streams, batches and descriptions."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from server_program import REPOSITORY

import iterand
from iterand import _notebook, live
from iterand._picture import lightness, rank_colour, ranks

FAST = '{"families": [{"markov": {}}], "length": 64, "lanes": 4, "segment_sequences": 8}'
SLOW = '{"families": [{"lstm": {"hidden": 1024}}], "length": 4096, "lanes": 64, "segment_sequences": 64}'
SCRIPT = '<script>alert(1)</script>"\u202e\x1b['


def pixels(png: bytes) -> np.ndarray:
    """Height x width x RGBA, read by an independent decoder."""
    image = pytest.importorskip("PIL.Image")
    return np.asarray(image.open(io.BytesIO(png)).convert("RGBA"))


class Checker(HTMLParser):
    """Reads HTML and notes its text and its elements; every element must be closed."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(markup)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag != "img":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}

    def text(self) -> str:
        return "\n".join(self.texts)


def page_stops() -> list[tuple[int, ...]]:
    """The colours of the server's page."""
    source = (REPOSITORY / "server/page/pixels.js").read_text()
    listed = source.split("STOPS = [", 1)[1].split("];", 1)[0]
    return [tuple(map(int, numbers.split(","))) for numbers in re.findall(r"\[([\d, ]+)\]", listed)]


def luminance(colour: tuple[int, ...]) -> float:
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (part / 255 for part in colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("light", [False, True])
def test_colours_are_those_of_the_page(light: bool) -> None:
    stops = page_stops()
    assert len(stops) == 11
    for rank in range(256):
        share = (np.log1p(rank) / np.log(257)) ** 0.6
        at = (1 - 0.94 * share if light else 0.08 + 0.92 * share) * 10
        low = min(int(at), 9)
        wanted = np.array(stops[low]) * (low + 1 - at) + np.array(stops[low + 1]) * (at - low)
        assert np.abs(rank_colour(rank, light) - wanted).max() <= 0.51
    assert rank_colour(300, light) == rank_colour(255, light)


# What xterm shows for the colours 0 to 15.
XTERM = [
    *[(0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0), (0, 0, 238), (205, 0, 205), (0, 205, 205), (229, 229, 229)],
    *[
        (127, 127, 127),
        (255, 0, 0),
        (0, 255, 0),
        (255, 255, 0),
        (92, 92, 255),
        (255, 0, 255),
        (0, 255, 255),
        (255,) * 3,
    ],
]


def shown_colour(name: str) -> tuple[int, ...]:
    if name.startswith("#"):
        return tuple(bytes.fromhex(name[1:]))
    number = int(name.removeprefix("color(").removesuffix(")"))
    if number < 16:
        return XTERM[number]
    if number >= 232:
        return (8 + 10 * (number - 232),) * 3
    levels = (0, 95, 135, 175, 215, 255)
    return tuple(levels[(number - 16) // base % 6] for base in (36, 6, 1))


@pytest.mark.parametrize("system", ["truecolor", "256", "standard"])
@pytest.mark.parametrize("light", [False, True])
def test_lightness_alone_orders_the_ranks(system: str, light: bool) -> None:
    colours = live.palette(system, light)
    shown = [luminance(shown_colour(colour)) for colour in colours]
    assert len(colours) == 256
    steps = np.diff(shown) * (-1 if light else 1)
    assert steps.min() >= 0
    assert len(set(colours)) >= {"truecolor": 128, "256": 6, "standard": 6}[system]
    assert colours[0] != colours[1]  # two tokens look different everywhere
    assert shown[0] > 0.9 if light else shown[0] < 0.02


def test_ranks_are_by_frequency_and_then_by_place() -> None:
    assert ranks(np.array([7, 7, 3, 9, 3, 7, 1], np.uint8)).tolist() == [0, 0, 1, 2, 1, 0, 3]


def test_a_picture_has_a_line_for_each_row() -> None:
    tokens = np.array([[5, 5, 5, 8, 8, 2], [1, 1, 2, 2, 2, 2]], np.uint16)
    drawn = pixels(iterand.picture(tokens).png())
    assert drawn.shape == (11, 6, 4)
    assert (drawn[5, :, 3] == 0).all()  # between the rows
    for row, shown in enumerate(ranks_of(tokens)):
        for line in range(6 * row, 6 * row + 5):
            assert drawn[line].tolist() == [[*rank_colour(rank, light=True), 255] for rank in shown]


def ranks_of(tokens: np.ndarray) -> list[list[int]]:
    return [ranks(row).tolist() for row in tokens]


def test_a_picture_takes_what_streams_give() -> None:
    batch = next(iterand.stream(FAST, server=False).batches())
    drawn = iterand.picture(batch).png()
    assert iterand.picture(batch.tokens).png() == drawn
    assert iterand.picture(batch.tokens.tolist()).png() == drawn
    torch = pytest.importorskip("torch")
    assert iterand.picture(torch.from_numpy(batch.tokens.astype(np.int64))).png() == drawn
    assert repr(iterand.picture(batch)) == "<Picture of 64 sequences of 64 tokens>"
    assert repr(iterand.picture(batch.tokens[0])) == "<Picture of 1 sequence of 64 tokens>"


def test_a_picture_of_much_shows_the_beginning() -> None:
    tokens = np.arange(200 * 3000).reshape(200, 3000) % 251
    shown = iterand.picture(tokens)
    assert repr(shown) == "<Picture of 64 sequences of 1024 tokens, the beginning of 200 x 3000>"
    assert pixels(shown.png()).shape == (64 * 6 - 1, 1024, 4)
    assert pixels(iterand.picture(tokens, max_rows=2, max_tokens=10).png()).shape == (11, 10, 4)


def test_a_picture_is_saved(tmp_path: Path) -> None:
    shown = iterand.picture(np.arange(12).reshape(3, 4) % 5)
    shown.save(tmp_path / "rows.png")
    assert (tmp_path / "rows.png").read_bytes() == shown.png()
    with pytest.raises(FileNotFoundError):
        shown.save(tmp_path / "nowhere" / "rows.png")


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        (np.zeros((2, 2)), {}, r"tokens is an array of float64 of shape \(2, 2\); it must be rows x length"),
        (np.zeros((2, 2, 2), np.int64), {}, r"of shape \(2, 2, 2\)"),
        (np.zeros((0, 8), np.int64), {}, r"of shape \(0, 8\)"),
        (["a"], {}, "tokens is an array of <U1"),
        ([[1]], {"max_rows": 0}, "max_rows is 0; it must be a whole number from 1 to 65536"),
        ([[1]], {"max_tokens": 1.5}, "max_tokens is 1.5"),
    ],
)
def test_a_picture_of_something_else_is_refused(tokens: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(iterand.InvalidArgument, match=message):
        iterand.picture(tokens, **options)


def test_showing_a_stream_does_not_move_it() -> None:
    untouched = list(iterand.stream(FAST, count=160, batch_size=32, server=False))
    stream = iterand.stream(FAST, count=160, batch_size=32, server=False)
    shown, taken = [stream._repr_html_()], []
    for _ in range(5):
        taken.append(next(stream))
        position = stream.next_index
        shown.append(stream._repr_html_())
        assert stream.next_index == position
    assert all(np.array_equal(one, other) for one, other in zip(taken, untouched, strict=True))
    assert "of the next rows" in shown[0]
    assert all("of the latest rows" in each for each in shown[1:])
    # Both pictures are those of the rows that they name.
    assert iterand.picture(untouched[0][:16])._repr_html_() in shown[0]
    for rows, each in zip(untouched, shown[1:], strict=True):
        assert iterand.picture(rows[:16])._repr_html_() in each


def test_a_stream_shows_the_rows_that_it_gave_whatever_was_written_to_them() -> None:
    stream = iterand.stream(FAST, server=False)
    rows = next(stream)
    drawn = iterand.picture(rows[:16])._repr_html_()
    rows[:] = 0
    assert drawn in stream._repr_html_()
    stream.close()
    assert drawn in stream._repr_html_()
    assert "closed" in stream._repr_html_()


def test_a_stream_of_a_server_makes_no_request_to_be_shown(address: str) -> None:
    with iterand.stream(FAST, server=address, batch_size=8) as stream:
        assert "No row has been read yet." in stream._repr_html_()
        rows = next(stream)
        assert iterand.picture(rows)._repr_html_() in stream._repr_html_()
    nobody = iterand.stream(FAST, server="127.0.0.1:1", retry=iterand.Retry(connect_timeout=0.1))
    assert "127.0.0.1:1" in Checker(nobody._repr_html_()).text()
    nobody.close()


def test_the_reader_of_a_shard_shows_its_own_rows() -> None:
    stream = iterand.stream(FAST, rank=1, world_size=2, server=False)
    shown = stream._repr_html_()
    assert "1 of 2" in Checker(shown).text()
    rows = iterand.read(FAST, range(1, 33, 2), server=False)
    assert iterand.picture(rows)._repr_html_() in shown


def test_an_expensive_stream_is_shown_without_making_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from iterand._embedded import EmbeddedRoad

    def read(road: EmbeddedRoad, indices: object) -> None:
        raise AssertionError("rows were made to be shown")

    monkeypatch.setattr(EmbeddedRoad, "read", read)
    assert "No row has been read yet." in iterand.stream(SLOW, server=False)._repr_html_()
    assert "<img" not in iterand.describe(SLOW, server=False)._repr_html_()


def test_a_batch_shows_its_rows_and_their_origins() -> None:
    stream = iterand.stream("mix", length=64, start=100, batch_size=8, provenance=True, server=False)
    batch = stream.next_batch()
    markup = batch._repr_html_()
    text = Checker(markup).text()
    assert iterand.picture(batch)._repr_html_() in markup
    assert "8 x 64, uint8" in text
    assert "100 to 107" in text
    for origin in batch.provenance:
        assert origin.family in text
    asked = stream.read_batch([5, 3])
    assert "as they were asked for" in Checker(asked._repr_html_()).text()


@pytest.mark.parametrize("recipe", ["up", "markov", FAST])
def test_a_description_shows_the_first_rows(recipe: str) -> None:
    described = iterand.describe(recipe, length=64, seed=3, server=False)
    markup = described._repr_html_()
    first = iterand.read(recipe, range(16), length=64, seed=3, server=False)
    assert iterand.picture(first)._repr_html_() in markup
    assert described.stream is not None
    text = Checker(markup).text()
    assert described.stream.fingerprint.hex() in text
    for part in described.stream.parts:
        assert part.name in text


def test_a_description_of_another_version_shows_no_rows(address: str) -> None:
    info = iterand.describe("markov", length=64, server=address).stream
    assert info is not None
    assert "<img" in info._repr_html_()
    assert "<img" not in replace(info, fingerprint=bytes(32))._repr_html_()


def test_a_description_without_a_recipe_lists_presets() -> None:
    text = Checker(iterand.describe(server=False)._repr_html_()).text()
    assert "up-paper" in text
    assert "tape_machine" in text


def test_an_explanation_shows_its_steps() -> None:
    explanation = iterand.explain("mix", 12345, seed=2)
    text = Checker(explanation._repr_html_()).text()
    for step in explanation.steps:
        assert step.family in text
        assert step.program in text


def test_what_comes_from_outside_is_escaped() -> None:
    described = iterand.describe("up", length=64, server=False)
    assert described.stream is not None
    info = described.stream
    part = replace(info.parts[0], name=SCRIPT)
    hostile_info = replace(info, recipe={**info.recipe, "description": SCRIPT, SCRIPT: SCRIPT}, parts=(part,))
    batch = iterand.stream("up", length=64, batch_size=1, provenance=True, server=False).next_batch()
    origin = replace(batch.provenance[0], family=SCRIPT, part=SCRIPT)
    explanation = iterand.explain("mix", 12345, seed=2)
    step = replace(explanation.steps[0], program=SCRIPT, family=SCRIPT, input=SCRIPT)
    named = iterand.stream(SCRIPT.replace("/", ""), server=f"unix:{SCRIPT}")
    for hostile in (
        hostile_info,
        replace(described, stream=hostile_info),
        replace(described, stream=None, presets={SCRIPT: SCRIPT}),
        replace(batch, provenance=(origin,)),
        replace(explanation, family=SCRIPT, part=SCRIPT, steps=(step,)),
        named,
    ):
        markup = hostile._repr_html_()
        parsed = Checker(markup)
        assert "script" not in parsed.tags()
        assert "alert(1)" in parsed.text()
        assert "\u202e" not in markup
        assert "\x1b" not in markup
        for _, attributes in parsed.elements:
            assert not any("alert" in (value or "") for value in attributes.values())
    named.close()


def test_tables_escape_their_cells() -> None:
    assert Checker(_notebook.table([(SCRIPT, "<b>")], (SCRIPT, "&"))).tags() == {"table", "thead", "tr", "th", "td"}


def test_lightness_is_between_none_and_all() -> None:
    for light in (False, True):
        assert all(0 < lightness(rank, light) <= 1 for rank in range(300))
