"""The page of `iterand inspect --html` in a real browser; test_page.py says what these tests need."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_page import PageServer
from server_program import binary

pytestmark = pytest.mark.browser

RECIPES = ["up", "markov", "up-paper"]


def inspect(*arguments: str) -> str:
    return subprocess.run([binary(), "inspect", *arguments], capture_output=True, check=True, text=True).stdout


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of one stream, and one of three."""
    folder = tmp_path_factory.mktemp("reports")
    made = {"alone": folder / "alone.html", "compared": folder / "compared.html"}
    inspect("up", "--count", "64", "--html", str(made["alone"]))
    inspect("--count", "16", "--compare", *RECIPES, "--html", str(made["compared"]))
    return made


class Report:
    """A report in a tab, with the errors and requests of the browser."""

    def __init__(self, context: Any, file: Path) -> None:
        self.page = context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("html[data-ready=true]", state="attached")


@pytest.fixture(params=[(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")], ids=str)
def context(chromium: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    width, theme = request.param
    made = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    made.set_default_timeout(20000)
    yield made
    made.close()


@pytest.mark.parametrize("name", ["alone", "compared"])
def test_loads_without_errors_or_requests_and_fits(context: Any, reports: dict[str, Path], name: str) -> None:
    report = Report(context, reports[name])
    report.page.wait_for_timeout(300)
    assert report.errors == []
    assert [url for url in report.requests if not url.startswith("data:")] == [reports[name].as_uri()]
    size = report.page.viewport_size
    assert report.page.evaluate("document.documentElement.scrollWidth") == size["width"]
    unnamed = report.page.evaluate(
        """() => [...document.querySelectorAll("canvas, svg:not([aria-hidden] *), [role=region]")]
          .filter((e) => !(e.getAttribute("aria-label") || e.getAttribute("aria-labelledby")))
          .map((e) => e.outerHTML)"""
    )
    assert unnamed == []


def test_draws_every_stream(context: Any, reports: dict[str, Path]) -> None:
    report = Report(context, reports["compared"])
    assert report.page.locator("#table tbody th").all_text_contents() == RECIPES
    assert report.page.locator(".stream h2").all_text_contents() == RECIPES
    for index in range(len(RECIPES)):
        stream = report.page.locator(".stream").nth(index)
        assert stream.locator(".chart-code path.plot").count() == 8  # four curves, and their names' lines
        assert stream.locator(".chart-complexity rect.bar").count() == 24
        colours = stream.locator("canvas").evaluate(
            """(canvas) => new Set(new Uint32Array(
              canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size"""
        )
        assert colours > 2
    # One scale for all: the same numbers beside the axes.
    axes = report.page.locator(".chart-code").evaluate_all(
        "(all) => all.map((e) => e.querySelector('text').textContent)"
    )
    assert len(set(axes)) == 1


def test_says_where_a_line_came_from(context: Any, reports: dict[str, Path]) -> None:
    report = Report(context, reports["alone"])
    report.page.locator(".picture").focus()
    report.page.keyboard.press("ArrowDown")
    report.page.keyboard.press("ArrowDown")
    assert "Index 1: made by " in (report.page.locator(".row-text").text_content() or "")


def test_the_server_page_has_the_same_statistics() -> None:
    body = json.dumps({"preset": "up", "count": 64}).encode()
    with PageServer() as server:
        headers = {"content-type": "application/json", "origin": server.url}
        with urllib.request.urlopen(urllib.request.Request(f"{server.url}/api/statistics", body, headers)) as answer:
            page = json.load(answer)
    assert json.loads(inspect("up", "--count", "64", "--json"))["streams"][0]["statistics"] == page
