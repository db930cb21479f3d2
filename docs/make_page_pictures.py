"""Draws docs/pictures/page-*.png and report.png: the server's page and a report of `iterand inspect` in Chromium.

    python docs/make_page_pictures.py [--iterand build/release/clients/cli/iterand] [--chromium /usr/bin/chromium]

Needs Playwright and Pillow, and the distribution's Chromium. A client reads `up` meanwhile, so that the wall moves.
"""

import argparse
import io
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
COLOURS = 48
# View, width and height in pixels, colours of the page, and what must be there before the picture is taken.
PICTURES = [
    ("live", 1440, 900, "light", "#live-shares meter"),
    ("editor", 1440, 1230, "dark", "#chart-complexity rect.bar"),
    ("gallery", 390, 844, "dark", "#gallery-presets li:nth-child(2) .cost:has-text('tokens/s')"),
    ("chain", 390, 844, "light", "#chain-body"),
]
# What the report compares.
REPORT = ["up", "--compare", "markov", "uniform"]


def read_on(client: "subprocess.Popen[bytes]") -> None:
    """Reads at the pace of a trainer, until the client ends."""
    assert client.stdout is not None
    while client.stdout.read(400_000):
        time.sleep(0.1)


def take(browser: Any, url: str, width: int, height: int, theme: str, sign: str, pause: int) -> Image.Image:
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
    context.set_default_timeout(60000)
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector("html[data-ready=true]", state="attached")
    page.wait_for_selector(sign)
    page.wait_for_timeout(pause)
    picture = Image.open(io.BytesIO(page.screenshot()))
    context.close()
    return picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)


def save(picture: Image.Image, name: str) -> None:
    path = ROOT / "docs/pictures" / name
    picture.save(path, optimize=True)
    print(f"docs/pictures/{name}: {path.stat().st_size} bytes")


def take_report(browser: Any, iterand: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        command = [iterand, "inspect", *REPORT, "--html", str(file)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        picture = take(browser, file.as_uri(), 1440, 1310, "light", ".stream .chart-complexity rect.bar", 500)
        save(picture, "report.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterand", default=str(ROOT / "build/release/clients/cli/iterand"))
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    arguments = parser.parse_args()
    command = [arguments.iterand, "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    address = server.stdout.readline().removeprefix("listening on ").strip()
    url = server.stdout.readline().removeprefix("page at ").strip()
    sample = [arguments.iterand, "sample", "--server", address, "--count", "100000000", "--format", "raw"]
    client = subprocess.Popen(sample, stdout=subprocess.PIPE)
    threading.Thread(target=read_on, args=(client,), daemon=True).start()
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=arguments.chromium, args=["--no-sandbox"])
            for view, width, height, theme, sign in PICTURES:
                pause = 15000 if view == "live" else 1000  # the wall fills
                save(take(browser, f"{url}#{view}", width, height, theme, sign, pause), f"page-{view}.png")
            take_report(browser, arguments.iterand)
            browser.close()
    finally:
        client.kill()
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
