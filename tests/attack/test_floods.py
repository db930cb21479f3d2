"""Peers that complete the handshake and then send what costs a server most. None of them has the token."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import grpc
import pytest
from conftest import TOKEN, Serve, Server, health, watch
from http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    HEALTH,
    PING,
    PRIORITY,
    REFLECTION,
    RST_STREAM,
    SERVICE,
    SETTINGS,
    WATCH,
    WINDOW_UPDATE,
    Connection,
    call_headers,
    frame,
    message,
)

CANCEL = struct.pack(">I", 8)
MOST_CONNECTIONS = 400  # that one attack opens in a second
MOST_BYTES = 256 << 20  # that one attack sends in a second

Chunks = Callable[[Connection], Iterator[bytes]]


def flood(server: Server, seconds: float, chunks: Chunks, *, acknowledge: bool = True) -> int:
    """Sends what `chunks` makes of a connection, and opens another one whenever the server closes it.

    Returns how many the server closed. With `acknowledge`, settings are acknowledged and answers are read.
    """
    end = time.monotonic() + seconds
    closed = sent = 0
    while time.monotonic() < end and closed < MOST_CONNECTIONS * seconds:
        try:
            with Connection(server.address) as connection:
                if acknowledge:
                    connection.send(frame(SETTINGS, ACK))
                for chunk in chunks(connection):
                    connection.send(chunk)
                    sent += len(chunk)
                    if acknowledge:
                        connection.drain()
                    if time.monotonic() >= end or sent > MOST_BYTES * seconds:
                        return closed
                while time.monotonic() < end:
                    if connection.closed(0.1):
                        raise ConnectionError
        except OSError:
            closed += 1
            time.sleep(0.005)
    return closed


def rapid_reset(path: str) -> Chunks:
    """Streams that are opened and reset at once (CVE-2023-44487)."""

    def chunks(connection: Connection) -> Iterator[bytes]:
        headers = call_headers(path)
        while True:
            data = bytearray()
            for _ in range(200):
                stream, opened = connection.headers(headers)
                data += opened + frame(RST_STREAM, 0, stream, CANCEL)
            yield bytes(data)

    return chunks


def reset_after_message(connection: Connection) -> Iterator[bytes]:
    while True:
        data = bytearray()
        for _ in range(200):
            stream, opened = connection.headers(call_headers(SERVICE + "Describe"))
            data += opened + frame(DATA, 1, stream, message(b"")) + frame(RST_STREAM, 0, stream, CANCEL)
        yield bytes(data)


def unauthenticated_calls(connection: Connection) -> Iterator[bytes]:
    while True:
        yield b"".join(connection.call(SERVICE + "Describe", b"") for _ in range(200))


def unknown_methods(connection: Connection) -> Iterator[bytes]:
    while True:
        yield b"".join(connection.call(f"/nobody/knows{i}", b"") for i in range(200))


def unfinished_calls(path: str, length: int) -> Chunks:
    """Calls whose message never ends, as many as the server lets through, beyond what its settings allow."""

    def chunks(connection: Connection) -> Iterator[bytes]:
        piece = bytes(16000)
        for _ in range(2000):
            stream, opened = connection.headers(call_headers(path))
            yield opened + frame(DATA, 0, stream, struct.pack(">BI", 0, length))
            for _ in range(min(length - 1, 64000) // len(piece)):
                yield frame(DATA, 0, stream, piece)

    return chunks


def windowed_execute(connection: Connection) -> Iterator[bytes]:
    """60 Execute calls of 16 MB each, the last byte missing, sent round by round without regard to any window."""
    length = 16 << 20
    streams = []
    for _ in range(60):
        stream, opened = connection.headers(call_headers(SERVICE + "Execute"))
        streams.append(stream)
        yield opened + frame(DATA, 0, stream, struct.pack(">BI", 0, length))
    piece = bytes(16384)
    for _ in range(length // len(piece) - 1):
        for stream in streams:
            yield frame(DATA, 0, stream, piece)


def repeated(data: bytes, *, count: int = 500) -> Chunks:
    def chunks(_: Connection) -> Iterator[bytes]:
        while True:
            yield data * count

    return chunks


def on_a_stream(path: str, make: Callable[[int], bytes]) -> Chunks:
    """Frames for one open stream, again and again."""

    def chunks(connection: Connection) -> Iterator[bytes]:
        stream, opened = connection.headers(call_headers(path))
        yield opened
        while True:
            yield make(stream) * 500

    return chunks


def priorities(connection: Connection) -> Iterator[bytes]:
    """PRIORITY for streams that never open."""
    stream = 1
    while True:
        data = bytearray()
        for _ in range(500):
            data += frame(PRIORITY, 0, stream, struct.pack(">IB", 0, 16))
            stream += 2
        yield bytes(data)


def large_settings(connection: Connection) -> Iterator[bytes]:
    entries = b"".join(struct.pack(">HI", 4, 65535 + i) for i in range(2000))
    while True:
        yield frame(SETTINGS, 0, 0, entries) * 10


def continuations(size: int) -> Chunks:
    """A header block that never ends, in frames of `size` bytes (CVE-2024-27316)."""

    def chunks(connection: Connection) -> Iterator[bytes]:
        stream = connection.take_stream()
        yield frame(HEADERS, 0, stream, connection.encoder.encode(call_headers(HEALTH)))
        # A field without indexing: its name "x", its value of `size - 4` bytes. Smaller ones are without any field.
        field = b"\x00\x01x" + bytes([size - 4]) + b"v" * (size - 4) if size > 4 else b""
        while True:
            yield frame(CONTINUATION, 0, stream, field) * 500

    return chunks


def endless_string(connection: Connection) -> Iterator[bytes]:
    """One header value of 1 GB, a byte a frame: a parser that starts again at each frame needs quadratic time."""
    stream = connection.take_stream()
    yield frame(HEADERS, 0, stream, b"\x00\x01x\x7f\x81\xff\xff\xff\x03" + b"v" * 16000)
    while True:
        for _ in range(8):
            yield frame(CONTINUATION, 0, stream, b"v" * 16000)
        yield frame(CONTINUATION, 0, stream, b"v") * 2000


def header_bomb(connection: Connection) -> Iterator[bytes]:
    """A value of 4 000 bytes, put into the table once and referred to by one byte, 16 000 times per stream."""
    stream = connection.take_stream()
    value = b"v" * 4000
    length = b"\x7f" + bytes([(len(value) - 127) & 127 | 128, (len(value) - 127) >> 7])
    yield frame(
        HEADERS,
        END_HEADERS,
        stream,
        connection.encoder.encode(call_headers(WATCH)) + b"\x40\x01x" + length + value,
    )
    while True:
        stream = connection.take_stream()
        yield frame(HEADERS, END_HEADERS, stream, connection.encoder.encode(call_headers(WATCH)) + b"\xbe" * 16000)


def large_metadata(connection: Connection) -> Iterator[bytes]:
    while True:
        _, opened = connection.headers(
            call_headers(SERVICE + "Describe", None, [(f"x{i}", "v" * 900) for i in range(16)])
        )
        yield opened


def open_streams(path: str) -> Chunks:
    """Calls that wait, all on one connection."""

    def chunks(connection: Connection) -> Iterator[bytes]:
        for _ in range(20000):
            stream, opened = connection.headers(call_headers(path))
            yield opened + frame(DATA, 0, stream, message(b""))

    return chunks


ATTACKS: dict[str, Chunks] = {
    "rapid reset of Execute": rapid_reset(SERVICE + "Execute"),
    "rapid reset of Stream": rapid_reset(SERVICE + "Stream"),
    "rapid reset of health checks": rapid_reset(HEALTH),
    "rapid reset of health watches": rapid_reset(WATCH),
    "rapid reset of reflection": rapid_reset(REFLECTION),
    "rapid reset of unknown methods": rapid_reset("/nobody/knows"),
    "reset after the message": reset_after_message,
    "calls without a token": unauthenticated_calls,
    "unknown methods": unknown_methods,
    "unfinished Execute": unfinished_calls(SERVICE + "Execute", 16 << 20),
    "unfinished Describe": unfinished_calls(SERVICE + "Describe", 1 << 20),
    "unfinished health checks": unfinished_calls(HEALTH, 1 << 20),
    "sixty Execute calls of 16 MB": windowed_execute,
    "open health watches": open_streams(WATCH),
    "open reflection streams": open_streams(REFLECTION),
    "PING": repeated(frame(PING, 0, 0, b"12345678")),
    "SETTINGS": repeated(frame(SETTINGS)),
    "large SETTINGS": large_settings,
    "WINDOW_UPDATE": repeated(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))),
    "WINDOW_UPDATE of a stream": on_a_stream(WATCH, lambda s: frame(WINDOW_UPDATE, 0, s, struct.pack(">I", 1))),
    "PRIORITY": priorities,
    "empty DATA": on_a_stream(SERVICE + "Execute", lambda s: frame(DATA, 0, s)),
    "empty messages": on_a_stream(REFLECTION, lambda s: frame(DATA, 0, s, message(b""))),
    "unknown frames": repeated(frame(77, 0, 0, b"x" * 100)),
    "CONTINUATION, empty": continuations(0),
    "CONTINUATION, small fields": continuations(16),
    "endless header string": endless_string,
    "header bomb": header_bomb,
    "large metadata": large_metadata,
}


# Those that took most before there were bounds. All of them run in tools/attack.
SHORT = {
    "rapid reset of Execute",
    "rapid reset of Stream",
    "rapid reset of health watches",
    "reset after the message",
    "calls without a token",
    "unfinished Execute",
    "sixty Execute calls of 16 MB",
    "open health watches",
    "open reflection streams",
    "PING",
    "CONTINUATION, small fields",
    "endless header string",
}


def slow(name: str) -> pytest.MarkDecorator | tuple[()]:
    return () if name in SHORT else pytest.mark.slow


@pytest.mark.parametrize("name", [pytest.param(name, marks=slow(name)) for name in ATTACKS])
@pytest.mark.parametrize("acknowledge", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["reading", "deaf"])
def test_flood(serve: Serve, attack_seconds: float, name: str, acknowledge: bool) -> None:
    server = serve(token=True)
    with watch(server) as seen:
        closed = flood(server, attack_seconds, ATTACKS[name], acknowledge=acknowledge)
    print(f"{name}: {closed} connections closed")
    seen.check()
    assert health(server.address) < 5
    assert server.stop() < 4  # --drain 1


@pytest.mark.parametrize("connections", [40])
@pytest.mark.parametrize("name", ["unfinished Execute", "CONTINUATION, small fields", "rapid reset of Stream", "PING"])
def test_flood_of_many_connections(serve: Serve, attack_seconds: float, name: str, connections: int) -> None:
    """Each stays below what one connection may do, where it can."""
    server = serve(token=True)
    with watch(server) as seen, ExitStack() as stack:
        end = time.monotonic() + attack_seconds
        sources: dict[Connection, Iterator[bytes]] = {}
        opened = 0
        while time.monotonic() < end:
            for connection, source in list(sources.items()):
                try:
                    connection.send(next(source))
                    connection.drain()
                except (OSError, StopIteration):
                    connection.close()
                    del sources[connection]
            while len(sources) < connections and opened < MOST_CONNECTIONS * attack_seconds:
                opened += 1
                with suppress(OSError):
                    connection = stack.enter_context(Connection(server.address))
                    sources[connection] = ATTACKS[name](connection)
    print(f"{name}: {opened} connections opened")
    seen.check(latency=3)  # the attackers and this test share the cores with the health checks
    assert len(server.log()) < 100_000 + 10_000 * attack_seconds
    assert health(server.address) < 5
    assert server.stop() < 4


@pytest.mark.parametrize("name", ["rapid reset of Stream", "calls without a token", "unknown methods"])
def test_flood_of_peers_that_hang_up(serve: Serve, attack_seconds: float, name: str) -> None:
    """What they have sent waits in the kernel when they leave, as many calls as fit."""
    server = serve(token=True)
    with watch(server) as seen:
        end = time.monotonic() + attack_seconds
        opened = 0
        while time.monotonic() < end:
            with ExitStack() as stack, suppress(OSError):
                connections = [stack.enter_context(Connection(server.address)) for _ in range(10)]
                opened += len(connections)
                for connection in connections:
                    source = ATTACKS[name](connection)
                    connection.send(b"".join(next(source) for _ in range(5)))
        time.sleep(1)  # what they left behind
    print(f"{name}: {opened} connections opened")
    seen.check(latency=3)
    assert server.stop() < 4


def test_slow_header_blocks(serve: Serve, attack_seconds: float) -> None:
    """Header blocks that grow by little at a time, below any rate: their memory is bounded too."""
    server = serve(token=True)
    field = b"\x00\x01x\x0c" + b"v" * 12
    with watch(server) as seen, ExitStack() as stack:
        connections = []
        for _ in range(100):
            connection = stack.enter_context(Connection(server.address))
            connection.send(frame(HEADERS, 0, connection.take_stream(), b""))
            connections.append(connection)
        end = time.monotonic() + attack_seconds
        while time.monotonic() < end:
            for connection in connections:
                with suppress(OSError):
                    connection.send(frame(CONTINUATION, 0, 1, field) * 800)  # 20 kB
            time.sleep(0.02)
    seen.check()
    assert server.stop() < 4


def test_slow_readers(serve: Serve, attack_seconds: float) -> None:
    """Answers that are never read: whole calls of Describe with the token, on connections with small buffers."""
    server = serve(token=True)
    with watch(server) as seen, ExitStack() as stack:
        connections = [stack.enter_context(Connection(server.address, receive_buffer=4096)) for _ in range(20)]
        for _ in range(int(100 * attack_seconds)):
            for connection in connections:
                with suppress(OSError):
                    connection.send(connection.call(SERVICE + "Describe", b"", TOKEN))
            time.sleep(0.005)
    seen.check()
    assert health(server.address) < 5
    assert server.stop() < 4


def test_requests_of_an_honest_client_are_served(serve: Serve) -> None:
    """Large requests, many small ones, and many that are given up: none of them is taken for an attack."""
    server = serve(token=True)
    metadata = (("authorization", f"Bearer {TOKEN}"),)
    # 240 programs: the text ".", and an input of 60 000 bytes each. 14 MB.
    program = b"\x0a\x01." + b"\x12\xe0\xd4\x03" + bytes(60000)
    large = (b"\x0a\xe7\xd4\x03" + program) * 240
    with grpc.insecure_channel(server.address, options=[("grpc.max_send_message_length", 32 << 20)]) as raw:
        channel: Any = raw
        execute = channel.unary_stream(SERVICE + "Execute")
        for _ in range(3):
            assert len(list(execute(large, metadata=metadata, timeout=60))) > 0
        describe = channel.unary_unary(SERVICE + "Describe")
        for _ in range(2000):
            assert describe(b"", metadata=metadata, timeout=10)
        for _ in range(300):
            call = channel.unary_stream(SERVICE + "Stream")(b"\x0a\x07\x12\x05mixed", metadata=metadata)
            call.cancel()
        assert describe(b"", metadata=metadata, timeout=10)
    assert "closed" not in server.log()
