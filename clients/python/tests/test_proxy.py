"""HTTP proxies of the environment: never for this machine, never against no_proxy, and named by errors."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_program import binary

import iterand
from conftest import Server
from iterand import Retry
from iterand._proxy import proxy_for, without_password

PROXY = "http://proxy.example:3128"
VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "no_grpc_proxy", "no_proxy", "NO_PROXY")


class Proxy:
    """An HTTP proxy that connects every CONNECT to `upstream`, or refuses it if there is none."""

    def __init__(self, upstream: str | None) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://user:secret@127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        self.asked.append(head.split(b" ")[1].decode())
        if self._upstream is None:
            client.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            client.close()
            return
        host, _, port = self._upstream.rpartition(":")
        server = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        threading.Thread(target=pass_on, args=(client, server), daemon=True).start()
        pass_on(server, client)


def pass_on(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
    except OSError:
        pass
    finally:
        sink.close()


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def refusing() -> Iterator[Proxy]:
    proxy = Proxy(None)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_this_machine_is_reached_directly(
    address: str, clean: pytest.MonkeyPatch, refusing: Proxy, variable: str
) -> None:
    clean.setenv(variable, refusing.url)
    port = address.rpartition(":")[2]
    for target in (address, f"localhost:{port}", f"dns:///localhost:{port}", f"ipv4:127.0.0.1:{port}"):
        assert iterand.describe(server=target).engine_version >= 1
    done = subprocess.run([binary(), "describe", "up", "--server", address], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not refusing.asked


def test_a_unix_socket_is_reached_directly(tmp_path: Path, clean: pytest.MonkeyPatch, refusing: Proxy) -> None:
    clean.setenv("http_proxy", refusing.url)
    server = Server(listen=f"unix:{tmp_path}/socket")
    try:
        assert iterand.describe(server=f"unix:{tmp_path}/socket").engine_version >= 1
    finally:
        server.stop()
    assert not refusing.asked


def test_another_host_is_reached_through_the_proxy(address: str, clean: pytest.MonkeyPatch) -> None:
    proxy = Proxy(address)
    try:
        clean.setenv("http_proxy", proxy.url)
        assert iterand.describe(server="noise.example:50051").engine_version >= 1
        assert proxy.asked == ["noise.example:50051"]
        done = subprocess.run(
            [binary(), "describe", "up", "--server", "noise.example:50051"], capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert len(proxy.asked) == 2
    finally:
        proxy.close()


def test_an_error_through_a_proxy_names_it(clean: pytest.MonkeyPatch, refusing: Proxy) -> None:
    clean.setenv("https_proxy", refusing.url)
    shown = refusing.url.replace("user:secret@", "")
    with pytest.raises(
        iterand.Unavailable, match=rf"noise\.example:1 \(through the proxy {shown}, .*https_proxy"
    ) as info:
        iterand.describe(retry=Retry(attempts=0), server="noise.example:1")
    assert "secret" not in str(info.value)
    command = [binary(), "describe", "up", "--server", "noise.example:1", "--connect-timeout", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert f"through the proxy {shown}, which https_proxy names" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("target", "exempt"),
    [
        ("noise.example:1", "*"),
        ("noise.example:1", "other.example, noise.example"),
        ("noise.example:1", "example"),
        ("noise.example:1", ".example"),
        ("noise.example:1", "*.example"),
        ("NOISE.Example.:1", "noise.example"),
        ("noise.example:1", "noise.example:1"),
        ("10.1.2.3:1", "10.0.0.0/8"),
        ("10.1.2.3:1", "10.1.2.3"),
        ("10.1.2.3:1", "10.1.2.3:1"),
        ("[2001:db8::1]:1", "2001:db8::/32"),
        ("[2001:db8::1]:1", "2001:db8::1"),
        ("[2001:db8::1]:1", "[2001:db8::1]:1"),
        ("dns:///noise.example:1", "noise.example"),
    ],
)
def test_no_proxy_exempts(target: str, exempt: str) -> None:
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        assert proxy_for(target, {"http_proxy": PROXY, name: exempt}) is None


@pytest.mark.parametrize(
    ("target", "exempt"),
    [
        ("badexample:1", "example"),
        ("noise.example:1", "noise.example:2"),
        ("noise.example:1", "noise"),
        ("11.1.2.3:1", "10.0.0.0/8"),
        ("10.1.2.30:1", "10.1.2.3"),
        ("noise.example:1", ""),
        ("noise.example:1", " , ,"),
        ("[2001:db9::1]:1", "2001:db8::/32"),
        ("127.example:1", "127.0.0.0/8"),
    ],
)
def test_no_proxy_exempts_nothing_else(target: str, exempt: str) -> None:
    assert proxy_for(target, {"http_proxy": PROXY, "no_proxy": exempt}) == (PROXY, "http_proxy")


@pytest.mark.parametrize(
    "target",
    [
        "localhost:1",
        "a.localhost:1",
        "127.9.9.9:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
        "0.0.0.0:1",
        "unix:/a",
        "[::]:1",
    ],
)
def test_loopback_by_every_name(target: str) -> None:
    assert proxy_for(target, {"http_proxy": PROXY}) is None


def test_the_first_variable_that_grpc_reads_counts() -> None:
    both = {"http_proxy": "http://b:1", "grpc_proxy": "http://a:1", "https_proxy": ""}
    assert proxy_for("noise.example:1", both) == ("http://a:1", "grpc_proxy")
    assert proxy_for("noise.example:1", {"HTTP_PROXY": PROXY}) is None  # which gRPC does not read
    assert without_password("http://u:p@h:1/x") == "http://h:1/x"
