"""Attacks on the port of the page: slow requests, huge bodies, many connections, other sites, costly recipes."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from conftest import MOST_GROWTH, Serve, Server, watch

EXPENSIVE = '{"families": [{"lstm": {"hidden": 512}}], "length": 2048, "lanes": 64, "segment_sequences": 512}'


class PageServer:
    def __init__(self, server: Server, port: int) -> None:
        self.server = server
        self.port = port

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def ask(self, method: str = "GET", path: str = "/api/live", body: str = "", **headers: str) -> int:
        """The status of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body or None, {"Content-Type": "application/json", **names})
        status = connection.getresponse().status
        connection.close()
        return status

    def answers(self) -> bool:
        """Whether it answers within ten seconds. Connections of an attacker may keep others away meanwhile."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask() == 200:
                    return True
            time.sleep(0.1)
        return False


@pytest.fixture
def page(serve: Serve) -> Iterator[PageServer]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    yield PageServer(serve("--http", f"127.0.0.1:{port}", "--threads", "2", "--cache-bytes", "16mb"), port)


def attack(
    page: PageServer, seconds: float, strike: Callable[[], object], attackers: int = 16, growth: int = MOST_GROWTH
) -> None:
    """Strikes again and again from some threads; the server must keep to the bounds of all attacks."""
    end = time.monotonic() + seconds

    def run() -> None:
        while time.monotonic() < end:
            with contextlib.suppress(OSError, http.client.HTTPException):
                strike()

    with watch(page.server) as seen:
        threads = [threading.Thread(target=run) for _ in range(attackers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    seen.check(growth=growth)
    assert page.answers()
    assert page.server.stop() < 4


def test_slow_requests(page: PageServer, attack_seconds: float) -> None:
    def drip() -> None:
        with page.connect() as slow:
            for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: 1\r\n" * 4:
                slow.sendall(bytes([byte]))
                time.sleep(0.01)

    attack(page, attack_seconds, drip, attackers=80)


def test_huge_bodies(page: PageServer, attack_seconds: float) -> None:
    statuses = []
    attack(page, attack_seconds, lambda: statuses.append(page.ask("POST", "/api/describe", " " * (8 << 20))))
    assert set(statuses) <= {413}


def test_large_bodies_that_are_held_back(page: PageServer, attack_seconds: float) -> None:
    head = b"POST /api/describe HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Content-Length: 1100000\r\n\r\n"

    def hold() -> None:
        with page.connect() as one:
            one.sendall(head + b" " * 1099999)
            time.sleep(attack_seconds)

    attack(page, attack_seconds, hold, attackers=60)


def test_many_connections(page: PageServer, attack_seconds: float) -> None:
    held: list[socket.socket] = []

    def strike() -> None:
        if len(held) < 600:  # this process may have 1024 files
            held.append(page.connect())
        else:
            time.sleep(0.01)

    try:
        attack(page, attack_seconds, strike)
    finally:
        for one in held:
            one.close()
    assert len(held) > 100


def test_other_sites(page: PageServer, attack_seconds: float) -> None:
    body = json.dumps({"recipe": EXPENSIVE})
    statuses = []

    def strike() -> None:
        statuses.append(page.ask("POST", "/api/preview", body, Origin="http://evil.example"))
        statuses.append(page.ask("POST", "/api/preview", body, Host="evil.example"))

    attack(page, attack_seconds, strike)
    assert set(statuses) == {403}


def test_costly_requests_that_are_given_up(page: PageServer, attack_seconds: float) -> None:
    numbers = iter(range(1 << 30))

    def strike() -> None:
        body = json.dumps({"recipe": EXPENSIVE, "seed": next(numbers)})
        path = ("/api/preview", "/api/explain", "/api/statistics")[next(numbers) % 3]
        with page.connect() as one:
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            one.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            time.sleep(0.1)

    # A client that may ask for streams is trusted with their memory: docs/server.md has the bound. Idle streams keep
    # 256 MB.
    attack(page, attack_seconds, strike, growth=MOST_GROWTH + (256 << 20))


def test_deep_and_wide_json(page: PageServer, attack_seconds: float) -> None:
    bodies = ["[" * 1000000, "[" + "[]," * 300000 + "[]]", '{"recipe": "' + "[" * 900000 + '"}', '{"a":1,' * 1000]
    statuses = []

    def strike() -> None:
        for body in bodies:
            statuses.append(page.ask("POST", "/api/describe", body))

    attack(page, attack_seconds, strike)
    assert set(statuses) <= {400}
