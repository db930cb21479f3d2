"""Peers that open connections and leave it at that."""

from __future__ import annotations

import re
import resource
import socket
import ssl
import subprocess
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import SERVING, Serve, Server, health, health_check, watch
from http2 import ACK, PREFACE, SETTINGS, Connection, frame


def silent(address: str, count: int) -> list[socket.socket]:
    """Connections that send nothing; None of them is read."""
    host, _, port = address.rpartition(":")
    return [socket.create_connection((host, int(port)), timeout=5) for _ in range(count)]


def open_files(count: int) -> None:
    """Lets this process have this many descriptors."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"this process may have only {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


@pytest.mark.parametrize(("files", "connections"), [(64, 80), (1024, 1100)])
def test_more_connections_than_descriptors(serve: Serve, files: int, connections: int) -> None:
    open_files(connections + 300)
    server = serve(ulimit=f"-n {files}")
    sockets = silent(server.address, connections)
    try:
        time.sleep(1.1)  # silent ones make room after a second
        assert health(server.address) < 5, "while they are open"
    finally:
        for one in sockets:
            one.close()
    for _ in range(3):
        assert health(server.address) < 5, "once they are closed"
    assert server.files() <= files
    assert re.search(r"limit of open files allows \d+ connections", server.log())
    assert re.search(r"connection of ipv4:127\.0\.0\.1:\d+.* (refused|closed to make room)", server.log())
    assert server.stop() < 4


def test_the_soft_limit_is_raised(serve: Serve) -> None:
    server = serve(ulimit="-Sn 256")
    limits = Path(f"/proc/{server.process.pid}/limits").read_text()
    soft, hard = re.search(r"Max open files +(\S+) +(\S+)", limits).groups()  # type: ignore[union-attr]
    assert soft == hard


def test_silent_connections_end_after_the_handshake_timeout(serve: Serve) -> None:
    server = serve("--handshake-timeout", "1")
    begin = time.monotonic()
    with ExitStack() as stack:
        connections = [stack.enter_context(Connection(server.address, preface=False)) for _ in range(4)]
        connections[1].send(PREFACE[:10])
        connections[2].send(PREFACE)  # without settings
        connections[3].send(PREFACE + frame(SETTINGS) + frame(SETTINGS, ACK))
        for connection in connections[:3]:
            assert connection.closed(10)
        assert time.monotonic() - begin < 8
        assert not connections[3].closed(0.3)
    assert server.memory() > 0


def test_handshakes_of_tls_end_after_the_timeout(serve: Serve, tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *names]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    key.chmod(0o600)
    server = serve("--handshake-timeout", "1", "--tls-cert", str(cert), "--tls-key", str(key))
    begin = time.monotonic()
    with ExitStack() as stack:
        nothing = stack.enter_context(Connection(server.address, preface=False))
        hello = stack.enter_context(Connection(server.address, preface=False))
        hello.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")  # the first bytes of a ClientHello
        assert nothing.closed(10)
        assert hello.closed(10)
    assert time.monotonic() - begin < 8
    # TLS is done, HTTP/2 is not.
    context = ssl.create_default_context(cafile=str(cert))
    context.set_alpn_protocols(["h2"])
    host, _, port = server.address.rpartition(":")
    with context.wrap_socket(socket.create_connection((host, int(port))), server_hostname="localhost") as secure:
        secure.settimeout(10)
        begin = time.monotonic()
        while secure.recv(4096):
            pass
        assert time.monotonic() - begin < 8
    credentials = grpc.ssl_channel_credentials(cert.read_bytes())
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        answer = health_check(channel)(b"", timeout=10, wait_for_ready=True)
    assert answer == SERVING


def metrics(address: str) -> dict[str, float]:
    text = urllib.request.urlopen(f"http://{address}/metrics", timeout=10).read().decode()
    return {name: float(value) for name, value in re.findall(r"^(iterand_connections\S+) (\S+)$", text, re.MULTILINE)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refused(server: Server) -> bool:
    with Connection(server.address, preface=False) as connection:
        return connection.closed(1)


def test_connections_of_one_peer_are_bounded_and_counted(serve: Serve) -> None:
    address = f"127.0.0.1:{free_port()}"
    server = serve("--max-connections", "8", "--max-connections-per-peer", "4", "--metrics-listen", address)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(Connection(server.address)).send(frame(SETTINGS, ACK))
        assert refused(server)  # none has been idle for a second
        seen = metrics(address)
        assert seen["iterand_connections_open"] == 4
        assert seen["iterand_connections_accepted_total"] == 4
        assert seen['iterand_connections_ended_total{action="refused",reason="max_connections_per_peer"}'] == 1
        assert "refused: it has as many connections as --max-connections-per-peer allows" in server.log()
        time.sleep(1.5)
        assert health(server.address) < 5  # takes the place of one that is idle
        seen = metrics(address)
        assert seen['iterand_connections_ended_total{action="closed",reason="idle"}'] == 1
    end = time.monotonic() + 5
    while metrics(address)["iterand_connections_open"] > 0 and time.monotonic() < end:
        time.sleep(0.05)
    assert metrics(address)["iterand_connections_open"] == 0


def test_connections_with_calls_are_not_closed_to_make_room(serve: Serve) -> None:
    server = serve("--max-connections", "2")
    with ExitStack() as stack:
        watching = []
        for _ in range(2):
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel: Any = stack.enter_context(grpc.insecure_channel(server.address, options=options))
            call = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", wait_for_ready=True)
            assert next(call) == SERVING
            watching.append(call)
        time.sleep(1.5)
        assert refused(server)
        assert all(call.is_active() for call in watching)
        assert "--max-connections allows" in server.log()


def test_many_idle_connections(serve: Serve) -> None:
    """As many as a fleet behind one address has, and more."""
    open_files(2000)
    server = serve()
    with watch(server) as seen, ExitStack() as stack:
        for _ in range(1100):
            stack.enter_context(Connection(server.address)).send(frame(SETTINGS, ACK))
        assert health(server.address) < 5
        time.sleep(0.5)
        assert server.files() >= 2200
    seen.check()
    end = time.monotonic() + 10
    while server.files() > 100 and time.monotonic() < end:
        time.sleep(0.05)
    assert server.files() <= 100
    assert server.stop() < 4


def test_connections_that_come_and_go(serve: Serve, attack_seconds: float) -> None:
    server = serve()
    with watch(server) as seen:
        end = time.monotonic() + attack_seconds
        count = 0
        while time.monotonic() < end and count < 20000:
            for one in silent(server.address, 20):
                one.close()
                count += 1
    seen.check()
    assert health(server.address) < 5
    assert server.files() < 100


def test_unix_socket(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = serve(listen=f"unix:{path}")
    assert health(f"unix:{path}") < 5
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(Connection(server.address))
        assert health(server.address) < 5
    assert server.stop() < 4
    assert not path.exists()


def test_garbage(serve: Serve, attack_seconds: float) -> None:
    """What other protocols send."""
    server = serve("--handshake-timeout", "1")
    with watch(server) as seen:
        end = time.monotonic() + attack_seconds
        for data in [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01", b"\0" * 100000, PREFACE + b"\xff" * 100000]:
            while time.monotonic() < end - attack_seconds / 4:
                try:
                    with Connection(server.address, preface=False) as connection:
                        connection.send(data)
                        connection.closed(0.02)
                except OSError:
                    pass
                break
    seen.check()
    assert health(server.address) < 5
