"""A server with its page, and a tab of a browser that looks at it."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlparse

from server_program import binary

import iterand
from iterand._server import ServerProcess


class PageServer(ServerProcess):
    """A server whose page is at `url`."""

    def __init__(self, *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(binary(), "--drain", "1", "--http", f"127.0.0.1:{port}", *options)


class Tab:
    """A page of the browser that notes what must not happen: errors, and requests to other hosts."""

    def __init__(self, context: Any, url: str) -> None:
        self.page = context.new_page()
        self.url = url
        self.errors: list[str] = []
        self.outside: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        self.page.on("request", self._note)

    def _note(self, request: Any) -> None:
        if urlparse(request.url).netloc != urlparse(self.url).netloc:
            self.outside.append(request.url)

    def open(self, view: str) -> None:
        self.page.goto(f"{self.url}/#{view}")
        self.page.wait_for_selector("html[data-ready=true]", state="attached")

    def await_preview(self, after: int = 0) -> int:
        """Waits until the editor has shown whole previews more often than `after`; returns how often it has."""
        self.page.wait_for_selector(
            f"xpath=/html[number(@data-previewed) > {after}]", state="attached", timeout=60000
        )  # not wait_for_function, which the page's policy forbids
        return int(self.page.evaluate("document.documentElement.dataset.previewed"))

    def edit(self, recipe: str, seed: int = 0) -> int:
        """Writes a recipe into the editor and waits for its own whole preview, whatever becomes of those before it.

        The recipe that the editor begins with takes a third of a second of core time. On a machine that is busy with
        other work this can be over the server's limit, after which there is no preview of it.
        """
        self.write(recipe)
        info = iterand.describe(recipe, seed=seed, server=False).stream
        assert info is not None
        shown = f'#preview[data-fingerprint="{info.fingerprint.hex()}"][data-rows="64"]'
        self.page.wait_for_selector(shown, timeout=60000)
        return int(self.page.evaluate("document.documentElement.dataset.previewed"))

    def write(self, recipe: str) -> None:
        self.page.locator("#recipe").fill(recipe)
