"""Requests that are made to cost a server much: deep, wide, compressed, half sent, or never sent."""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import grpc
import pytest
from conftest import TOKEN, Serve, Server, watch
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from http2 import SERVICE, call_headers

MOST_CALLS = 400  # that one attack makes
MOST_CPU = 0.3  # core seconds that one request may take, with the slack of a busy machine

DEEP = 20_000


def varint_prefixed(payload: bytes) -> bytes:
    size, length = len(payload), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return length + bytes([size]) + payload


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    return bytes([number << 3 | 2]) + varint_prefixed(payload)


def json_stream(json: str) -> bytes:
    """A DescribeRequest, StreamRequest or ReadRequest of a recipe's JSON."""
    return field(1, field(2, json.encode()))


def lstm_layers(values: bytes) -> bytes:
    """The fields of a Family: an LSTM whose layers are a choice of packed values."""
    return b"\x82\x01" + varint_prefixed(field(1, field(4, field(1, values))))


# Name: method, request. Each is refused.
REQUESTS: dict[str, tuple[str, bytes]] = {
    "arrays": ("Describe", json_stream("[" * DEEP + "]" * DEEP)),
    "arrays never closed": ("Describe", json_stream("[" * 1_048_000)),
    "objects": ("Stream", json_stream('{"a":' * DEEP + "1" + "}" * DEEP)),
    "both": ("Read", json_stream('[{"a":' * DEEP + "1" + "}]" * DEEP)),
    "in a known field": ("Describe", json_stream('{"families":' + "[" * DEEP + "]" * DEEP + "}")),
    "behind strings": ("Describe", json_stream('["\\"[[", "]]\\\\", ' + "[" * DEEP + "]" * DEEP + "]")),
    "behind other quotes": ("Describe", json_stream("['\"', " + "[" * DEEP + "]" * DEEP + "]")),
    "many numbers": ("Describe", json_stream("[" + "1," * 520_000 + "1]")),
    "many objects": ("Describe", json_stream('{"families":[' + "{}," * 340_000 + "{}]}")),
    "many names": ("Describe", json_stream("{" + ",".join(f'"{i}":1' for i in range(90_000)) + "}")),
    "a long number": ("Describe", json_stream('{"length":' + "1" * 1_048_000 + "}")),
    "a long name": ("Describe", json_stream('{"' + "k" * 1_048_000 + '":1}')),
    "empty families": ("Describe", field(1, field(3, field(2, b"") * 1_040_000))),
    "unknown fields": ("Describe", field(1, field(3, b"\xf8\x7f\x01" * 340_000))),
    "packed values": ("Describe", field(1, field(3, field(2, lstm_layers(b"\x01" * 2_000_000))))),
    "empty programs": ("Execute", field(1, b"") * 8_000_000),
    "open loops": ("Execute", field(1, field(1, b"[" * 65536)) * 250),
}


def begin(channel: grpc.Channel, method: str, request: bytes, timeout: float | None = None) -> Any:
    """A call of raw bytes."""
    name = f"/iterand.v1.NoiseService/{method}"
    return channel.unary_stream(name, request_serializer=None, response_deserializer=None)(request, timeout=timeout)


def call(channel: grpc.Channel, method: str, request: bytes) -> grpc.StatusCode:
    """The status that a call ends with, however many responses it has."""
    try:
        for _ in begin(channel, method, request, timeout=60):
            pass
    except grpc.RpcError as error:
        code = error.code()
        assert isinstance(code, grpc.StatusCode)
        return code
    return grpc.StatusCode.OK


def private_channel(server: Server) -> grpc.Channel:
    return grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)])


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_costs_no_more_than_its_size(serve: Serve, name: str) -> None:
    method, request = REQUESTS[name]
    server = serve()
    with private_channel(server) as channel:
        call(channel, "Describe", b"")  # what a server computes once
        with watch(server) as seen:
            before = server.cpu_seconds()
            codes = [call(channel, method, request) for _ in range(3)]
            seconds = (server.cpu_seconds() - before) / 3
    print(f"{name}: {len(request)} bytes, {seconds:.3f} core seconds per request, {seen.summary()}")
    assert codes == [grpc.StatusCode.INVALID_ARGUMENT] * 3
    assert seconds < MOST_CPU
    seen.check(growth=100 << 20)


def test_many_clients_with_expensive_requests(serve: Serve, attack_seconds: float) -> None:
    server = serve("--drain", "2")
    requests = [REQUESTS[name] for name in ("arrays", "objects", "empty families", "many names", "open loops")]
    end = time.monotonic() + attack_seconds
    slowest = 0.0

    def attack(number: int) -> None:
        with private_channel(server) as channel:
            for i in range(MOST_CALLS // 8):
                if time.monotonic() > end:
                    return
                method, request = requests[(i + number) % len(requests)]
                call(channel, method, request)

    with watch(server) as seen, ThreadPoolExecutor(8) as pool, private_channel(server) as other:
        running = [pool.submit(attack, number) for number in range(8)]
        while time.monotonic() < end:
            begin = time.monotonic()
            assert call(other, "Describe", b"") is grpc.StatusCode.OK
            slowest = max(slowest, time.monotonic() - begin)
            time.sleep(0.05)
        stopped = server.stop()  # with the attack still in progress
        for attacker in running:
            attacker.result()
    print(f"Describe within {slowest:.3f} s, stopped within {stopped:.2f} s; {seen.before >> 20} MB before")
    assert slowest < 2
    assert stopped < 2 + 2


def test_clients_that_leave_take_their_work_along(serve: Serve) -> None:
    server = serve("--log-level", "info")
    method, request = REQUESTS["empty programs"]
    with private_channel(server) as channel:
        call(channel, "Describe", b"")
        before = server.cpu_seconds()
        for i in range(200):
            started = begin(channel, method, request if i % 20 == 0 else b"")
            started.cancel()
        time.sleep(0.5)
        assert server.cpu_seconds() - before < 2
        assert call(channel, "Describe", b"") is grpc.StatusCode.OK
    # A call that was cancelled at once is not a bad request.
    assert server.log().count("carries no request") == 0


def test_a_compressed_bomb(serve: Serve) -> None:
    server = serve()
    bomb = gzip.compress(bytes(1 << 30), 9, mtime=0)
    with watch(server) as seen:
        for method in ("Describe", "Execute"):
            with Peer(server.address) as peer:
                stream = peer.open(method, extra=[("grpc-encoding", "gzip")])
                peer.send_all({stream: b"\x01" + len(bomb).to_bytes(4, "big") + bomb}, 3)
                time.sleep(0.5)
    seen.check(growth=30 << 20)


class Peer:
    """A client that keeps to the rules of HTTP/2, its windows above all, but sends any bytes as a call's messages."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)))
        self.state = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.state.initiate_connection()
        self.ended: set[int] = set()  # streams that the server has ended
        self.flush()

    def flush(self) -> None:
        self.socket.settimeout(5)
        self.socket.sendall(self.state.data_to_send())

    def open(self, method: str, token: str | None = None, extra: Iterable[tuple[str, str]] = ()) -> int:
        stream: int = self.state.get_next_available_stream_id()
        self.state.send_headers(stream, call_headers(SERVICE + method, token, extra))
        self.flush()
        return stream

    def receive(self, seconds: float) -> None:
        self.socket.settimeout(seconds)
        with suppress(TimeoutError):
            data = self.socket.recv(1 << 20)
            if not data:
                raise ConnectionError("the server closed the connection")
            for event in self.state.receive_data(data):
                if isinstance(event, StreamEnded | StreamReset):
                    assert event.stream_id is not None
                    self.ended.add(event.stream_id)
        self.flush()

    def send_all(self, messages: dict[int, bytes], seconds: float) -> int:
        """Sends messages as far as the server lets it, and leaves the streams open. Returns how many bytes went."""
        left = dict(messages)
        end = time.monotonic() + seconds
        sent = 0
        try:
            while left and time.monotonic() < end:
                progress = False
                for stream in list(left):
                    if stream in self.ended:
                        del left[stream]
                        continue
                    room = min(self.state.local_flow_control_window(stream), self.state.max_outbound_frame_size)
                    if room <= 0:
                        continue
                    part, left[stream] = left[stream][:room], left[stream][room:]
                    if not left[stream]:
                        del left[stream]
                    self.state.send_data(stream, part)
                    sent += len(part)
                    progress = True
                self.flush()
                self.receive(0.001 if progress else 0.05)
        except (OSError, ProtocolError):
            pass
        return sent

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def half_a_request(size: int) -> bytes:
    """A message without its end."""
    return b"\0" + size.to_bytes(4, "big") + bytes(size - 1000)


@pytest.mark.parametrize("method", ["Execute", "Stream", "Describe"])
@pytest.mark.parametrize("token", [None, "wrong"])
def test_unfinished_requests_without_token(serve: Serve, method: str, token: str | None) -> None:
    server = serve(token=True)
    with watch(server) as seen, Peer(server.address) as peer:
        half = half_a_request(15 << 20)
        sent = peer.send_all({peer.open(method, token): half for _ in range(60)}, 3)
        time.sleep(0.2)
    print(f"{sent >> 20} MB sent; {seen.summary()}")
    seen.check(growth=40 << 20)


@pytest.mark.parametrize(
    ("method", "size", "most"), [("Execute", 16 << 20, 120), ("Stream", 2 << 20, 120), ("Describe", 2 << 20, 80)]
)
def test_unfinished_requests(serve: Serve, method: str, size: int, most: int) -> None:
    server = serve("--request-timeout", "4", token=True)
    with watch(server) as seen, ExitStack() as stack:
        peers = [stack.enter_context(Peer(server.address)) for _ in range(3)]
        half = half_a_request(size)
        with ThreadPoolExecutor(len(peers)) as pool:
            calls = [{peer.open(method, TOKEN): half for _ in range(80)} for peer in peers]
            sent = sum(pool.map(lambda peer, messages: peer.send_all(messages, 3), peers, calls))
    print(f"{sent >> 20} MB sent; {seen.summary()}")
    seen.check(growth=most << 20)


def test_a_request_that_does_not_arrive_is_given_up(serve: Serve) -> None:
    server = serve("--request-timeout", "1", "--max-streams", "4")
    with Peer(server.address) as peer:
        streams = {peer.open("Stream") for _ in range(4)}
        peer.receive(0.5)
        time.sleep(0.3)  # until the server has seen them
        with private_channel(server) as channel:
            assert call(channel, "Stream", b"") is grpc.StatusCode.UNAVAILABLE
            end = time.monotonic() + 10
            while peer.ended < streams and time.monotonic() < end:
                peer.receive(0.1)
            assert peer.ended == streams
            assert call(channel, "Stream", b"") is grpc.StatusCode.INVALID_ARGUMENT
    assert server.log().count("DEADLINE_EXCEEDED: the request did not arrive within 1 seconds") == 4
