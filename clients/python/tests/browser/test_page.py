"""The server's page in a real browser: the distribution's Chromium, driven by Playwright.

apt-get install chromium; pip install playwright; then python -m pytest -m browser clients/python/tests/browser.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_page import PageServer, Tab
from server_program import binary

import iterand
from iterand import live

pytestmark = pytest.mark.browser

VIEWS = ["live", "gallery", "editor", "chain"]
CHEAP = '{"families": [{"markov": {}}], "length": 256, "lanes": 8, "segment_sequences": 8}'
TITLED = r"""{"description": "it's \"quoted\" \\ $HOME `x` %d", """  # what a shell or Python must not touch
EXPENSIVE = '{"families": [{"lstm": {"hidden": 256}}], "length": 2048, "lanes": 64, "segment_sequences": 512}'


@pytest.fixture(scope="session")
def page_server() -> Iterator[PageServer]:
    with PageServer() as running:
        yield running


@pytest.fixture
def tab(chromium: Any, page_server: PageServer) -> Iterator[Tab]:
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(20000)
    yield Tab(context, page_server.url)
    context.close()


def wait_for(condition: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def canvas_rows(tab: Tab) -> np.ndarray:
    """The colours of the preview: rows x tokens, one number per colour."""
    pixels = tab.page.evaluate(
        """() => {
          const canvas = document.getElementById("preview");
          const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return {width: canvas.width, data: Array.from(new Uint32Array(image.data.buffer))};
        }"""
    )
    return np.array(pixels["data"], np.uint32).reshape(-1, pixels["width"])[::6]


@pytest.mark.parametrize("view", VIEWS)
def test_loads_without_errors_or_outside_requests(tab: Tab, view: str) -> None:
    tab.open(view)
    tab.page.wait_for_timeout(1500)
    assert tab.page.locator(f"#view-{view}").is_visible()
    assert tab.errors == []
    assert tab.outside == []


@pytest.mark.parametrize("view", VIEWS)
def test_fits_a_narrow_screen(tab: Tab, view: str) -> None:
    tab.page.set_viewport_size({"width": 390, "height": 844})
    tab.open(view)
    tab.page.wait_for_timeout(500)
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 390


def test_names_every_control(tab: Tab) -> None:
    tab.open("editor")
    tab.edit(CHEAP)
    unnamed = tab.page.evaluate(
        """() => [...document.querySelectorAll("input, select, textarea, button, canvas, svg")]
          .filter((e) => !(e.labels?.length || e.textContent.trim() || e.getAttribute("aria-label")
                           || e.getAttribute("aria-labelledby")))
          .map((e) => e.outerHTML)"""
    )
    assert unnamed == []


def test_a_changed_knob_changes_the_preview(tab: Tab) -> None:
    tab.open("editor")
    shown = tab.edit('{"families": [{"markov": {"order": 1}}], "length": 256, "lanes": 8, "segment_sequences": 8}')
    before = canvas_rows(tab)
    slider = tab.page.locator('#knobs input[data-path="families[0].markov.order"]')
    slider.focus()
    tab.page.keyboard.press("PageUp")
    tab.page.keyboard.press("PageUp")
    tab.page.keyboard.press("PageUp")
    tab.await_preview(shown)
    order = json.loads(tab.page.locator("#recipe").input_value())["families"][0]["markov"]["order"]
    assert order > 1
    assert not np.array_equal(canvas_rows(tab), before)
    assert tab.errors == []


def test_a_wrong_recipe_shows_the_error_at_the_field(tab: Tab) -> None:
    tab.open("editor")
    tab.write('{\n  "families": [\n    {"lstm": {\n      "hidden": 0\n    }}\n  ]\n}')
    error = tab.page.locator("#recipe-error")
    error.wait_for()
    assert error.text_content() == "Line 4: families[0].lstm.hidden.fixed: is 0, must be in [4, 1024]"
    assert tab.page.locator("#lines .wrong").text_content() == "4\n"
    bubble = tab.page.locator("#recipe-bubble")
    assert bubble.text_content() == "is 0, must be in [4, 1024]"
    area = tab.page.locator("#recipe").bounding_box()
    place = bubble.bounding_box()
    assert area is not None and place is not None
    assert abs(place["y"] - area["y"] - 8 - 3 * 20) < 5
    assert tab.page.locator("#recipe").get_attribute("aria-invalid") == "true"
    tab.write('{"families": [\n  {"lstm": {"hiden": 8}}]}')
    wait_for(lambda: "hiden" in (error.text_content() or ""))
    assert (error.text_content() or "").startswith("Line 2: ")
    tab.write('{"families": [\n{"lstm": {}}')
    wait_for(lambda: "not valid JSON" in (error.text_content() or ""))
    assert tab.page.locator("#lines .wrong").count() == 1
    tab.write(CHEAP)
    error.wait_for(state="hidden")


@pytest.mark.parametrize("first", ["0", "1000"])
def test_the_copied_snippets_stream_exactly_what_is_shown(tab: Tab, first: str) -> None:
    answers: list[Any] = []
    tab.page.on("response", lambda response: answers.append(response) if "/api/preview" in response.url else None)
    tab.open("editor")
    tab.page.locator("#editor-seed").fill("7")
    tab.page.locator("#editor-first").fill(first)
    tab.edit(CHEAP.replace("{}", '{"order": 2}').replace("{", TITLED, 1), seed=7)
    tab.page.locator("#copy-python").click()
    tab.page.get_by_text("Python copied").wait_for()
    snippet = tab.page.evaluate("navigator.clipboard.readText()")
    names: dict[str, Any] = {}
    exec(compile(snippet, "snippet", "exec"), names)
    streamed = names["tokens"]
    assert streamed.shape == (64, 256)

    preview = answers[-1].json()
    received = np.frombuffer(base64.b64decode(preview["tokens"]), preview["dtype"]).reshape(64, -1)
    assert np.array_equal(received, streamed)
    # What is on the screen: equal tokens of a row have one colour.
    colours = canvas_rows(tab)
    assert colours.shape == streamed.shape
    for row, drawn in zip(streamed, colours, strict=True):
        assert all(len(np.unique(drawn[row == token])) == 1 for token in np.unique(row))
        assert len(np.unique(drawn)) == len(np.unique(row))

    tab.page.locator("#copy-command").click()
    tab.page.get_by_text("Command line copied").wait_for()
    command = tab.page.evaluate("navigator.clipboard.readText()")
    assert f"--seed 7 --start {first} --count 64" in command
    assert run_in_shell(command.strip() + " --format raw") == streamed.tobytes()
    # As it is, the command prints a picture of each sequence.
    lines = [line for line in run_in_shell(command).decode().splitlines() if not line.startswith("# ")]
    assert "".join(lines) == "".join(live.glyphs(row) for row in streamed)


def run_in_shell(command: str) -> bytes:
    """What a command prints that is pasted into a shell."""
    path = os.pathsep.join([str(Path(binary()).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path}
    return subprocess.run(["sh", "-c", command], env=environment, capture_output=True, check=True).stdout


def test_newer_edits_give_up_older_ones(tab: Tab) -> None:
    tab.open("editor")
    tab.edit(CHEAP.replace("256", "128"))
    tab.write(EXPENSIVE)
    tab.page.wait_for_timeout(300)
    begin = time.monotonic()
    shown = int(tab.page.evaluate("document.documentElement.dataset.previewed"))
    tab.write(CHEAP)
    tab.await_preview(shown)
    assert time.monotonic() - begin < 2
    assert tab.page.locator("#recipe-error").is_hidden()


def test_a_row_leads_to_its_chain(tab: Tab) -> None:
    tab.open("editor")
    tab.await_preview()
    canvas = tab.page.locator("#preview")
    canvas.focus()
    for _ in range(3):
        tab.page.keyboard.press("ArrowDown")
    tab.page.keyboard.press("Enter")
    tab.page.locator("#chain-body").wait_for()
    assert tab.page.locator("#chain-index").input_value() == "2"
    depth = tab.page.locator("#chain-depth")
    last = int(depth.get_attribute("max") or 0)
    assert tab.page.locator("#chain-at").text_content() == f"{last} of {last}"
    assert "lstm" in (tab.page.locator("#step-title").text_content() or "")
    depth.focus()
    tab.page.keyboard.press("Home")
    assert (tab.page.locator("#step-title").text_content() or "").startswith("The beginning: ")
    tab.page.locator("#chain-next").click()
    wait_for(lambda: tab.page.locator("#chain-index").input_value() == "3")
    assert tab.errors == []


def test_the_gallery_leads_to_the_editor(tab: Tab) -> None:
    tab.open("gallery")
    tab.page.locator("#gallery-filter").fill("cellular automata with random rules")
    card = tab.page.locator("#gallery-presets button:visible")
    assert card.count() == 1
    wait_for(lambda: "tokens/s per core" in (card.text_content() or ""))
    card.click()
    tab.await_preview()
    assert '"eca"' in tab.page.locator("#recipe").input_value()


def test_the_wall_shows_what_a_client_reads(tab: Tab, page_server: PageServer) -> None:
    tab.open("live")
    tab.page.get_by_text("No client reads a stream now").wait_for()
    with iterand.stream(CHEAP, server=page_server.address, batch_size=64) as stream:
        for _ in range(40):
            next(stream)
            time.sleep(0.05)
        tab.page.get_by_text("sequences that the client reads now").wait_for()
        assert tab.page.locator("#live-streams").text_content() == "1"
        next(stream)
    wait_for(lambda: "markov" in (tab.page.locator("#live-shares").text_content() or ""))


def test_a_server_with_tokens_asks_for_one(chromium: Any, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("secret\n")
    tokens.chmod(0o600)
    with PageServer("--token-file", str(tokens)) as server:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(server.url)
        page.locator("#token").fill("secret")
        page.keyboard.press("Enter")
        page.wait_for_selector("html[data-ready=true]", state="attached")
        page.locator("#view-live").wait_for()
        context.close()


EDIT_SECONDS = float(os.environ.get("ITERAND_EDIT_SECONDS", "0"))


@pytest.mark.slow
@pytest.mark.timeout(900 + 2 * EDIT_SECONDS)
def test_editing_leaks_nothing(tab: Tab, page_server: PageServer, capsys: pytest.CaptureFixture[str]) -> None:
    """150 edits, and as many more as $ITERAND_EDIT_SECONDS hold, leave the heaps of page and server as they were."""
    tab.open("editor")
    shown = tab.edit(CHEAP)
    session = tab.page.context.new_cdp_session(tab.page)

    def heap() -> float:
        session.send("HeapProfiler.collectGarbage")
        return float(session.send("Runtime.getHeapUsage")["usedSize"])

    def resident() -> int:
        status = Path(f"/proc/{page_server.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))

    def edit(number: int) -> None:
        nonlocal shown
        tab.write(CHEAP.replace("256", str(128 + number % 200)))
        shown = tab.await_preview(shown)

    for number in range(50):
        edit(number)
    heap_before, resident_before = heap(), resident()
    begin = time.monotonic()
    number = 50
    while number < 200 or time.monotonic() < begin + EDIT_SECONDS:
        edit(number)
        number += 1
    seconds = time.monotonic() - begin
    heap_after, resident_after = heap(), resident()
    with capsys.disabled():
        print(
            f"\n{number - 50} edits in {seconds:.0f} s: heap of the page {heap_before / 1e6:.2f} to "
            f"{heap_after / 1e6:.2f} MB, memory of the server {resident_before} to {resident_after} KiB"
        )
    assert heap_after < heap_before + 4e6
    assert resident_after < resident_before + 64 * 1024
